//! Rows of pictures on the command line: what is refused, and the quickstart of pictures.

use serde_json::{Value, json};

use crate::harness::{Folder, collimate, succeed};

/// A model of pictures without weights, enough to check rows with.
fn model(folder: &Folder) -> String {
    let config = json!({
        "model_type": "llamagen", "dim": 16, "n_layer": 1, "n_head": 2, "multiple_of": 8, "num_classes": 3, "vocab_size": 16,
        "block_size": 4,
    });
    folder.write("model/config.json", config.to_string());
    folder.arg("model")
}

#[test]
fn a_row_that_is_no_picture_of_the_model_is_named_by_file_line_and_field() {
    let folder = Folder::new();
    let model = model(&folder);
    let check = |row: &str| {
        let good = "{\"condition\": 0, \"tokens\": [1, 2, 3, 4]}\n";
        let data = folder.write("rows.jsonl", format!("{good}{row}\n"));
        let outcome = collimate(&["data", "check", &data, "--model", &model]);
        assert_ne!(outcome.code, 0, "{row}: {}", outcome.out);
        outcome.out + &outcome.err
    };
    for (row, field, problem) in [
        (r#"{"condition": 5, "tokens": [1, 2, 3, 4]}"#, "condition", "from 0 to 2"),
        (r#"{"condition": -1, "tokens": [1, 2, 3, 4]}"#, "condition", "the number of a class"),
        (r#"{"condition": 1, "tokens": [1, 2, 16, 4]}"#, "tokens[2]", "from 0 to 15, found 16"),
        (r#"{"condition": 1, "tokens": [1, 2, 3]}"#, "tokens", "the 4 tokens of a picture, found 3"),
        (r#"{"condition": 1, "tokens": [1, 2, "3", 4]}"#, "tokens[2]", "a token id"),
    ] {
        let found = check(row);
        let place = format!("rows.jsonl:2: field \"{field}\"");
        assert!(found.contains(&place) && found.contains(problem), "{row}: {found}");
    }
}

#[test]
fn rows_of_pictures_are_described() {
    let folder = Folder::new();
    let rows = "{\"condition\": 0, \"tokens\": [1, 2, 3, 4]}\n{\"condition\": 2, \"tokens\": [1, 2, 3, 5]}\n";
    let data = folder.write("rows.jsonl", rows);
    let stats: Value = serde_json::from_str(&succeed(&["data", "stats", &data, "--json"]).out).expect("JSON");
    assert_eq!(stats["num_groups"], 2);
    // Rated pictures of one class are one group.
    let rated = "{\"condition\": 0, \"tokens\": [1, 2], \"reward\": 1}\n{\"condition\": 0, \"tokens\": [3, 4], \"reward\": 0}\n";
    let data = folder.write("rated.jsonl", rated);
    let stats: Value = serde_json::from_str(&succeed(&["data", "stats", &data, "--json"]).out).expect("JSON");
    assert_eq!((&stats["num_groups"], &stats["num_responses"]), (&json!(1), &json!(2)));
}

#[test]
fn the_quickstart_of_pictures_aligns_a_generator_and_shows_what_it_draws() {
    let folder = Folder::new();
    let run = folder.arg("run");
    let args = ["train", "--quickstart", "visual", "--output", &run, "--quickstart-pictures", "64"];
    let err = succeed(&args).err;
    assert!(err.contains("pictures that show their class"), "{err}");
    let results: Value = serde_json::from_str(&folder.read("run/results.json")).expect("JSON");
    for what in ["before", "before_with_guidance", "after"] {
        let accuracy = results[what]["accuracy"].as_f64().expect("a share");
        assert!((0.0..=1.0).contains(&accuracy), "{what}: {accuracy}");
    }
    let picture = std::fs::read(folder.path("run/pictures.png")).expect("a grid");
    assert!(picture.starts_with(b"\x89PNG"));
    // What was aligned is scored and drawn with like any other model.
    let data = folder.write("classes.jsonl", "{\"condition\": 3}\n");
    let drawn = folder.arg("drawn.jsonl");
    succeed(&["sample", "--model", &run, "--data", &data, "--output", &drawn, "-n", "2", "--guidance", "1.5"]);
    let row = &folder.rows("drawn.jsonl")[0];
    assert_eq!((&row["condition"], row["responses"][1]["tokens"].as_array().map(Vec::len)), (&json!(3), Some(64)));
    let scores = folder.arg("scores.jsonl");
    succeed(&["score", "--model", &run, "--data", &folder.arg("run/pictures.jsonl"), "--output", &scores]);
    assert_eq!(folder.rows("scores.jsonl").len(), 64);
}

#[test]
fn objectives_that_need_rewards_are_refused_by_the_quickstart_of_pictures() {
    let outcome = collimate(&["train", "--quickstart", "visual", "--objective", "nca"]);
    assert_eq!(outcome.code, 2);
    assert!(outcome.err.contains("have no rewards, which nca needs"), "{}", outcome.err);
}
