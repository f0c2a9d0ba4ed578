//! What redb does with damaged files; the figures of 0004-own-journal-and-blocks.md. Not part of the build: put it into an
//! empty cargo project as src/main.rs with the dependencies redb = "=4.4.0" and crc32fast = "1", then `cargo run`.

use std::panic::catch_unwind;
use std::path::Path;

use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};

const CHUNKS: TableDefinition<(u32, u32), &[u8]> = TableDefinition::new("chunks");
const JOURNAL: TableDefinition<u64, &[u8]> = TableDefinition::new("journal");
const SERIES: u32 = 2000;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn row(id: u32, commit: u32) -> Vec<u8> {
    let mut state = (u64::from(id) << 32 | u64::from(commit)) + 1;
    let len = 40 + random(&mut state) % 160;
    let mut bytes: Vec<u8> = (0..len).map(|_| random(&mut state) as u8).collect();
    let crc = crc32fast::hash(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

fn build(path: &Path, commits: u32) -> Outcome<u64> {
    let db = Builder::new().set_cache_size(16 << 20).create(path)?;
    let mut payload = 0;
    for commit in 0..commits {
        let mut transaction = db.begin_write()?;
        transaction.set_quick_repair(true);
        let mut table = transaction.open_table(CHUNKS)?;
        for id in 0..SERIES {
            let row = row(id, commit);
            payload += row.len() as u64;
            table.insert((commit, id), row.as_slice())?;
        }
        drop(table);
        transaction.commit()?;
    }
    Ok(payload)
}

fn flipped(bytes: &[u8], state: &mut u64) -> Vec<u8> {
    let mut copy = bytes.to_vec();
    let at = (random(state) % copy.len() as u64) as usize;
    copy[at] ^= 1 << (random(state) % 8);
    copy
}

fn journal_rows(path: &Path) -> Outcome<usize> {
    let table = Database::open(path)?.begin_read()?.open_table(JOURNAL)?;
    Ok(table.iter()?.filter(|row| row.is_ok()).count())
}

/// Rows that are missing, and rows that are there with other bytes.
fn compare(path: &Path, commits: u32) -> Outcome<(u32, u32)> {
    let table = Database::open(path)?.begin_read()?.open_table(CHUNKS)?;
    let (mut missing, mut wrong) = (0, 0);
    for (commit, id) in (0..commits).flat_map(|commit| (0..SERIES).map(move |id| (commit, id))) {
        match table.get((commit, id))? {
            None => missing += 1,
            Some(found) => wrong += u32::from(found.value() != row(id, commit).as_slice()),
        }
    }
    Ok((missing, wrong))
}

fn main() -> Outcome<()> {
    let dir = std::env::temp_dir().join(format!("redb-probe-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let (one, copy) = (dir.join("one.redb"), dir.join("copy.redb"));
    std::panic::set_hook(Box::new(|_| {}));
    let mut state = 99;

    let payload = build(&one, 24)?;
    println!("{payload} bytes of rows, {} bytes on disk", one.metadata()?.len());

    let journal = dir.join("journal.redb");
    let db = Database::create(&journal)?;
    for i in 0..500 {
        let transaction = db.begin_write()?;
        transaction.open_table(JOURNAL)?.insert(i, [7u8; 24_000].as_slice())?;
        transaction.commit()?;
    }
    let bytes = std::fs::read(&journal)?; // while it is open, as a crash would leave it
    let (mut whole, mut refused, mut panicked, mut short) = (0, 0, 0, 0);
    for _ in 0..300 {
        std::fs::write(&copy, flipped(&bytes, &mut state))?;
        match catch_unwind(|| journal_rows(&copy)) {
            Err(_) => panicked += 1,
            Ok(Err(_)) => refused += 1,
            Ok(Ok(500)) => whole += 1,
            Ok(Ok(_)) => short += 1,
        }
    }
    println!("journal, bit flipped: all rows {whole}, refused {refused}, panicked {panicked}, rows missing {short}");

    let two = dir.join("two.redb");
    build(&two, 6)?;
    let bytes = std::fs::read(&two)?;
    let (mut whole, mut refused, mut panicked, mut told, mut silent) = (0, 0, 0, 0, 0);
    for _ in 0..300 {
        std::fs::write(&copy, flipped(&bytes, &mut state))?;
        match catch_unwind(|| compare(&copy, 6)) {
            Err(_) => panicked += 1,
            Ok(Err(_)) => refused += 1,
            Ok(Ok((0, 0))) => whole += 1,
            Ok(Ok((0, _))) => told += 1,
            Ok(Ok(_)) => silent += 1,
        }
    }
    println!("closed, bit flipped: whole {whole}, a row's CRC tells {told}, refused {refused}, panicked {panicked}, rows missing {silent}");

    let mut refused = 0;
    for _ in 0..200 {
        std::fs::write(&copy, &bytes[..(random(&mut state) % bytes.len() as u64) as usize])?;
        refused += u32::from(!matches!(catch_unwind(|| compare(&copy, 6)), Ok(Ok(_))));
    }
    println!("closed, cut off: refused {refused} of 200");
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
