//! Backups: a store opened on one holds what was there when it was asked for, whatever was written meanwhile.

use std::path::Path;

use super::*;

type Contents = Vec<(String, Vec<(i64, u64)>)>;

async fn restored(to: &Path) -> (Contents, EmbeddedStore) {
    assert_eq!(verify(to).unwrap().damages, []);
    let store = EmbeddedStore::open(EmbeddedConfig { path: to.to_owned(), ..EmbeddedConfig::default() }).unwrap();
    (contents(&store).await, store)
}

/// Whether every sample of `part` is in `whole`.
fn is_within(part: &Contents, whole: &Contents) -> bool {
    let whole: std::collections::HashMap<_, _> = whole.iter().cloned().collect();
    part.iter().all(|(labels, points)| points.iter().all(|point| whole.get(labels).is_some_and(|w| w.contains(point))))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_taken_under_ingest_holds_all_that_was_acknowledged_before_and_can_be_gone_on_with() {
    let (dir, backups) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = Arc::new(open(&eager(&dir)));
    let writing = store.clone();
    let writer = tokio::spawn(async move {
        for round in 0..600 {
            append(&*writing, &scrape(round, 30)).await;
        }
    });
    for taken in 0..8 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let to = backups.path().join(taken.to_string());
        let before = contents(&*store).await;
        let backup = store.backup(&to).await.unwrap();
        let after = contents(&*store).await;
        let (held, again) = restored(&to).await;
        assert!(is_within(&before, &held) && is_within(&held, &after), "backup {taken}");
        // a block that was merged away meanwhile has no name any more to be linked by
        assert!((1..=backup.files).contains(&backup.linked), "{backup:?}");
        assert_eq!(append(&again, &scrape(10_000, 30)).await.written, 30);
    }
    writer.await.unwrap();
    let (told, samples) = (contents(&*store).await, store.stats().await.unwrap().samples);
    assert_eq!(samples, 600 * 30, "writing to restored stores leaves the first alone");
    drop(store);
    assert_eq!(contents(&open(&eager(&dir))).await, told);
}

#[tokio::test]
async fn a_backup_without_the_process_is_the_same_and_a_store_in_use_is_refused() {
    let (dir, backups) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open(&eager(&dir));
    for round in 0..60 {
        append(&store, &scrape(round, 30)).await;
    }
    let to = backups.path().join("one");
    assert!(matches!(backup(dir.path(), &to), Err(BackupError::Store(_))));
    let told = contents(&store).await;
    drop(store);
    let state = dir.path().join("state/deeper");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::write(state.join("words"), "kept by others").unwrap();
    backup(dir.path(), &to).unwrap();
    assert_eq!(std::fs::read_to_string(to.join("state/deeper/words")).unwrap(), "kept by others");
    assert_eq!(restored(&to).await.0, told);
    assert!(matches!(backup(dir.path(), &to), Err(BackupError::NotEmpty { .. })));
}

#[tokio::test]
async fn across_file_systems_files_are_copied() {
    let (dir, backups) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = EmbeddedStore::open_on(eager(&dir), Arc::new(faults::Unlinkable)).unwrap();
    for round in 0..60 {
        append(&store, &scrape(round, 30)).await;
    }
    let to = backups.path().join("one");
    let backup = store.backup(&to).await.unwrap();
    assert_eq!(backup.linked, 0);
    assert_eq!(restored(&to).await.0, contents(&store).await);
}
