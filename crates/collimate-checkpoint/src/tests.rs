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
        start: None,
        reference: None,
        num_rows: 7,
        interim,
        ranks: Some(2),
        standing: Standing::default(),
    }
}

/// A checkpoint without a model, written as [`save`] writes one.
fn write(run: &Path, step: usize, interim: bool) -> PathBuf {
    let path = run.join(format!("checkpoint-{step}"));
    let staged = StagedFolder::create(&path).expect("a folder");
    let folder = staged.staging();
    fs::write(folder.join("model.safetensors"), [step as u8; 300]).expect("weights");
    fs::write(folder.join(RECIPE_FILE), "seed: 1\n").expect("a recipe");
    let files = names_in(folder).expect("names");
    let json = serde_json::to_string(&Stored { state: state(step, interim), files }).expect("JSON");
    fs::write(folder.join(STATE_FILE), json).expect("a state");
    write_checksums(folder).expect("checksums");
    staged.commit().expect("a checkpoint");
    path
}

fn keeping(limit: Option<usize>) -> Kept<'static> {
    Kept { recipe_yaml: "", limit, best: None }
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
    remove_superseded(run.path(), 9, &keeping(None)).expect("nothing to do");
    assert_eq!(steps(run.path()), [3, 6, 9]);
    remove_superseded(run.path(), 9, &keeping(Some(2))).expect("a removal");
    assert_eq!(steps(run.path()), [6, 9]);
    // 9 is damaged, so the run resumed from 3 and reached 6 again: a limit of one must leave 6.
    remove_superseded(run.path(), 6, &keeping(Some(1))).expect("nothing to do");
    assert_eq!(steps(run.path()), [6, 9]);
}

#[test]
fn an_interim_checkpoint_is_removed_with_the_next_one() {
    let run = tempfile::tempdir().expect("a folder");
    for (step, interim) in [(3, false), (4, true), (6, false)] {
        write(run.path(), step, interim);
    }
    remove_superseded(run.path(), 4, &keeping(Some(2))).expect("nothing to do");
    assert_eq!(steps(run.path()), [3, 4, 6]);
    remove_superseded(run.path(), 6, &keeping(Some(2))).expect("a removal");
    assert_eq!(steps(run.path()), [3, 6]);
}

/// Without these names in it, a list says nothing about what is missing or changed.
#[test]
fn a_list_of_checksums_must_name_every_file_that_the_checkpoint_was_written_with() {
    let run = tempfile::tempdir().expect("a folder");
    write(run.path(), 3, false);
    for name in ["model.safetensors", RECIPE_FILE, STATE_FILE, ""] {
        let path = write(run.path(), 6, false);
        let list = path.join(collimate_files::CHECKSUMS_FILE);
        let text = fs::read_to_string(&list).expect("a list");
        let mut files: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).expect("JSON");
        files.retain(|file, _| !name.is_empty() && file != name);
        fs::write(&list, serde_json::to_string(&files).expect("JSON")).expect("a list");
        let (found, warnings) = newest(run.path()).expect("the one before");
        assert_eq!(found.map(|checkpoint| checkpoint.state.global_step), Some(3));
        assert!(
            warnings[0].contains("checkpoint-6: damaged, passed over: checksums.json: does not list"),
            "{warnings:?}"
        );
        // It is still this program's, so the run replaces it when it comes to its step again.
        save(run.path(), &state(6, false), &Kept { recipe_yaml: "", limit: None, best: None }, |_| {
            Ok::<(), CheckpointError>(())
        })
        .expect("a checkpoint");
        fs::remove_dir_all(&path).expect("a folder");
    }
}

/// Checkpoints of earlier versions do not say which files they had.
#[test]
fn a_checkpoint_of_an_earlier_version_is_read() {
    let run = tempfile::tempdir().expect("a folder");
    let path = write(run.path(), 3, false);
    fs::write(path.join(STATE_FILE), serde_json::to_string(&state(3, false)).expect("JSON")).expect("a state");
    write_checksums(&path).expect("checksums");
    assert_eq!(found(run.path()), (Some(3), 0));
    fs::write(path.join(collimate_files::CHECKSUMS_FILE), "{}").expect("a list");
    assert!(newest(run.path()).is_err());
}

