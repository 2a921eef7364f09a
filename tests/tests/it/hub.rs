//! Parquet, several files and hub names, through the command line. Only the hub's cache is used here; fetching is tested in
//! `collimate-hub`.

use std::fs;
use std::path::{Path, PathBuf};

use rstest::rstest;

use crate::harness::{Folder, collimate, collimate_with_cache};
use crate::small_model::{model, model_arg};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Rows of the parser's corpus: two pairs of text.
const ROWS: &str = concat!(
    r#"{"prompt": "a", "chosen": "c", "rejected": "e"}"#,
    "\n",
    r#"{"prompt": "b", "chosen": "d", "rejected": "f"}"#,
    "\n"
);

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/row_file").join(name)
}

/// A hub cache with the small model and the rows as Parquet, as Python writes it.
fn hub_cache(folder: &Folder) -> PathBuf {
    folder.copy(model(), &format!("hub/models--org--small/snapshots/{COMMIT}"));
    let rows = fs::read(corpus("text-lz4.parquet")).expect("rows");
    folder.write(&format!("hub/datasets--org--data/snapshots/{COMMIT}/data/train-00000-of-00001.parquet"), rows);
    for name in ["models--org--small", "datasets--org--data"] {
        folder.write(&format!("hub/{name}/refs/main"), COMMIT);
    }
    folder.path("hub")
}

#[rstest]
#[case("text-lz4.parquet")]
#[case("text-delta-length.parquet")]
#[case("preference.jsonl.gz")]
#[case("preference.jsonl.zst")]
#[case("list.json")]
fn every_kind_of_file_is_scored_alike(#[case] name: &str) {
    let folder = Folder::new();
    let lines = folder.write("rows.jsonl", ROWS);
    let other = corpus(name).display().to_string();
    let scored = |data: &str, output: &str| {
        let output = folder.arg(output);
        let args = ["score", "--model", model_arg(), "--data", data, "--output", &output, "--tokens", "--quiet"];
        let outcome = collimate(&args);
        assert_eq!(outcome.code, 0, "{}", outcome.err);
        fs::read_to_string(output).expect("rows")
    };
    assert_eq!(scored(&other, "other.jsonl"), scored(&lines, "lines.jsonl"));
}

#[test]
fn several_files_folders_and_patterns_are_read_as_one() {
    let folder = Folder::new();
    folder.write("s/train-0.jsonl", ROWS);
    folder.write("s/train-1.parquet", fs::read(corpus("text-lz4.parquet")).expect("rows"));
    folder.write("s/other.md", "x");
    for names in [
        vec![folder.arg("s/train-0.jsonl"), folder.arg("s/train-1.parquet")],
        vec![folder.arg("s/train-*")],
        vec![folder.arg("s")],
    ] {
        let args: Vec<String> = ["data", "check"].map(str::to_owned).into_iter().chain(names).collect();
        let outcome = collimate(&args);
        assert_eq!(outcome.code, 0, "{}", outcome.err);
        assert!(outcome.out.contains("4 rows, 4 groups, 0 errors"), "{}", outcome.out);
    }
    let outcome = collimate(&["data", "check", &folder.arg("s/none-*")]);
    assert_eq!((outcome.code, outcome.err.contains("s/none-*: no file matches")), (2, true), "{}", outcome.err);
}

#[test]
fn a_run_takes_model_and_data_from_the_hub_by_name() {
    let folder = Folder::new();
    let cache = hub_cache(&folder);
    let output = folder.arg("run");
    let args = [
        "train",
        "--model",
        "org/small",
        "--data",
        "hf://datasets/org/data",
        "--objective",
        "dpo",
        "--output",
        &output,
        "--set",
        "use_peft=true",
        "--set",
        "max_steps=1",
        "--set",
        "max_length=32",
        "--set",
        "max_prompt_length=16",
    ];
    let outcome = collimate_with_cache(&args, &cache);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    for name in ["org/small", "org/data"] {
        assert!(outcome.err.contains(&format!("{name}: commit {COMMIT} of the hub")), "{}", outcome.err);
    }
    let (recipe, card) = (folder.read("run/recipe.yaml"), folder.read("run/README.md"));
    assert!(recipe.contains(&format!("models--org--small/snapshots/{COMMIT}")), "{recipe}");
    assert!(recipe.contains("train-00000-of-00001.parquet"), "{recipe}");
    let adapter: serde_json::Value = serde_json::from_str(&folder.read("run/adapter_config.json")).expect("JSON");
    assert_eq!(adapter["base_model_name_or_path"], "org/small");
    assert!(card.contains("base_model: \"org/small\"\n") && card.contains(&format!("org/small@{COMMIT}")), "{card}");
}

#[test]
fn verbs_take_names_of_the_hub() {
    let folder = Folder::new();
    let cache = hub_cache(&folder);
    let outcome = collimate_with_cache(&["data", "preview", "org/data", "--model", "org/small"], &cache);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert!(outcome.out.contains("line 1"), "{}", outcome.out);
}

#[test]
fn what_the_cache_has_not_is_an_error_that_says_what_to_do() {
    let folder = Folder::new();
    let cache = hub_cache(&folder);
    for args in [
        vec!["data", "preview", "org/data", "--model", "org/other"],
        vec!["train", "--model", "org/other", "--data", "org/data"],
        vec!["data", "check", "hf://datasets/org/other"],
    ] {
        let outcome = collimate_with_cache(&args, &cache);
        assert_eq!(outcome.code, 2, "{}", outcome.err);
        assert!(outcome.err.contains("org/other: it is not in "), "{}", outcome.err);
        assert!(outcome.err.contains("run once without --offline"), "{}", outcome.err);
    }
}
