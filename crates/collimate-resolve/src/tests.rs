//! Resolves the paths and names of recipes.

use std::fs;
use std::path::Path;

use collimate_hub::{Hub, HubOptions};
use collimate_recipe::DataSources;
use rstest::rstest;
use tempfile::TempDir;

use super::*;

/// A folder with a recipe and the named files, one row each.
fn folder(recipe: &str, files: &[&str]) -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    for file in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, "{}\n").expect("a file");
    }
    fs::write(folder.path().join("r.yaml"), recipe).expect("a file");
    folder
}

fn load(folder: &TempDir, overrides: &[(&str, &str)]) -> Result<LoadedRecipe, ResolveError> {
    let overrides: Vec<_> = overrides.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let mut options = HubOptions::from_env();
    (options.cache, options.offline) = (folder.path().join("hub"), true);
    let path = folder.path().join("r.yaml");
    resolve(Recipe::parse(Some(&path), &overrides)?, Some(&path), &Hub::new(options))
}

/// The error's text after its location in the recipe.
fn error(recipe: &str, files: &[&str]) -> String {
    let message = load(&folder(recipe, files), &[]).expect_err("a broken recipe").to_string();
    message.split_once("r.yaml:").map(|(_, rest)| rest.to_owned()).unwrap_or(message)
}

/// The files relative to the folder, with their weights.
fn files(folder: &TempDir, sources: Option<&DataSources>) -> Vec<(String, f64)> {
    let relative = |path: &Path| path.strip_prefix(folder.path()).expect("in the folder").display().to_string();
    sources.iter().flat_map(|sources| sources.parts()).map(|part| (relative(&part.path), part.weight)).collect()
}

#[rstest]
#[case("data: nowhere.jsonl\n", "1:1: key \"data\": nowhere.jsonl does not exist")]
#[case("dataset_mixer: {org/name: 1.0}\n", "1:1: key \"dataset_mixer\": org/name: it is not in ")]
#[case("dataset_mixer: {a/none.jsonl: 1.0}\n", "1:1: key \"dataset_mixer\": a/none.jsonl does not exist (nor does ")]
#[case("data: {a.jsonl: 2}\n", "1:1: key \"data\": the weight of ")]
#[case("data: [a.jsonl, a.jsonl]\n", "1:1: key \"data\": ")]
#[case("data: empty\n", "1:1: key \"data\": ")]
fn what_is_not_there_is_refused(#[case] recipe: &str, #[case] expected: &str) {
    let found = error(recipe, &["a.jsonl", "b.jsonl", "empty/readme.md"]);
    assert!(found.starts_with(expected), "{found}");
}

#[test]
fn a_path_is_looked_for_beside_the_recipe() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (recipe, data) = (folder.path().join("r.yaml"), folder.path().join("d.jsonl"));
    fs::write(&data, "").expect("a file");
    fs::write(&recipe, "data: d.jsonl\n").expect("a file");
    let parsed = Recipe::parse(Some(&recipe), &[]).expect("a recipe");
    let loaded = resolve(parsed, Some(&recipe), &Hub::new(HubOptions::from_env())).expect("files");
    assert_eq!(loaded.recipe.data, Some(data.into()));
}

#[rstest]
#[case("data: d\n", &[("d/test.jsonl", 1.0), ("d/train.jsonl", 1.0)], &[])]
#[case("data: {a.jsonl: 0.5, d: 0.25}\n", &[("a.jsonl", 0.5), ("d/test.jsonl", 0.25), ("d/train.jsonl", 0.25)], &[])]
#[case("dataset_mixer: {a.jsonl: 0.5, d: 0.25}\neval_strategy: epoch\n", &[("a.jsonl", 0.5), ("d/train.jsonl", 0.25)], &[("d/test.jsonl", 1.0)])]
#[case("dataset_mixer: {d: 1}\n", &[("d/train.jsonl", 1.0)], &[])]
#[case("dataset_mixer: {d: 1}\ndo_eval: true\n", &[("d/train.jsonl", 1.0)], &[("d/test.jsonl", 1.0)])]
#[case("dataset_mixer: {c: 1}\ndataset_configs: [main]\n", &[("c/main/train.jsonl", 1.0)], &[])]
#[case("datasets: [{path: c, config: other}]\n", &[("c/other/train.jsonl", 1.0)], &[])]
#[case("dataset_mixer: {d: 1}\neval_strategy: no\n", &[("d/train.jsonl", 1.0)], &[])]
#[case("dataset_mixer: {d: 1}\ndo_eval: false\n", &[("d/train.jsonl", 1.0)], &[])]
#[case("dataset_mixer: {d: 1}\neval_data: a.jsonl\n", &[("d/train.jsonl", 1.0)], &[("a.jsonl", 1.0)])]
#[case("dataset_mixer: {p: 1}\neval_strategy: steps\ndataset_splits: [train_prefs, test_prefs]\n",
       &[("p/train_prefs-0-of-2.jsonl", 1.0), ("p/train_prefs-1-of-2.jsonl", 1.0)], &[("p/test_prefs.jsonl", 1.0)])]
