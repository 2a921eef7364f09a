//! Files that cannot be written, and files that several processes write.

use std::fs;

use blake3::Hash;
use tempfile::TempDir;

use crate::{KERNEL_VERSION, LogpStore, ResponseKey, Scorer};

/// The id of a scorer with a fake hash.
fn scorer() -> Hash {
    let scorer = Scorer {
        model: Hash::from_bytes([1; 32]),
        adapter: None,
        dtype: "float32",
        backend: "flex",
        share_prompt: true,
        kernel_version: KERNEL_VERSION,
    };
    scorer.id()
}

#[test]
fn without_a_writable_folder_the_run_continues_with_one_note() {
    let folder = TempDir::new().expect("a folder");
    let taken = folder.path().join("file");
    fs::write(&taken, "not a folder").expect("a file");
    let (mut store, note) = LogpStore::open(&taken, scorer());
    assert!(note.is_some_and(|note| note.contains("for this run only")));
    assert_eq!(store.insert([(ResponseKey([1; 16]), -1.0)].into_iter()), None);
    assert_eq!(store.get(ResponseKey([1; 16])), Some(-1.0));
}

#[test]
fn a_folder_lost_during_a_run_is_reported_once() {
    let folder = TempDir::new().expect("a folder");
    let (mut store, _) = LogpStore::open(&folder.path().join("cache"), scorer());
    fs::remove_dir(folder.path().join("cache")).expect("a removed folder");
    let mut insert = |key: u8| store.insert([(ResponseKey([key; 16]), -1.0)].into_iter());
    assert!(insert(1).is_some_and(|note| note.contains("for this run only")));
    assert_eq!(insert(2), None);
    assert_eq!([1, 2].map(|key| store.get(ResponseKey([key; 16]))), [Some(-1.0); 2]);
}

#[test]
fn a_number_that_is_not_finite_is_not_written() {
    let folder = TempDir::new().expect("a folder");
    let (mut store, _) = LogpStore::open(folder.path(), scorer());
    store.insert([(ResponseKey([1; 16]), f64::NAN), (ResponseKey([2; 16]), -2.0)].into_iter());
    let (store, note) = LogpStore::open(folder.path(), scorer());
    assert_eq!(note, None);
    assert_eq!([1, 2].map(|key| store.get(ResponseKey([key; 16]))), [None, Some(-2.0)]);
}

#[test]
fn concurrent_writers_lose_and_break_nothing() {
    let folder = TempDir::new().expect("a folder");
    let id = scorer();
    let (writers, appends, records) = (4_u8, 50_u8, 3_u8);
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let (mut store, _) = LogpStore::open(folder.path(), id);
            scope.spawn(move || {
                for number in 0..appends {
                    let logps = (0..records).map(|i| (many_key(writer, number, i), -f64::from(number)));
                    assert_eq!(store.insert(logps), None);
                }
            });
        }
    });
    let (store, note) = LogpStore::open(folder.path(), id);
    assert_eq!(note, None);
    for (writer, number) in (0..writers).flat_map(|writer| (0..appends).map(move |number| (writer, number))) {
        for i in 0..records {
            assert_eq!(store.get(many_key(writer, number, i)), Some(-f64::from(number)));
        }
    }
}

fn many_key(writer: u8, number: u8, i: u8) -> ResponseKey {
    let mut key = [0; 16];
    key[..3].copy_from_slice(&[writer, number, i]);
    ResponseKey(key)
}
