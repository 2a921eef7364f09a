use std::io::Write;

use super::*;
use crate::hidden_name::{hidden_replaced, shown};
use crate::{AtomicFile, StagedFolder};

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> = entries.map(|entry| name_of(&entry.expect("an entry").path())).collect();
    names.sort();
    names
}

/// A hidden file as a killed process leaves it: it is there, and nobody holds its lock.
fn leave(path: &Path) -> PathBuf {
    let (file, temporary) = create_file(path).expect("a file");
    drop(file);
    temporary
}

#[test]
fn a_name_is_known_again_and_never_repeated() {
    let first = hidden("out.jsonl");
    assert_ne!(first, hidden("out.jsonl"));
    assert_eq!(Hidden::parse(&first), Some(Hidden { name: "out.jsonl", is_old: false }));
    assert_eq!(Hidden::parse(".out.jsonl.4711.tmp"), Some(Hidden { name: "out.jsonl", is_old: true }));
    let replaced = hidden_replaced("checkpoint-3");
    assert_eq!(Hidden::parse(&replaced).and_then(|hidden| hidden.replaced()), Some("checkpoint-3"));
    for other in [".notes.tmp", "out.jsonl", ".out.jsonl.draft.tmp", ".a.12345678901.tmp", "..1.tmp", ".1.tmp"] {
        assert_eq!(Hidden::parse(other), None, "{other}");
    }
}

#[test]
fn an_error_names_what_was_to_appear() {
    let path = Path::new("run").join(hidden("checkpoint-2")).join("model.safetensors");
    let error = WriteError::at(&path)(io::Error::other("full")).to_string();
    assert_eq!(error, "run/checkpoint-2/model.safetensors: cannot be written: full");
    assert_eq!(shown(Path::new("./.lock/a")), Path::new("./.lock/a"));
}

#[test]
fn the_longest_names_have_a_hidden_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ä".repeat(127));
    crate::write_atomically(&path, b"text").expect("a file");
    assert_eq!(fs::read(&path).expect("a file"), b"text");
}

#[test]
fn what_the_dead_left_goes_and_what_the_living_write_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("out.jsonl");
    let dead = leave(&output);
    let mut living = AtomicFile::create(&output).expect("a file");
    living.write_all(b"rows").expect("bytes");
    let staged = StagedFolder::create(&folder.path().join("model")).expect("a folder");
    // As after a kill: `drop` never removes it, but the lock is gone.
    let (lock, dead_folder) = create_folder(&folder.path().join("model")).expect("a folder");
    drop(lock);
    fs::write(dead_folder.join("file"), "half").expect("a file");
    for name in [".notes.tmp", ".out.jsonl.1.tmp", "plain"] {
        fs::write(folder.path().join(name), "kept").expect("a file");
    }
    remove_leftovers_beside(&output);
    assert!(!dead.exists() && staged.staging().is_dir());
    assert_eq!(dead_folder.exists(), cfg!(not(unix)));
    assert!(
        folder.path().join(".out.jsonl.1.tmp").exists(),
        "nobody holds the lock of a folder that anybody writes to"
    );
    living.commit().expect("a file");
    assert_eq!(fs::read(&output).expect("rows"), b"rows");
    remove_leftovers(folder.path()).expect("a clean folder");
    drop(staged);
    #[cfg(unix)]
    assert_eq!(names(folder.path()), [".notes.tmp", "out.jsonl", "plain"]);
}

/// Links and pipes of such names are somebody else's: nothing of ours is created so.
#[cfg(unix)]
#[test]
fn a_link_under_a_hidden_name_is_neither_followed_nor_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let victim = folder.path().join("victim");
    fs::write(&victim, "precious").expect("a file");
    let link = folder.path().join(hidden("out.jsonl"));
    std::os::unix::fs::symlink(&victim, &link).expect("a link");
    let old = folder.path().join(format!(".out.jsonl.{}.tmp", std::process::id()));
    std::os::unix::fs::symlink(&victim, &old).expect("a link");
    remove_leftovers(folder.path()).expect("a folder");
    crate::write_atomically(&folder.path().join("out.jsonl"), b"rows").expect("a file");
    assert_eq!(fs::read(&victim).expect("a file"), b"precious");
    assert!(is_there(&link) && is_there(&old));
}

#[test]
fn many_writers_of_one_file_never_mix_and_leave_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("out.jsonl");
    std::thread::scope(|scope| {
        for writer in 0..4u8 {
            let output = &output;
            scope.spawn(move || {
                for _ in 0..50 {
                    remove_leftovers_beside(output);
                    crate::write_atomically(output, &vec![b'a' + writer; 10_000 + usize::from(writer)])
                        .expect("a file");
                }
            });
        }
    });
    let bytes = fs::read(&output).expect("a file");
    assert!(bytes.iter().all(|byte| *byte == bytes[0]) && bytes.len() == 10_000 + usize::from(bytes[0] - b'a'));
    assert_eq!(names(folder.path()), ["out.jsonl"]);
}

#[test]
fn a_folder_whose_replacement_was_interrupted_comes_back() {
    let around = tempfile::tempdir().expect("a temporary folder");
    let path = around.path().join("checkpoint-3");
    fs::create_dir(&path).expect("a folder");
    fs::write(path.join("file"), "old").expect("a file");
    // Killed between the two renames.
    let old = around.path().join(hidden_replaced("checkpoint-3"));
    fs::rename(&path, &old).expect("a rename");
    remove_leftovers(around.path()).expect("a folder");
    recover_folders(around.path()).expect("a folder");
    let text = || fs::read_to_string(path.join("file")).ok();
    assert_eq!(text().as_deref(), Some("old"));
    // Killed after the second: the new folder is already there.
    fs::create_dir(&old).expect("a folder");
    recover_folders(around.path()).expect("a folder");
    assert_eq!(text().as_deref(), Some("old"));
    assert!(old.is_dir());
    recover_folders(&around.path().join("nowhere")).expect("nothing to do");
}
