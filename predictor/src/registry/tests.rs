use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::book::Action;
use super::manifest::{Kind, Parameters};
use super::storage::Folder;
use super::*;

const WEIGHTS: &[u8] = include_bytes!("../../../models/pretrained/lstm.safetensors");

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn by_ann(kind: Kind) -> Manifest {
    Manifest { author: "ann".to_owned(), ..Manifest::new(kind) }
}

fn over(folder: &Path) -> Registry {
    Registry::new(Arc::new(Folder(folder.to_owned())), Trust::default())
}

async fn reopened(folder: &Path) -> Registry {
    let registry = over(folder);
    registry.refresh().await.unwrap();
    registry
}

/// A registry with an LSTM and an ARIMA of the workload `a/b`, the LSTM champion.
async fn begun() -> (tempfile::TempDir, Registry) {
    let folder = tempfile::tempdir().unwrap();
    let registry = over(folder.path());
    registry.register("a/b", by_ann(Kind::Lstm), Some(WEIGHTS.to_vec()), at(1)).await.unwrap();
    registry.register("a/b", by_ann(Kind::Arima), None, at(2)).await.unwrap();
    registry.carry_out("a/b", Order::Promote(1), "ann", "better", at(3)).await.unwrap();
    (folder, registry)
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path, ending)),
            false if path.to_string_lossy().ends_with(ending) => found.push(path),
            false => {}
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn what_was_registered_and_promoted_stands_after_a_restart() {
    let (folder, registry) = begun().await;
    let again = reopened(folder.path()).await;
    assert_eq!(again.standing("a/b"), registry.standing("a/b"));
    let standing = again.standing("a/b");
    assert_eq!((standing.champion.version, standing.champion.kind, standing.champion.since), (1, "lstm", Some(at(3))));
    let challengers: Vec<u64> = standing.challengers.iter().map(|place| place.version).collect();
    assert_eq!(challengers, [2, 0]);
    let lineup = again.lineup("a/b", 3);
    assert!(lineup.champion.network.is_some());
    let shadows: Vec<u64> = lineup.shadows.iter().map(|model| model.manifest.version).collect();
    assert_eq!(shadows, [0, 2], "the predecessor on probation first");
    assert_eq!(again.weights("a/b", 1).await.unwrap(), WEIGHTS);
    assert_eq!(again.verify("a/b").await.unwrap(), 2);
    let actions: Vec<Action> = again.audit("a/b").iter().map(|entry| entry.action).collect();
    assert_eq!(actions, [Action::Register, Action::Register, Action::Promote]);
}

