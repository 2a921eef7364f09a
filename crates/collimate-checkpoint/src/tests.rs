use std::fs;
use std::path::Path;

use collimate_files::write_checksums;
use proptest::prelude::*;

use super::*;

fn state(step: usize, interim: bool) -> TrainerState {
    TrainerState {
        global_step: step,
        epoch: 1.0,
        max_steps: 100,
        num_tokens: 5,
        num_skipped_steps: 0,
        fingerprint: "f".to_owned(),
        data: "d".to_owned(),
        reference: None,
        num_rows: 7,
        interim,
    }
}

/// A checkpoint without a model, written as [`save`] writes one.
fn write(run: &Path, step: usize, interim: bool) -> PathBuf {
    let path = run.join(format!("checkpoint-{step}"));
    let staged = StagedFolder::create(&path).expect("a folder");
    let folder = staged.staging();
    fs::write(folder.join("model.safetensors"), [step as u8; 300]).expect("weights");
    let json = serde_json::to_string(&state(step, interim)).expect("JSON");
    fs::write(folder.join(STATE_FILE), json).expect("a state");
    write_checksums(folder).expect("checksums");
    staged.commit().expect("a checkpoint");
    path
}

fn steps(run: &Path) -> Vec<usize> {
    checkpoints(run).expect("a folder").into_iter().map(|(step, _)| step).collect()
}

fn found(run: &Path) -> (Option<usize>, usize) {
    let (found, warnings) = newest(run).expect("a sound checkpoint");
    (found.map(|checkpoint| checkpoint.state.global_step), warnings.len())
}

#[test]
fn the_newest_sound_checkpoint_is_found() {
    let run = tempfile::tempdir().expect("a folder");
    assert_eq!(found(run.path()), (None, 0));
    for step in [3, 12, 6] {
        write(run.path(), step, false);
    }
    assert_eq!(found(run.path()), (Some(12), 0));
    fs::remove_file(run.path().join("checkpoint-12/model.safetensors")).expect("a file");
    assert_eq!(found(run.path()), (Some(6), 1));
    fs::write(run.path().join("checkpoint-6").join(STATE_FILE), "{").expect("a file");
    assert_eq!(found(run.path()), (Some(3), 2));
    fs::remove_file(run.path().join("checkpoint-3").join(collimate_files::CHECKSUMS_FILE)).expect("a file");
    let error = newest(run.path()).expect_err("all are damaged").to_string();
    assert!(error.contains("every checkpoint is damaged") && error.matches("passed over").count() == 3, "{error}");
}

#[test]
fn a_renamed_folder_is_no_checkpoint_of_that_step() {
    let run = tempfile::tempdir().expect("a folder");
    fs::rename(write(run.path(), 3, false), run.path().join("checkpoint-9")).expect("a rename");
    write(run.path(), 2, false);
    assert_eq!(found(run.path()), (Some(2), 1));
}

#[test]
fn the_oldest_are_removed_and_the_one_just_written_stays() {
    let run = tempfile::tempdir().expect("a folder");
    for step in [3, 6, 9] {
        write(run.path(), step, false);
    }
    remove_superseded(run.path(), 9, None).expect("nothing to do");
    assert_eq!(steps(run.path()), [3, 6, 9]);
    remove_superseded(run.path(), 9, Some(2)).expect("a removal");
    assert_eq!(steps(run.path()), [6, 9]);
    // 9 is damaged, so the run resumed from 3 and reached 6 again: a limit of one must leave 6.
    remove_superseded(run.path(), 6, Some(1)).expect("nothing to do");
    assert_eq!(steps(run.path()), [6, 9]);
}

#[test]
fn an_interim_checkpoint_is_removed_with_the_next_one() {
    let run = tempfile::tempdir().expect("a folder");
    for (step, interim) in [(3, false), (4, true), (6, false)] {
        write(run.path(), step, interim);
    }
    remove_superseded(run.path(), 4, Some(2)).expect("nothing to do");
    assert_eq!(steps(run.path()), [3, 4, 6]);
    remove_superseded(run.path(), 6, Some(2)).expect("a removal");
    assert_eq!(steps(run.path()), [3, 6]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_file_truncated_anywhere_falls_back_to_the_checkpoint_before(file in 0usize..3, keep in 0.0f64..1.0) {
        let run = tempfile::tempdir().expect("a folder");
        write(run.path(), 3, false);
        let torn = write(run.path(), 6, false);
        let name = ["model.safetensors", STATE_FILE, collimate_files::CHECKSUMS_FILE][file];
        let bytes = fs::read(torn.join(name)).expect("a file");
        // The list of checksums ends in a newline that may be missing.
        let len = ((bytes.len() - 1) as f64 * keep) as usize;
        fs::write(torn.join(name), &bytes[..len]).expect("a file");
        prop_assert_eq!(found(run.path()), (Some(3), 1));
    }
}
