//! Files that cannot be written, and files that several processes write.

use std::fs;

use blake3::Hash;
use tempfile::TempDir;

use crate::{KERNEL_VERSION, LogpStore, ResponseKey, Scorer};

/// The id of a scorer with a fake hash.
fn scorer() -> Hash {
    let scorer = Scorer {
        matmul_precision: "highest",
        model: Hash::from_bytes([1; 32]),
        adapter: None,
        dtype: "float32",
        quantization: None,
        backend: "flex",
        share_prompt: true,
        kernel_version: KERNEL_VERSION,
    };
    scorer.id()
}

/// What a store knows of these keys.
fn known<const N: usize>(store: &mut LogpStore, keys: [ResponseKey; N]) -> [Option<f64>; N] {
    store.load(keys.into_iter()).expect("keys");
    keys.map(|key| store.get(key))
}

#[test]
fn without_a_writable_folder_the_run_continues_with_one_note() {
    let folder = TempDir::new().expect("a folder");
    let taken = folder.path().join("file");
    fs::write(&taken, "not a folder").expect("a file");
    let (mut store, note) = LogpStore::open(&taken, scorer());
    assert!(note.is_some_and(|note| note.contains("for this run only")));
    assert_eq!(store.insert([(ResponseKey([1; 16]), -1.0)].into_iter()).expect("room"), None);
    assert_eq!(store.get(ResponseKey([1; 16])), Some(-1.0));
    assert_eq!(known(&mut store, [1, 2].map(|key| ResponseKey([key; 16]))), [Some(-1.0), None]);
}

#[test]
fn a_folder_lost_during_a_run_is_reported_once() {
    let folder = TempDir::new().expect("a folder");
    let (mut store, _) = LogpStore::open(&folder.path().join("cache"), scorer());
    fs::remove_dir(folder.path().join("cache")).expect("a removed folder");
    let mut insert = |key: u8| store.insert([(ResponseKey([key; 16]), -1.0)].into_iter()).expect("room");
    assert!(insert(1).is_some_and(|note| note.contains("for this run only")));
    assert_eq!(insert(2), None);
    assert_eq!(known(&mut store, [1, 2].map(|key| ResponseKey([key; 16]))), [Some(-1.0); 2]);
}

#[test]
fn a_number_that_is_not_finite_is_not_written() {
    let folder = TempDir::new().expect("a folder");
    let (mut store, _) = LogpStore::open(folder.path(), scorer());
    let logps = [(ResponseKey([1; 16]), f64::NAN), (ResponseKey([2; 16]), -2.0)];
    assert_eq!(store.insert(logps.into_iter()).expect("room"), None);
    let own = known(&mut store, [1, 2].map(|key| ResponseKey([key; 16])));
    assert!(own[0].is_some_and(f64::is_nan) && own[1] == Some(-2.0), "this run knows both: {own:?}");
    let (mut store, note) = LogpStore::open(folder.path(), scorer());
    assert_eq!(note, None);
    assert_eq!(known(&mut store, [1, 2].map(|key| ResponseKey([key; 16]))), [None, Some(-2.0)]);
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
                    assert_eq!(store.insert(logps).expect("room"), None);
                }
            });
        }
    });
    let (mut store, note) = LogpStore::open(folder.path(), id);
    assert_eq!(note, None);
    let all = (0..writers).flat_map(|writer| (0..appends).map(move |number| (writer, number)));
    store.load(all.flat_map(|(writer, number)| (0..records).map(move |i| many_key(writer, number, i)))).expect("keys");
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

/// Bytes that are in a file but not in memory.
#[test]
fn only_what_is_asked_for_is_held() {
    let folder = TempDir::new().expect("a folder");
    let key = |number: u32| {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&number.to_le_bytes());
        ResponseKey(key)
    };
    let (mut store, _) = LogpStore::open(folder.path(), scorer());
    let all = (0..5000).map(|number| (key(number), -f64::from(number)));
    assert_eq!(store.insert(all).expect("room"), None);
    // A later number of a key does not count.
    let (mut again, _) = LogpStore::open(folder.path(), scorer());
    assert_eq!(again.insert([(key(7), -1e6)].into_iter()).expect("room"), None);
    assert_eq!(known(&mut store, [7, 4999, 5000].map(key)), [Some(-7.0), Some(-4999.0), None]);
    assert_eq!(store.get(key(8)), None, "it was not asked for");
}

