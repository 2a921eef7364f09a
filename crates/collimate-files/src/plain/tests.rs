use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use rstest::rstest;

use super::*;

/// A folder with a precious file outside of `kept`, and in `kept` everything that is not a plain file, by name.
fn traps() -> (tempfile::TempDir, Vec<PathBuf>) {
    let around = tempfile::tempdir().expect("a folder");
    let kept = around.path().join("kept");
    fs::create_dir(&kept).expect("a folder");
    fs::write(around.path().join("precious"), "precious").expect("a file");
    symlink("../precious", kept.join("link")).expect("a link");
    symlink("../nowhere", kept.join("dangling")).expect("a link");
    symlink("/dev/zero", kept.join("endless")).expect("a link");
    fs::create_dir(kept.join("folder")).expect("a folder");
    let made = Command::new("mkfifo").arg(kept.join("pipe")).status().expect("mkfifo");
    assert!(made.success());
    let names = ["link", "dangling", "endless", "folder", "pipe"];
    (around, names.into_iter().map(|name| kept.join(name)).collect())
}

#[test]
fn nothing_but_a_plain_file_is_opened_and_nothing_waits() {
    let (around, traps) = traps();
    for trap in traps {
        let refused = [
            open_plain(&trap).err(),
            read_plain(&trap, 100).err(),
            append_plain(&trap).err(),
            update_plain(&trap).err(),
            create_plain(&trap).err(),
            check_plain(&trap).err(),
            crate::write_atomically(&trap, b"text").err().map(|error| error.source),
        ];
        assert!(refused.iter().all(Option::is_some), "{}: {refused:?}", trap.display());
    }
    assert_eq!(fs::read(around.path().join("precious")).expect("a file"), b"precious");
    assert!(!around.path().join("nowhere").exists());
}

#[rstest]
#[case("link", LINK)]
#[case("pipe", "it is not a regular file")]
fn the_error_says_what_is_there(#[case] name: &str, #[case] message: &str) {
    let (around, _) = traps();
    let error = append_plain(&around.path().join("kept").join(name)).expect_err("a trap");
    assert_eq!(error.to_string(), message);
}

#[test]
fn a_second_name_is_not_written_through() {
    let (around, _) = traps();
    let (precious, second) = (around.path().join("precious"), around.path().join("kept/second"));
    fs::hard_link(&precious, &second).expect("a link");
    assert!(append_plain(&second).is_err() && update_plain(&second).is_err());
    // A new file takes its place without touching the other name.
    crate::write_atomically(&second, b"new").expect("a file");
    assert_eq!(fs::read(&precious).expect("a file"), b"precious");
    append_plain(&second).expect("the only name").write_all(b"er").expect("bytes");
    assert_eq!(read_plain(&second, 5).expect("text"), "newer");
}

#[test]
fn a_file_is_read_up_to_its_limit() {
    let (around, _) = traps();
    let path = around.path().join("precious");
    assert_eq!(read_plain(&path, 8).expect("text"), "precious");
    assert!(read_plain(&path, 7).expect_err("too large").to_string().contains("more than 7 bytes"));
    // A user may name a link, but no device.
    let kept = around.path().join("kept");
    assert_eq!(read_text(&kept.join("link"), 8).expect("text"), "precious");
    assert_eq!(read_bytes(&kept.join("link"), 8).expect("bytes"), b"precious");
    for trap in ["endless", "pipe", "folder", "dangling"] {
        assert!(read_text(&kept.join(trap), 8).is_err() && read_bytes(&kept.join(trap), 8).is_err(), "{trap}");
    }
    // No memory is taken for what is refused.
    let sparse = around.path().join("sparse");
    File::create(&sparse).and_then(|file| file.set_len(1 << 40)).expect("a file");
    assert!(read_bytes(&sparse, 8).expect_err("too large").to_string().contains("more than 8 bytes"));
    fs::write(&sparse, [0xff]).expect("a file");
    assert_eq!(read_text(&sparse, 8).expect_err("no text").to_string(), "it is not UTF-8 text");
}

#[test]
fn a_folder_is_made_but_no_link_to_one_is_taken() {
    let (around, _) = traps();
    let kept = around.path().join("kept");
    plain_folder(&kept.join("new")).expect("a new folder");
    plain_folder(&kept.join("new")).expect("it is there");
    fs::create_dir(around.path().join("out")).expect("a folder");
    symlink("../out", kept.join("events")).expect("a link");
    for name in ["events", "link", "pipe", "dangling"] {
        assert!(plain_folder(&kept.join(name)).is_err(), "{name}");
    }
}