#[tokio::test]
async fn every_bad_artefact_is_refused_with_its_reason_and_nothing_changes() {
    let (folder, registry) = begun().await;
    let before = (registry.standing("a/b"), files(folder.path(), ""));
    let flipped = |at: usize| {
        let mut bytes = WEIGHTS.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let nan = {
        let mut bytes = WEIGHTS.to_vec();
        let last = bytes.len() - 4;
        bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
        bytes
    };
    let summed = |bytes: &[u8]| Manifest { sha256: Some(sha256(bytes)), ..by_ann(Kind::Lstm) };
    let text = String::from_utf8_lossy(&WEIGHTS[..2000]).replace("recurrent.state", "recurrent.stake");
    let misnamed = [&text.as_bytes()[..text.find('}').unwrap_or(0)], &WEIGHTS[2000..]].concat();
    let lstm = by_ann(Kind::Lstm);
    let cases: Vec<(Manifest, Option<Vec<u8>>, &str)> = vec![
        (lstm.clone(), Some(WEIGHTS[..WEIGHTS.len() / 2].to_vec()), "not in the safetensors format"),
        (summed(WEIGHTS), Some(flipped(WEIGHTS.len() - 10)), "do not match sha256"),
        (lstm.clone(), Some(flipped(0)), "not in the safetensors format"),
        (lstm.clone(), Some(nan), "a value that is not finite"),
        (lstm.clone(), Some(misnamed), "no network that this version can run"),
        (lstm.clone(), Some(b"\x80\x04\x95pickled".to_vec()), "Python pickle"),
        (lstm.clone(), Some(b"PK\x03\x04archive".to_vec()), "Python pickle"),
        (lstm.clone(), Some(vec![0; MOST_WEIGHTS + 1]), "never read"),
        (lstm.clone(), None, "needs weights"),
        (by_ann(Kind::Arima), Some(WEIGHTS.to_vec()), "has no weights"),
        (Manifest { schema: 2, ..lstm.clone() }, Some(WEIGHTS.to_vec()), "schema 2"),
        (Manifest { author: " ".to_owned(), ..lstm.clone() }, Some(WEIGHTS.to_vec()), "author"),
        (Manifest { workload: "other".to_owned(), ..lstm.clone() }, Some(WEIGHTS.to_vec()), "workload"),
        (Manifest { parent: Some(9), ..lstm }, Some(WEIGHTS.to_vec()), "there is no version 9"),
    ];
    for (manifest, weights, why) in cases {
        let refused = registry.register("a/b", manifest, weights, at(9)).await.unwrap_err();
        assert!(chain(&refused).contains(why), "{why}: {}", chain(&refused));
    }
    assert_eq!((registry.standing("a/b"), files(folder.path(), "")), before);
}

#[tokio::test]
async fn a_champion_whose_file_was_tampered_with_gives_way_and_cannot_be_promoted() {
    let (folder, registry) = begun().await;
    registry.carry_out("a/b", Order::Promote(2), "ann", "", at(4)).await.unwrap();
    let weights = files(folder.path(), ".safetensors");
    let mut bytes = std::fs::read(&weights[0]).unwrap();
    bytes[WEIGHTS.len() / 2] ^= 4;
    std::fs::write(&weights[0], bytes).unwrap();
    let error = registry.carry_out("a/b", Order::Promote(1), "ann", "", at(5)).await.unwrap_err();
    assert!(chain(&error).contains("do not match sha256"), "{}", chain(&error));
    assert_eq!(registry.standing("a/b").champion.version, 2);
    assert!(registry.verify("a/b").await.is_err());
    let again = reopened(folder.path()).await;
    assert_eq!(again.lineup("a/b", 3).champion.manifest.version, 2);
    registry.carry_out("a/b", Order::RollBack, "ann", "", at(6)).await.unwrap();
    assert_eq!(reopened(folder.path()).await.lineup("a/b", 3).champion.manifest.version, 0);
}

#[tokio::test]
async fn a_changed_log_is_seen_and_what_stood_before_it_holds() {
    let (folder, _) = begun().await;
    let log = files(&folder.path().join("a%2Fb/log"), ".json");
    let text = std::fs::read_to_string(&log[1]).unwrap();
    std::fs::write(&log[1], text.replace("ann", "bob")).unwrap();
    let again = reopened(folder.path()).await;
    assert_eq!(again.audit("a/b").len(), 2, "the entry after the changed one does not follow from it");
    assert_eq!(again.standing("a/b").champion.version, 0);
    let refused = again.carry_out("a/b", Order::Promote(1), "ann", "", at(9)).await.unwrap_err();
    assert!(chain(&refused).contains("entry 3 does not continue the log"), "{}", chain(&refused));
}

#[tokio::test]
async fn what_died_before_its_entry_was_written_does_not_count() {
    let (folder, registry) = begun().await;
    let stray = folder.path().join("a%2Fb/log/.new-x");
    std::fs::write(&stray, b"{\"at\": 1").unwrap();
    std::fs::write(folder.path().join("a%2Fb/weights").join("0".repeat(64)), b"half").unwrap();
    assert_eq!(reopened(folder.path()).await.standing("a/b"), registry.standing("a/b"));
    let other = reopened(folder.path()).await;
    let (one, two) = tokio::join!(
        registry.register("a/b", by_ann(Kind::Arima), None, at(7)),
        other.register("a/b", by_ann(Kind::Automatic), None, at(7))
    );
    let versions: Vec<u64> = [one, two].into_iter().filter_map(|done| done.ok()).map(|m| m.version).collect();
    assert!(!versions.is_empty() && versions.iter().all(|v| *v >= 3), "{versions:?}");
    let again = reopened(folder.path()).await;
    assert_eq!(again.audit("a/b").len(), 3 + versions.len(), "each success is one entry, and none is lost");
    assert!(again.verify("a/b").await.is_ok());
}

#[tokio::test]
async fn pinned_retired_and_missing_models_are_left_alone_with_the_reason() {
    let (_folder, registry) = begun().await;
    let order = async |order| match registry.carry_out("a/b", order, "ann", "", at(9)).await {
        Ok(standing) => format!("{} {}", standing.champion.version, standing.pinned),
        Err(error) => chain(&error),
    };
    assert_eq!(order(Order::Pin(1)).await, "1 true");
    assert!(order(Order::Promote(2)).await.ends_with("version 1 is pinned; unpin it first"));
    assert!(order(Order::RollBack).await.ends_with("version 1 is pinned; unpin it first"));
    assert!(order(Order::Pin(2)).await.contains("not the champion"));
    assert_eq!(order(Order::Unpin(1)).await, "1 false");
    assert_eq!(order(Order::Retire(2)).await, "1 false");
    assert!(order(Order::Promote(2)).await.contains("is retired"));
    assert!(order(Order::Promote(7)).await.contains("there is no version 7"));
    assert!(order(Order::Retire(1)).await.contains("is the champion"));
    assert_eq!(order(Order::RollBack).await, "0 false");
    assert!(order(Order::RollBack).await.contains("no predecessor"));
    let before = registry.audit("a/b").len();
    assert_eq!(order(Order::Promote(0)).await, "0 false");
    assert_eq!(registry.audit("a/b").len(), before, "what stands so already is not written again");
}

#[test]
fn every_name_of_a_workload_is_a_folder_of_its_own() {
    for name in ["checkout", "a/b", "..", ".", "ü % ", "a%2Fb", "A:b\\c\n"] {
        let folder = encoded(name);
        assert!(!folder.contains(['/', '.', '\\', ' ']), "{folder}");
        assert_eq!(workload_of(&folder).as_deref(), Some(name));
    }
    for folder in ["%", "%2", "%zz", "a b", "%41", "%ff", "%2f"] {
        assert_eq!(workload_of(folder), None, "{folder}");
    }
}

#[test]
fn a_model_forecasts_by_what_its_manifest_says() {
    use bellwether_models::forecast::{ArimaOrders, Kind as Member};
    let method = |kind, parameters| {
        let manifest = Manifest { parameters, ..by_ann(kind) };
        Artefact { manifest, network: None }.method(&Default::default())
    };
    let seasonal = ArimaOrders { ar: 1, seasonal_ma: 1, period: 24, ..ArimaOrders::default() };
    let with_orders = Parameters { orders: Some(seasonal), seasons: Some(vec![24]), ..Parameters::default() };
    let sarima = method(Kind::Arima, with_orders);
    assert_eq!(
        (sarima.kinds, sarima.seasons, sarima.given.orders),
        (vec![Member::Sarima], Some(vec![24]), Some(seasonal))
    );
    assert_eq!(method(Kind::Lstm, Parameters::default()).kinds, [Member::Lstm]);
    let less =
        method(Kind::Automatic, Parameters { leave_out: vec![Member::Lstm, Member::Ets], ..Parameters::default() });
    assert!(
        less.kinds.contains(&Member::Arima)
            && !less.kinds.contains(&Member::Lstm)
            && !less.kinds.contains(&Member::Ets)
    );
}

proptest! {
    #[test]
    fn no_bytes_make_a_model_and_none_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let read = Artefact::read(Manifest { workload: "w".to_owned(), ..by_ann(Kind::Lstm) }, Some(&bytes), &Trust::default());
        prop_assert!(read.is_err());
    }

    #[test]
    fn a_flipped_bit_of_the_weights_is_always_seen(bit in 0..WEIGHTS.len() * 8) {
        let mut bytes = WEIGHTS.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let manifest = Manifest { workload: "w".to_owned(), sha256: Some(sha256(WEIGHTS)), ..by_ann(Kind::Lstm) };
        prop_assert!(Artefact::read(manifest, Some(&bytes), &Trust::default()).is_err());
    }
}