/// Damage anywhere, also where pieces that are read meet.
#[test]
fn damaged_records_are_removed_and_the_others_stay() {
    let folder = TempDir::new().expect("a folder");
    let key = |number: u32| {
        let mut key = [1; 16];
        key[..4].copy_from_slice(&number.to_le_bytes());
        ResponseKey(key)
    };
    let (mut store, _) = LogpStore::open(folder.path(), scorer());
    let all = (0..5000).map(|number| (key(number), -f64::from(number)));
    assert_eq!(store.insert(all).expect("room"), None);
    let path = store.path().expect("a file").to_owned();
    let mut bytes = fs::read(&path).expect("a file");
    let broken = [0, 1023, 1024, 2047, 3000, 4999];
    broken.iter().for_each(|number| bytes[32 * number + 17] ^= 4);
    fs::write(&path, &bytes[..bytes.len()]).expect("a file");
    let (mut store, note) = LogpStore::open(folder.path(), scorer());
    assert!(note.is_some_and(|note| note.contains("damaged")));
    assert_eq!(fs::metadata(&path).expect("a file").len(), 32 * (5000 - broken.len() as u64));
    store.load((0..5000).map(key)).expect("keys");
    let lost: Vec<usize> = (0..5000).filter(|number| store.get(key(*number as u32)).is_none()).collect();
    assert_eq!(lost, broken);
}

/// A sparse file is given up after its first records, and what stood before them stays.
#[test]
fn a_hole_is_not_read_to_its_end() {
    let folder = TempDir::new().expect("a folder");
    let keys = [1, 2, 3].map(|key| ResponseKey([key; 16]));
    let (mut store, _) = LogpStore::open(folder.path(), scorer());
    let path = store.path().expect("a file").to_owned();
    assert_eq!(store.insert([(keys[0], -1.0), (keys[1], -2.0)].into_iter()).expect("room"), None);
    let sparse = 3 << 40;
    fs::File::options().write(true).open(&path).and_then(|file| file.set_len(sparse)).expect("a hole");
    let begun = std::time::Instant::now();
    let (mut store, note) = LogpStore::open(folder.path(), scorer());
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(note.is_some_and(|note| note.contains("damaged records of ")));
    assert_eq!(known(&mut store, keys), [Some(-1.0), Some(-2.0), None]);
    assert_eq!(fs::metadata(&path).expect("a file").len(), 64);
    assert_eq!(LogpStore::open(folder.path(), scorer()).1, None);
}

/// Nothing but a plain file is read or written, and nothing is waited for.
#[cfg(unix)]
#[test]
fn what_is_no_plain_file_is_left_alone() {
    use std::os::unix::fs::symlink;

    for kind in ["link", "dangling", "endless", "folder", "pipe", "circle"] {
        let folder = TempDir::new().expect("a folder");
        let (store, _) = LogpStore::open(folder.path(), scorer());
        let path = store.path().expect("a file").to_owned();
        let precious = folder.path().join("precious");
        fs::write(&precious, "precious").expect("a file");
        match kind {
            "link" => symlink(&precious, &path).expect("a link"),
            "dangling" => symlink(folder.path().join("nowhere"), &path).expect("a link"),
            "endless" => symlink("/dev/zero", &path).expect("a link"),
            "folder" => fs::create_dir(&path).expect("a folder"),
            "circle" => symlink(&path, &path).expect("a link"),
            _ => assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo").success()),
        }
        let key = ResponseKey([7; 16]);
        let (mut store, note) = LogpStore::open(folder.path(), scorer());
        let note = note.unwrap_or_else(|| panic!("{kind}: no note"));
        assert!(note.contains(".logps: ") && note.contains("are kept for this run only"), "{kind}: {note}");
        assert_eq!(store.insert([(key, -1.0)].into_iter()).expect("room"), None, "{kind}");
        assert_eq!(known(&mut store, [key]), [Some(-1.0)], "{kind}");
        assert_eq!(fs::read(&precious).expect("a file"), b"precious", "{kind}");
        assert!(!folder.path().join("nowhere").exists(), "{kind}");
    }
}
