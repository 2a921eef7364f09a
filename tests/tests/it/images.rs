//! Images in prompts on the command line, with the quickstart's small Qwen2-VL: what is checked and shown of them, what is kept of
//! them between runs, and the quickstart itself.

use std::path::Path;

use collimate_counting::assets::write_base;
use collimate_counting::question::{Split, counting_question};
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{Folder, Outcome, collimate, succeed, train};

/// The quickstart's base model.
fn model(folder: &Folder) -> String {
    write_base(&folder.path("model")).expect("a model");
    folder.arg("model")
}

/// Rows of questions with two answers each, and their images in files beside them.
fn rows(folder: &Folder, name: &str, count: u64) -> String {
    let row = |index: u64| {
        let question = counting_question(5, index, Split::Train);
        let image = format!("images/{index}.png");
        folder.write(&format!("{name}/{image}"), question.scene.draw().to_png().expect("a file"));
        let wrong = format!("1+1+1+1. Answer: {}", 4 + index);
        let responses = json!([{"content": question.solution(), "reward": 1.0}, {"content": wrong, "reward": 0.0}]);
        row_of(&image, &question.text(), &responses)
    };
    folder.write(&format!("{name}/rows.jsonl"), (0..count).map(row).collect::<String>())
}

fn row_of(image: &str, text: &str, responses: &Value) -> String {
    let content = json!([{"type": "image", "image": image}, {"type": "text", "text": text}]);
    json!({"prompt": [{"role": "user", "content": content}], "responses": responses}).to_string() + "\n"
}

