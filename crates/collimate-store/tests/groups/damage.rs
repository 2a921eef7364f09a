//! Stores that are not what was written.

use std::fs;

use rstest::rstest;

use crate::common::was_found;
use crate::scene::{Scene, everything, stores};

/// A store that is not what was written, whatever happened to it.
#[rstest]
#[case::empty(|bytes: &mut Vec<u8>| bytes.clear())]
#[case::cut_by_one(|bytes: &mut Vec<u8>| _ = bytes.pop())]
#[case::cut_in_half(|bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2))]
#[case::longer(|bytes: &mut Vec<u8>| bytes.push(0))]
#[case::zeros(|bytes: &mut Vec<u8>| bytes.fill(0))]
#[case::not_written_through(|bytes: &mut Vec<u8>| { let half = bytes.len() / 2; bytes[half..half + 512].fill(0) })]
#[case::text(|bytes: &mut Vec<u8>| *bytes = b"not a store".repeat(1000))]
fn what_is_damaged_is_made_again(#[case] damage: fn(&mut Vec<u8>)) {
    let scene = Scene::new(50);
    let expected = scene.expected(&scene.asked());
    scene.asked().prepare(&scene.tokenizer, &scene.stores()).unwrap();
    let path = stores(&scene.cache()).remove(0);
    let sound = fs::read(&path).unwrap();
    let mut bytes = sound.clone();
    damage(&mut bytes);
    fs::write(&path, bytes).unwrap();
    let prepared = scene.asked().prepare(&scene.tokenizer, &scene.stores()).unwrap();
    assert!(!was_found(&prepared) && prepared.notes[0].contains("cannot be used"), "{:?}", prepared.notes);
    assert_eq!(everything(prepared), expected);
    assert_eq!(fs::read(&path).unwrap(), sound, "the same store");
}

/// Every bit of a store counts.
#[test]
fn a_flipped_bit_is_never_read() {
    let scene = Scene::new(4);
    let expected = scene.expected(&scene.asked());
    scene.asked().prepare(&scene.tokenizer, &scene.stores()).unwrap();
    let path = stores(&scene.cache()).remove(0);
    let sound = fs::read(&path).unwrap();
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&path, &bytes).unwrap();
        let prepared = scene.asked().prepare(&scene.tokenizer, &scene.stores()).unwrap();
        assert!(!was_found(&prepared), "byte {at} of {}", sound.len());
        assert_eq!(everything(prepared), expected, "byte {at}");
    }
}

/// The store of other data under this one's name.
#[test]
fn another_store_is_not_taken_for_this_one() {
    let scene = Scene::new(50);
    scene.asked().prepare(&scene.tokenizer, &scene.stores()).unwrap();
    let path = stores(&scene.cache()).remove(0);
    let mut other = scene.asked();
    other.mix.seed = 1;
    other.mix.max_samples = Some(7);
    other.prepare(&scene.tokenizer, &scene.stores()).unwrap();
    let foreign = stores(&scene.cache()).into_iter().find(|store| *store != path).unwrap();
    fs::copy(&foreign, &path).unwrap();
    let prepared = scene.asked().prepare(&scene.tokenizer, &scene.stores()).unwrap();
    assert!(prepared.notes[0].contains("the store of something else"), "{:?}", prepared.notes);
    assert_eq!(everything(prepared), scene.expected(&scene.asked()));
}

#[cfg(unix)]
#[test]
fn a_link_in_place_of_a_store_is_neither_followed_nor_fatal() {
    let scene = Scene::new(20);
    scene.asked().prepare(&scene.tokenizer, &scene.stores()).unwrap();
    let path = stores(&scene.cache()).remove(0);
    let elsewhere = scene.folder.path().join("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    let before = fs::read(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    let prepared = scene.asked().prepare(&scene.tokenizer, &scene.stores()).unwrap();
    assert!(!was_found(&prepared));
    assert_eq!(everything(prepared), scene.expected(&scene.asked()));
    assert_eq!(fs::read(&elsewhere).unwrap(), before);
}

/// Damage that comes while a run reads: the error says so, and the next run makes the store again.
#[test]
fn damage_during_a_run_is_an_error_that_names_the_store() {
    let scene = Scene::new(50);
    let expected = scene.expected(&scene.asked());
    let prepared = scene.asked().prepare(&scene.tokenizer, &scene.stores()).unwrap();
    let path = stores(&scene.cache()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[64 + 3] ^= 1;
    // In place, as a failing disk would.
    use std::io::Write;
    fs::File::options().write(true).open(&path).unwrap().write_all(&bytes).unwrap();
    let error = prepared.training.group(0).expect_err("another token").to_string();
    assert!(error.starts_with(&path.display().to_string()) && error.contains("prompt 0"), "{error}");
    assert!(prepared.training.group(1).is_ok());
    drop(prepared);
    let prepared = scene.asked().prepare(&scene.tokenizer, &scene.stores()).unwrap();
    assert!(!was_found(&prepared));
    assert_eq!(everything(prepared), expected);
}