#[case("dataset_name: p\ndataset_train_split: train_sft\n", &[("p/train_sft.jsonl", 1.0)], &[])]
#[case("datasets:\n- path: a.jsonl\n- {path: p, split: train_sft, weight: 0.5}\n",
       &[("a.jsonl", 1.0), ("p/train_sft.jsonl", 0.5)], &[])]
fn data_of_other_trainers(#[case] recipe: &str, #[case] train: &[(&str, f64)], #[case] test: &[(&str, f64)]) {
    let names = [
        "a.jsonl",
        "d/train.jsonl",
        "d/test.jsonl",
        "p/train_prefs-0-of-2.jsonl",
        "p/train_prefs-1-of-2.jsonl",
        "p/test_prefs.jsonl",
        "p/train_sft.jsonl",
        "p/notes.txt",
        "c/main/train.jsonl",
        "c/other/train.jsonl",
    ];
    let folder = folder(recipe, &names);
    let loaded = load(&folder, &[]).expect("a recipe").recipe;
    let owned =
        |files: &[(&str, f64)]| files.iter().map(|(file, weight)| ((*file).to_owned(), *weight)).collect::<Vec<_>>();
    assert_eq!(files(&folder, loaded.data.as_ref()), owned(train));
    assert_eq!(files(&folder, loaded.eval_data.as_ref()), owned(test));
    // The recipe that a run writes into its folder names the same files.
    fs::write(folder.path().join("r.yaml"), loaded.resolved_yaml().expect("YAML")).expect("a file");
    assert_eq!(load(&folder, &[]).expect("a recipe").recipe, loaded);
}

#[test]
fn a_mixture_may_hold_out_a_share() {
    let recipe = "dataset_mixture:\n  datasets:\n  - {id: a.jsonl, weight: 0.5}\n  seed: 0\n  test_split_size: 0.1\n";
    let folder = folder(recipe, &["a.jsonl"]);
    let loaded = load(&folder, &[]).expect("a recipe").recipe;
    assert_eq!((files(&folder, loaded.data.as_ref()), loaded.eval_fraction), (vec![("a.jsonl".to_owned(), 0.5)], 0.1));
}

#[rstest]
#[case("learning_rate: 5\n", &["warning: learning_rate 5 is far above what is usual, 1e-7 to 1e-3"])]
#[case("learning_rate: 1e-3\n", &[])]
#[case("eval_steps: 10\n", &["warning: nothing is evaluated in spite of eval_steps"])]
#[case("eval_strategy: epoch\n", &["warning: nothing is evaluated in spite of eval_strategy"])]
#[case("eval_strategy: no\n", &[])]
#[case("eval_steps: 10\neval_data: a.jsonl\n", &[])]
#[case("eval_steps: 10\neval_fraction: 0.1\n", &[])]
fn what_is_hardly_meant_is_warned_about(#[case] recipe: &str, #[case] expected: &[&str]) {
    let notes = load(&folder(recipe, &["a.jsonl"]), &[]).expect("a recipe").notes;
    let begins = notes.iter().zip(expected).all(|(note, start)| note.starts_with(start));
    assert!(begins && notes.len() == expected.len(), "{notes:?}");
}

#[test]
fn a_configuration_that_a_folder_does_not_have_is_named_with_what_it_has() {
    let found = error("dataset_mixer: {d: 1}\ndataset_config: main\n", &["d/train.jsonl"]);
    assert!(found.contains("has no folder main") && found.contains("train.jsonl"), "{found}");
}

#[test]
fn a_split_that_a_folder_does_not_have_is_named_with_what_it_has() {
    let found = error("dataset_mixer: {d: 1}\ndataset_splits: [train_prefs]\n", &["d/train.jsonl"]);
    assert!(found.contains("has no train_prefs.jsonl") && found.contains("it has train.jsonl"), "{found}");
}

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub cache with a data set and a model, as Python's hub client leaves it.
fn hub_folder(recipe: &str) -> TempDir {
    let files = [
        "datasets--org--data/COMMIT/data/train_prefs-00000-of-00001.parquet",
        "datasets--org--data/COMMIT/data/test_prefs-00000-of-00001.parquet",
        "datasets--org--data/COMMIT/data/train_sft-00000-of-00001.parquet",
        "datasets--org--data/COMMIT/README.md",
        "models--org--model/COMMIT/config.json",
        "models--org--model/COMMIT/model.safetensors",
    ];
    let snapshots = files.map(|file| format!("hub/{}", file.replace("COMMIT", &format!("snapshots/{COMMIT}"))));
    let folder = folder(recipe, &snapshots.each_ref().map(String::as_str));
    for name in ["datasets--org--data", "models--org--model"] {
        fs::create_dir_all(folder.path().join("hub").join(name).join("refs")).expect("a folder");
        fs::write(folder.path().join("hub").join(name).join("refs/main"), COMMIT).expect("a file");
    }
    folder
}