fn corpus(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/image").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[rstest]
#[case("missing.png", None, "No such file")]
#[case("broken.png", Some(b"\x89PNG\r\n\x1a\nnothing".to_vec()), "a broken PNG image")]
#[case("text.png", Some(b"text".to_vec()), "expected a PNG, JPEG or WebP image")]
#[case("animated.png", Some(corpus("animated.png")), "the image is animated")]
#[case("bomb.png", Some(corpus("pixel-bomb.png")), "pixels, and at most")]
fn every_verb_names_the_image_that_cannot_be_used(
    #[case] name: &str,
    #[case] bytes: Option<Vec<u8>>,
    #[case] problem: &str,
) {
    let folder = Folder::new();
    let model = model(&folder);
    let good = rows(&folder, "data", 1);
    if let Some(bytes) = bytes {
        folder.write(&format!("data/{name}"), bytes);
    }
    let responses = json!([{"content": "a", "reward": 1.0}, {"content": "b", "reward": 0.0}]);
    let text = std::fs::read_to_string(&good).expect("a row") + &row_of(name, "How many?", &responses);
    let data = folder.write("data/bad.jsonl", text);
    let verbs: [&[&str]; 4] = [
        &["data", "check", &data],
        &["data", "check", &data, "--model", &model],
        &["data", "stats", &data],
        &["data", "preview", &data, "--model", &model, "--num", "2"],
    ];
    for args in verbs {
        let Outcome { code, out, err } = collimate(args);
        let all = out + &err;
        let place = "bad.jsonl:2: field \"prompt[0].content[0].image\"";
        assert!(code != 0 && all.contains(place) && all.contains(problem), "{args:?}: {all}");
    }
}

#[test]
fn sizes_and_tokens_are_told_and_shown() {
    let folder = Folder::new();
    let (model, data) = (model(&folder), rows(&folder, "data", 3));
    let plain: Value = serde_json::from_str(&succeed(&["data", "stats", &data, "--json"]).out).expect("JSON");
    assert_eq!((&plain["images"]["count"], &plain["images"]["width"]["max"]), (&json!(3), &json!(112)));
    assert_eq!(plain["images"]["tokens"], Value::Null);
    let with_model = succeed(&["data", "stats", &data, "--model", &model]).out;
    assert!(with_model.contains("image tokens         min 16, mean 16.0"), "{with_model}");
    let page = folder.arg("page.html");
    let args = ["data", "preview", &data, "--model", &model, "--num", "2", "--html", &page];
    let shown = succeed(&args).out;
    assert!(shown.contains("image 1: image of 112 × 112 pixels, 16 tokens"), "{shown}");
    // The sixteen tokens of an image are shown as one.
    assert_eq!(shown.matches("<|image_pad|>").count(), 2, "{shown}");
    let page = folder.read("page.html");
    assert_eq!(page.matches("src=\"data:image/png;base64,").count(), 2, "{page}");
    assert!(page.contains("image of 112 × 112 pixels, 16 tokens") && page.contains("rows.jsonl:2"), "{page}");
}

const SETTINGS: [&str; 5] =
    ["max_steps=3", "learning_rate=1e-3", "eval_fraction=0.25", "sample_prompts=1", "reference_cache=false"];

fn run(folder: &Folder, model: &str, data: &str, name: &str, more: &[&str]) -> Outcome {
    let output = folder.arg(name);
    succeed(&train(model, data, &output, &[&SETTINGS[..], more].concat()))
}

fn losses(folder: &Folder, run: &str) -> Vec<Value> {
    let rows = folder.rows(&format!("{run}/metrics.jsonl"));
    rows.iter().map(|row| json!([row["loss"], row["eval_loss"], row["grad_norm"]])).collect()
}

fn is_found(outcome: &Outcome) -> bool {
    outcome.err.contains("as an earlier run made them")
}

#[test]
fn tokens_of_data_with_images_are_kept_until_an_image_changes() {
    let folder = Folder::new();
    let (model, data) = (model(&folder), rows(&folder, "data", 8));
    let cache = format!("token_cache={}", folder.arg("tokens"));
    // All rows in one store.
    let settings = [cache.as_str(), "eval_fraction=0"];
    assert!(!is_found(&run(&folder, &model, &data, "first", &settings)));
    assert!(is_found(&run(&folder, &model, &data, "second", &settings)));
    assert_eq!(losses(&folder, "first"), losses(&folder, "second"));
    let other = counting_question(6, 0, Split::Train).scene.draw().to_png().expect("a file");
    folder.write("data/images/3.png", other);
    assert!(!is_found(&run(&folder, &model, &data, "third", &settings)));
    assert_ne!(losses(&folder, "first"), losses(&folder, "third"));
    std::fs::remove_file(folder.path("data/images/3.png")).expect("a file");
    let output = folder.arg("fourth");
    let outcome = collimate(&train(&model, &data, &output, &[&SETTINGS[..], &settings[..]].concat()));
    assert!(outcome.code != 0 && outcome.err.contains("rows.jsonl:4: field"), "{}", outcome.err);
}

#[test]
fn where_the_data_is_decides_nothing() {
    let folder = Folder::new();
    let model = model(&folder);
    let (here, there) = (rows(&folder, "here", 12), rows(&folder, "else/where", 12));
    run(&folder, &model, &here, "first", &["token_cache=false"]);
    run(&folder, &model, &there, "second", &["token_cache=false"]);
    assert_eq!(losses(&folder, "first"), losses(&folder, "second"));
}

#[test]
fn a_report_shows_the_image_beside_the_answers() {
    let folder = Folder::new();
    let (model, data) = (model(&folder), rows(&folder, "data", 8));
    run(&folder, &model, &data, "run", &[]);
    let samples: Value = serde_json::from_str(&folder.read("run/samples.json")).expect("JSON");
    let sample = &samples["prompts"][0];
    assert_eq!(sample["images"][0]["alt"], "image of 112 × 112 pixels, 16 tokens", "{sample}");
    assert_eq!(sample["prompt"].as_str().map(|prompt| prompt.matches("<|image_pad|>").count()), Some(1), "{sample}");
    let report = folder.read("run/report.html");
    let (image, answers) = (report.find("src=\"data:image/png;base64,"), report.find("before training"));
    assert!(image.is_some() && image < answers, "{report}");
}

#[test]
fn the_smallest_budget_counts_the_tower_and_gives_the_same_steps() {
    let folder = Folder::new();
    let (model, data) = (model(&folder), rows(&folder, "data", 8));
    let batch = "per_device_train_batch_size=4";
    run(&folder, &model, &data, "free", &[batch]);
    let args = ["plan", "--json", "--quiet", "--model", &model, "--data", &data, "--set", batch];
    let plan: Value = serde_json::from_str(&succeed(&args).out).expect("JSON");
    let smallest = plan["memory"]["smallest_budget"].as_u64().unwrap_or_else(|| panic!("{plan}"));
    run(&folder, &model, &data, "tight", &[batch, &format!("memory_budget={smallest}")]);
    for (tight, free) in losses(&folder, "tight").iter().zip(losses(&folder, "free")) {
        for (tight, free) in [0, 1].map(|figure| (tight[figure].as_f64(), free[figure].as_f64())) {
            let apart = tight.zip(free).map_or(0.0, |(tight, free)| (tight / free - 1.0).abs());
            assert!(tight.is_some() == free.is_some() && apart < 1e-5, "{tight:?} {free:?}");
        }
    }
    let less = format!("memory_budget={}", smallest - 100_000);
    let output = folder.arg("less");
    let outcome = collimate(&train(&model, &data, &output, &[&SETTINGS[..], &[batch, less.as_str()]].concat()));
    assert!(outcome.code != 0 && outcome.err.contains("tokens with its prompt need"), "{}", outcome.err);
}

#[test]
fn bfloat16_is_near_float32_with_images() {
    let folder = Folder::new();
    let (model, data) = (model(&folder), rows(&folder, "data", 8));
    for dtype in ["float32", "bfloat16"] {
        run(&folder, &model, &data, dtype, &[&format!("compute_dtype={dtype}"), "sample_prompts=0"]);
    }
    let row = |run: &str| folder.rows(&format!("{run}/metrics.jsonl"));
    for (narrow, wide) in row("bfloat16").iter().zip(row("float32")) {
        let (Some(narrow), Some(wide)) = (narrow["loss"].as_f64(), wide["loss"].as_f64()) else { continue };
        assert!((narrow / wide - 1.0).abs() < 0.05, "{narrow} {wide}");
    }
    assert_ne!(losses(&folder, "bfloat16"), losses(&folder, "float32"));
}

#[test]
fn the_quickstart_of_images_samples_scores_aligns_and_measures() {
    let folder = Folder::new();
    let run = folder.arg("run");
    let args = ["train", "--quickstart", "images", "--output", &run, "--quickstart-problems", "16"];
    let err = succeed(&[&args[..], &["--set", "num_train_epochs=1"]].concat()).err;
    assert!(err.contains("held-out questions solved, before -> after"), "{err}");
    let results: Value = serde_json::from_str(&folder.read("run/results.json")).expect("JSON");
    let before = results["accuracy_greedy"]["before"].as_f64().expect("a share");
    // The committed base model answers some questions, but not all.
    assert!((0.1..0.95).contains(&before), "{results}");
    assert_eq!(folder.rows("run/metrics.jsonl").len(), folder.rows("run/data.jsonl").len().div_ceil(16));
    assert!(folder.path("run/images/train-0001.png").is_file());
    assert!(folder.read("run/report.html").contains("src=\"data:image/png;base64,"));
}

#[rstest]
#[case::both("[q_proj, attn.qkv, attn.proj]", &["attn.proj", "attn.qkv", "q_proj"])]
#[case::tower_alone("[attn.qkv]", &["attn.qkv"])]
fn an_adapter_on_the_tower_is_read_back(#[case] targets: &str, #[case] listed: &[&str]) {
    let folder = Folder::new();
    let (model, data) = (model(&folder), rows(&folder, "data", 4));
    let targets = format!("lora_target_modules={targets}");
    let settings = [
        "use_peft=true",
        "lora_r=2",
        "lora_dropout=0",
        "max_steps=2",
        "learning_rate=1e-2",
        "sample_prompts=0",
        targets.as_str(),
    ];
    succeed(&train(&model, &data, &folder.arg("run"), &settings));
    let config: Value = serde_json::from_str(&folder.read("run/adapter_config.json")).expect("JSON");
    let mut names: Vec<&str> = config["target_modules"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|name| name.as_str().expect("a name"))
        .collect();
    names.sort_unstable();
    assert_eq!(names, listed);
    let scored = |name: &str, adapter: &[&str]| {
        let output = folder.arg(name);
        let args = [&["score", "--model", &model, "--data", &data, "--output", &output], adapter].concat();
        succeed(&args);
        folder.read(name)
    };
    let adapter = folder.arg("run");
    assert_ne!(scored("plain.jsonl", &[]), scored("adapted.jsonl", &["--adapter", &adapter]));
}