#[test]
fn a_file_or_a_folder_of_somebodys_under_a_checkpoints_name_is_named_and_stays() {
    let run = tempfile::tempdir().expect("a folder");
    write(run.path(), 3, false);
    let path = run.path().join("checkpoint-7");
    fs::write(&path, "notes").expect("a file");
    for error in [newest(run.path()).expect_err("a file"), check_names(run.path()).expect_err("a file")] {
        assert!(error.to_string().contains("checkpoint-7: it is not a folder; a run needs this name"), "{error}");
    }
    let kept = Kept { recipe_yaml: "seed: 1\n", limit: Some(1), best: None };
    let saved = save(run.path(), &state(7, false), &kept, |_| Ok::<(), CheckpointError>(()));
    assert!(saved.expect_err("a file").to_string().contains("it is not a folder"));
    assert_eq!(fs::read_to_string(&path).expect("a file"), "notes");
    fs::remove_file(&path).expect("a file");
    fs::create_dir(&path).expect("a folder");
    fs::write(path.join("notes"), "mine").expect("a file");
    let error = newest(run.path()).expect_err("a folder").to_string();
    assert!(error.contains("checkpoint-7: it is not this program's: it has no checksums.json"), "{error}");
    // Nor is it removed with the old ones, and neither is an old one that holds somebody's file.
    fs::write(run.path().join("checkpoint-3/notes"), "mine").expect("a file");
    write(run.path(), 9, false);
    write(run.path(), 12, false);
    remove_superseded(run.path(), 12, &keeping(Some(1))).expect("a removal");
    assert_eq!(steps(run.path()), [3, 7, 12]);
    // A name that no run writes is nobody's business.
    fs::write(run.path().join("checkpoint-007"), "notes").expect("a file");
    assert_eq!(steps(run.path()), [3, 7, 12]);
}

#[cfg(unix)]
#[test]
fn links_to_checkpoints_are_refused_and_links_inside_are_damage() {
    use std::os::unix::fs::symlink;

    let (run, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let elsewhere = write(other.path(), 6, false);
    symlink(&elsewhere, run.path().join("checkpoint-6")).expect("a link");
    let error = newest(run.path()).expect_err("a link").to_string();
    assert!(error.contains("checkpoint-6: it is a link; a run needs this name"), "{error}");
    fs::remove_file(run.path().join("checkpoint-6")).expect("a link");
    write(run.path(), 3, false);
    for name in ["model.safetensors", STATE_FILE, RECIPE_FILE, collimate_files::CHECKSUMS_FILE] {
        let path = write(run.path(), 6, false);
        fs::remove_file(path.join(name)).expect("a file");
        symlink("/dev/zero", path.join(name)).expect("a link");
        let error = newest(run.path()).expect_err("a link").to_string();
        assert!(error.contains(name) && error.contains("it is a link"), "{error}");
        fs::remove_dir_all(&path).expect("a folder");
    }
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

#[test]
fn the_best_is_kept_beside_the_newest_until_another_is_best() {
    let run = tempfile::tempdir().expect("a folder");
    let save = |step: usize, interim: bool, best: usize| {
        let kept = Kept { recipe_yaml: "", limit: Some(1), best: Some(best) };
        super::save(run.path(), &state(step, interim), &kept, |_| Ok::<(), CheckpointError>(())).expect("a checkpoint");
        steps(run.path())
    };
    assert_eq!(save(2, false, 2), [2]);
    // One that was not due is kept as well while it is best.
    assert_eq!(save(3, true, 3), [2, 3]);
    assert_eq!(save(4, false, 3), [3, 4]);
    assert_eq!(save(6, false, 3), [3, 6]);
    assert_eq!(save(7, true, 7), [6, 7]);
    assert_eq!(after_step(run.path(), 7).expect("the best").state, state(7, true));
    assert!(after_step(run.path(), 3).expect_err("gone").to_string().contains("checkpoint-3"));
}

#[test]
fn a_best_evaluation_that_is_still_to_come_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(STATE_FILE);
    let standing = Standing { best: Some(BestEvaluation { step: 8, value: 0.5 }), ..Standing::default() };
    for (global_step, is_sound) in [(8, true), (7, false)] {
        let state = TrainerState { global_step, standing: standing.clone(), ..state(0, false) };
        fs::write(&path, serde_json::to_string(&state).expect("JSON")).expect("a file");
        let read = read_trainer_state(&path);
        assert_eq!(read.as_ref().ok(), Some(&state).filter(|_| is_sound), "{read:?}");
    }
}
