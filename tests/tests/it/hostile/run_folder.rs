//! Which folder a run may be written to: the decision alone, without a run.

use std::fs;

use collimate_recipe::Recipe;
use collimate_report::RunInfo;
use collimate_train::{TrainError, check_folder};
use rstest::rstest;

/// A recipe that writes to a new folder, and the folder.
fn folder() -> (tempfile::TempDir, Recipe) {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = Recipe { output_dir: folder.path().join("run"), ..Recipe::default() };
    fs::create_dir(&recipe.output_dir).expect("a folder");
    (folder, recipe)
}

#[rstest]
#[case("README.md")]
#[case("config.json")]
#[case("tokenizer.json")]
#[case("model-00001-of-00002.safetensors")]
#[case("adapter_model.safetensors")]
#[case("recipe.yaml")]
#[case("run.json")]
fn somebodys_file_under_a_name_of_ours_is_refused(#[case] name: &str, #[values(false, true)] resume: bool) {
    let (_folder, recipe) = folder();
    fs::write(recipe.output_dir.join(name), "mine").expect("a file");
    // Who resumes takes the recipe that is there for the run's.
    let is_taken = resume && name == "recipe.yaml";
    match check_folder(&recipe, resume) {
        Ok(()) => assert!(is_taken, "{name}"),
        Err(error) => assert!(error.to_string().contains(&format!("it holds \"{name}\"")) && !is_taken, "{error}"),
    }
}

#[test]
fn other_files_and_an_early_end_are_no_obstacle() {
    let (_folder, recipe) = folder();
    let out = &recipe.output_dir;
    fs::write(out.join("notes.txt"), "mine").expect("a file");
    fs::create_dir(out.join("tensorboard")).expect("a folder");
    check_folder(&recipe, false).expect("nothing in the way");
    RunInfo::default().write(out).expect("a file");
    fs::write(out.join("recipe.yaml"), recipe.resolved_yaml().expect("a recipe")).expect("a file");
    check_folder(&recipe, false).expect("an earlier start");
    fs::write(out.join("metrics.jsonl"), "").expect("a file");
    fs::write(out.join("report.html"), "a page").expect("a file");
    check_folder(&recipe, false).expect("an earlier start that failed before its first row");
    check_folder(&Recipe { seed: 7, ..recipe.clone() }, false).expect("an earlier start with another seed");
    fs::write(out.join("README.md"), "mine").expect("a file");
    assert!(check_folder(&recipe, false).is_err());
}

#[test]
fn a_run_is_only_resumed() {
    let (_folder, recipe) = folder();
    fs::write(recipe.output_dir.join("metrics.jsonl"), "{}\n").expect("a file");
    assert!(matches!(check_folder(&recipe, false), Err(TrainError::OutputTaken { .. })));
    check_folder(&recipe, true).expect("a run");
}

#[cfg(unix)]
#[rstest]
#[case("metrics.jsonl")]
#[case("recipe.yaml")]
#[case("report.html")]
#[case("tensorboard")]
#[case("model.safetensors")]
#[case("checkpoint-7")]
fn a_link_under_a_name_of_ours_is_refused(#[case] name: &str, #[values(false, true)] resume: bool) {
    let (folder, recipe) = folder();
    fs::create_dir(folder.path().join("elsewhere")).expect("a folder");
    std::os::unix::fs::symlink("../elsewhere", recipe.output_dir.join(name)).expect("a link");
    check_folder(&recipe, resume).expect_err("a link");
    if resume {
        fs::write(recipe.output_dir.join("lengths.json"), "{}").expect("a file");
        check_folder(&recipe, resume).expect_err("a link");
    }
}

#[test]
fn the_folders_that_are_read_are_not_written() {
    let (folder, recipe) = folder();
    let out = folder.path().join("./run/");
    let model = Recipe { model_name_or_path: Some(out.clone()), ..recipe.clone() };
    let adapter = Recipe { adapter: Some(out.clone()), ..recipe.clone() };
    let reference = Recipe { reference: Some(out.display().to_string()), ..recipe };
    for (recipe, what) in [(model, "model"), (adapter, "adapter"), (reference, "reference")] {
        let error = check_folder(&recipe, true).expect_err("it is read").to_string();
        assert!(error.contains(&format!("it is the folder of the {what}, which is read")), "{error}");
    }
}
