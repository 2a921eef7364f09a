//! Rows of pictures on the command line: what is refused, and the quickstart of pictures.

use serde_json::{Value, json};

use crate::harness::{Folder, collimate, succeed};
use crate::small_model;

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
    for (what, when) in
        [("accuracy", "before"), ("accuracy", "after"), ("accuracy_with_guidance", "before"), ("clean_rate", "after")]
    {
        let share = results[what][when].as_f64().expect("a share");
        assert!((0.0..=1.0).contains(&share), "{what}, {when}: {share}");
    }
    let picture = std::fs::read(folder.path("run/pictures.png")).expect("a grid");
    assert!(picture.starts_with(b"\x89PNG"));
    let page = folder.read("run/report.html");
    assert!(page.contains("Pictures before and after") && page.contains("data:image/png;base64,"));
    // What was aligned is scored and drawn with like any other model.
    let data = folder.write("classes.jsonl", "{\"condition\": 3}\n");
    let drawn = folder.arg("drawn.jsonl");
    succeed(&["sample", "--model", &run, "--data", &data, "--output", &drawn, "-n", "2", "--guidance", "1.5"]);
    let row = &folder.rows("drawn.jsonl")[0];
    assert_eq!((&row["condition"], row["responses"][1]["tokens"].as_array().map(Vec::len)), (&json!(3), Some(64)));
    // Its pictures are files, and a file that is there is not replaced unasked.
    let images = folder.arg("drawn");
    let more = ["--images", &images, "-n", "2", "--output"];
    let sample = |output: &str, last: &[&str]| {
        let again = folder.arg(output);
        collimate(&[&["sample", "--model", &run, "--data", &data], &more[..], &[again.as_str()], last].concat())
    };
    assert_eq!(sample("first.jsonl", &[]).code, 0);
    let tokens: Vec<u32> =
        serde_json::from_value(folder.rows("first.jsonl")[0]["responses"][1]["tokens"].clone()).expect("tokens");
    let expected = collimate_vq::PictureDecoder::open(&folder.path("run")).expect("a decoder");
    let expected = expected.picture(&tokens).expect("a picture").png();
    assert_eq!(std::fs::read(folder.path("drawn/00001-2.png")).expect("a picture"), expected);
    let again = sample("second.jsonl", &[]);
    assert!(again.code == 2 && again.err.contains("00001-1.png: there is a file of this name"), "{}", again.err);
    assert!(!folder.path("second.jsonl").exists(), "nothing is drawn");
    assert_eq!(sample("second.jsonl", &["--force"]).code, 0);
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

#[test]
fn pictures_of_words_and_of_a_model_without_its_decoder_are_refused() {
    let folder = Folder::new();
    collimate_pictures::assets::write_base(&folder.path("base")).expect("a generator");
    std::fs::remove_file(folder.path("base/vq.safetensors")).expect("removed");
    let data = folder.write("classes.jsonl", "{\"condition\": 1}\n");
    let (output, images) = (folder.arg("out.jsonl"), folder.arg("images"));
    let sample = |model: &str, data: &str| {
        let outcome =
            collimate(&["sample", "--model", model, "--data", data, "--output", &output, "--images", &images]);
        assert_eq!(outcome.code, 2, "{}", outcome.err);
        outcome.err
    };
    let prompts = folder.write("prompts.jsonl", "{\"prompt\": \"a\"}\n");
    assert!(sample(small_model::model_arg(), &prompts).contains("--images is for models of pictures"));
    let error = sample(&folder.arg("base"), &data);
    assert!(error.contains("base/vq.safetensors: no such file"), "{error}");
    assert!(!folder.path("images").exists());
}

#[test]
fn a_run_over_pictures_shows_them_before_and_after_in_its_report() {
    let folder = Folder::new();
    collimate_pictures::assets::write_base(&folder.path("base")).expect("a generator");
    let row = |class: usize| {
        let tokens: Vec<usize> = (0..64).map(|place| (class * 7 + place) % 64).collect();
        format!("{}\n", json!({"condition": class, "tokens": tokens}))
    };
    let data = folder.write("rows.jsonl", (0..4).map(row).collect::<String>());
    let (base, run) = (folder.arg("base"), folder.arg("run"));
    let train = |more: &[&str]| {
        let args = ["train", "--model", &base, "--data", &data, "--objective", "cca", "--output", &run];
        let settings =
            ["--set", "per_device_train_batch_size=2", "--set", "max_steps=2", "--set", "objective.uncond_ratio=0"];
        collimate(&[&args, &settings[..], more].concat())
    };
    let outcome = train(&[]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let page = folder.read("run/report.html");
    assert_eq!(page.matches("data:image/png;base64,").count(), 2, "one before and one after");
    assert!(page.contains("after: a row each of class 0, class 1, class 2"));
    let png = |when: &str| std::fs::read(folder.path(&format!("run/pictures-{when}.png"))).expect("a grid");
    assert!(png("before").starts_with(b"\x89PNG") && png("after").starts_with(b"\x89PNG"));
    // What is somebody's own is not replaced.
    let other = Folder::new();
    other.write("run/pictures-after.png", "mine");
    let run = other.arg("run");
    let args = ["train", "--model", &base, "--data", &data, "--objective", "cca", "--output", &run];
    let outcome = collimate(&[&args[..], &["--set", "per_device_train_batch_size=2"]].concat());
    assert_eq!((outcome.code, other.read("run/pictures-after.png").as_str()), (2, "mine"), "{}", outcome.err);
}