#[rstest]
#[case("dataset_mixer: {org/data: 0.5}\neval_strategy: steps\ndataset_splits: [train_prefs, test_prefs]\n", &["train_prefs"], &["test_prefs"])]
#[case("dataset_mixer: {org/data: 1}\ndataset_splits: [train_prefs]\neval_strategy: no\n", &["train_prefs"], &[])]
#[case("dataset_name: org/data\ndataset_train_split: train_sft\n", &["train_sft"], &[])]
#[case("data: org/data\n", &["test_prefs", "train_prefs", "train_sft"], &[])]
#[case("data: 'hf://datasets/org/data/data/train_*.parquet'\n", &["train_prefs", "train_sft"], &[])]
fn data_of_the_hub_is_taken_by_split_or_pattern(#[case] recipe: &str, #[case] train: &[&str], #[case] test: &[&str]) {
    let folder = hub_folder(recipe);
    let LoadedRecipe { recipe: loaded, notes } = load(&folder, &[]).expect("a recipe");
    let names = |sources: Option<&DataSources>| -> Vec<String> {
        let stem =
            |part: &collimate_data::DataPart| collimate_data::data_stem(&part.path).unwrap_or_default().to_owned();
        sources.map_or(Vec::new(), |sources| sources.parts().iter().map(stem).collect())
    };
    let whole = |splits: &[&str]| splits.iter().map(|split| format!("{split}-00000-of-00001")).collect::<Vec<_>>();
    assert_eq!(names(loaded.data.as_ref()), whole(train));
    assert_eq!(names(loaded.eval_data.as_ref()), whole(test));
    assert!(
        notes[0].starts_with("org/data") && notes[0].ends_with(&format!("commit {COMMIT} of the hub")),
        "{notes:?}"
    );
}

#[test]
fn a_model_of_the_hub_is_its_folder_in_the_cache_and_the_commit_is_said() {
    let folder = hub_folder("model_name_or_path: org/model\n");
    let LoadedRecipe { recipe: loaded, notes } = load(&folder, &[]).expect("a recipe");
    let expected = folder.path().join("hub/models--org--model/snapshots").join(COMMIT);
    assert_eq!(loaded.model_name_or_path.as_deref(), Some(expected.as_path()));
    assert_eq!(notes, [format!("org/model: commit {COMMIT} of the hub")]);
    let revised = load(&folder, &[("model_revision", COMMIT)]).expect("a recipe").recipe;
    assert_eq!(revised.model_name_or_path, loaded.model_name_or_path);
    let named_twice = [("model_name_or_path", "org/model@v1"), ("model_revision", "v2")];
    let error = load(&folder, &named_twice).expect_err("two revisions").to_string();
    assert!(error.contains("is v2, and the model's name says v1"), "{error}");
    let missing = load(&folder, &[("model_name_or_path", "org/other")]).expect_err("nothing in the cache").to_string();
    assert!(
        missing.contains("org/other: it is not in ") && missing.contains("run once without --offline"),
        "{missing}"
    );
    let error = load(&folder, &[("model_name_or_path", "hf://datasets/org/data")]).expect_err("no model").to_string();
    assert!(error.contains("this is a data set"), "{error}");
}

#[test]
fn patterns_and_parquet_are_files_of_data() {
    let names = ["s/train-1.parquet", "s/train-0.parquet", "s/test-0.parquet", "s/notes.md"];
    let folder = folder("data: s/train-*.parquet\neval_data: [s/test-0.parquet]\n", &names);
    let loaded = load(&folder, &[]).expect("a recipe").recipe;
    let expected = [("s/train-0.parquet".to_owned(), 1.0), ("s/train-1.parquet".to_owned(), 1.0)];
    assert_eq!(files(&folder, loaded.data.as_ref()), expected);
    let error = load(&folder, &[("data", "s/none-*.parquet")]).expect_err("nothing").to_string();
    assert!(error.contains("s/none-*.parquet: no file matches"), "{error}");
}

#[test]
fn data_on_the_command_line_wins_over_a_mixture() {
    let folder = folder("dataset_mixer: {a.jsonl: 0.5}\n", &["a.jsonl", "b.jsonl"]);
    let b = folder.path().join("b.jsonl").display().to_string();
    let loaded = load(&folder, &[("data", &b)]).expect("a recipe").recipe;
    assert_eq!(files(&folder, loaded.data.as_ref()), [("b.jsonl".to_owned(), 1.0)]);
}
