//! Which runs reuse the reference log-probs of earlier runs.

use std::fs;

use rstest::rstest;
use serde_json::json;

use crate::harness::{Folder, Outcome, succeed, train};
use crate::small_model::{adapter_arg, model, model_arg};

/// A distinct row for each of `numbers`, with three responses.
fn rows(numbers: &[i32]) -> String {
    let response = |content: String, reward: f64| json!({"content": content, "reward": reward});
    let row = |i: &i32| {
        let product = 7 * i;
        let responses = [
            response(format!("{product}"), 1.0),
            response(format!("{product}, or so I think it is"), 0.5),
            response(format!("{i}"), 0.0),
        ];
        json!({"prompt": [{"role": "user", "content": format!("7 times {i}?")}], "responses": responses}).to_string()
    };
    numbers.iter().map(row).collect::<Vec<_>>().join("\n")
}

/// One pass over the data, one prompt at a time.
fn run(folder: &Folder, name: &str, numbers: &[i32], model: &str, cache: &str, settings: &[&str]) -> Outcome {
    let (data, output) = (folder.write(&format!("{name}.jsonl"), rows(numbers)), folder.arg(name));
    let cache = format!("reference_cache={cache}");
    let mut all = vec!["per_device_train_batch_size=1", "learning_rate=1e-3", "shuffle=false", &cache];
    all.extend(settings);
    succeed(&train(model, &data, &output, &all))
}

/// Responses found in the cache, and responses in all.
fn found(outcome: &Outcome) -> (usize, usize) {
    let line = outcome.err.lines().find(|line| line.starts_with("reference log-probs: ") && line.contains(" of "));
    let line = line.unwrap_or_else(|| panic!("nothing about the cache in {}", outcome.err));
    let counts: Vec<usize> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    (counts[0], counts[1])
}

#[test]
fn a_subset_in_another_order_for_another_objective_finds_all_and_trains_the_same() {
    let folder = Folder::new();
    let cache = folder.arg("cache");
    let cold = run(&folder, "cold", &[2, 3, 4, 5, 6, 7], model_arg(), &cache, &[]);
    assert_eq!(found(&cold), (0, 6 * 3));

    let settings = ["objective=infonca", "objective.beta=0.3", "max_length=700"];
    let warm = run(&folder, "warm", &[6, 3, 2], model_arg(), &cache, &settings);
    assert_eq!(found(&warm), (3 * 3, 3 * 3));
    assert!(!warm.err.lines().any(|line| line == "reference log-probs (3)"), "nothing is scored: {}", warm.err);
    let plain = run(&folder, "plain", &[6, 3, 2], model_arg(), "false", &settings);
    assert!(!plain.err.contains("from the cache"), "{}", plain.err);
    assert!(plain.err.lines().any(|line| line == "reference log-probs (3)"), "{}", plain.err);
    let bytes = |name: &str| fs::read(folder.path(name).join("model.safetensors")).expect("weights");
    assert!(bytes("warm") == bytes("plain"), "numbers of the cache train another model");
    assert!(bytes("warm") != bytes("cold"));
}

#[test]
fn new_rows_are_scored_and_evaluation_uses_the_cache_too() {
    let folder = Folder::new();
    let cache = folder.arg("cache");
    run(&folder, "first", &[2, 3], model_arg(), &cache, &[]);
    let eval = folder.write("eval.jsonl", rows(&[2]));
    let second = run(&folder, "second", &[3, 4], model_arg(), &cache, &[&format!("eval_data={eval}")]);
    assert_eq!(found(&second), (3, 6));
    assert!(second.err.contains("3 of 3 responses from the cache"), "{}", second.err);
}

/// A run that fills the cache with numbers that the next run must not use.
#[rstest]
#[case::adapter(Some("adapter"), &[])]
#[case::prompts(None, &["share_prompt=false"])]
fn another_scorer_finds_nothing(#[case] adapter: Option<&str>, #[case] settings: &[&str]) {
    let folder = Folder::new();
    let cache = folder.arg("cache");
    run(&folder, "first", &[2, 3], model_arg(), &cache, &[]);
    let adapter = adapter.map(|key| format!("{key}={}", adapter_arg()));
    let all: Vec<&str> = settings.iter().copied().chain(adapter.as_deref()).collect();
    assert_eq!(found(&run(&folder, "second", &[2, 3], model_arg(), &cache, &all)), (0, 6));
    // Without the adapter it is the first run's model again.
    if adapter.is_some() {
        let base: Vec<&str> = all.into_iter().chain(["reference=base"]).collect();
        assert_eq!(found(&run(&folder, "third", &[2, 3], model_arg(), &cache, &base)), (6, 6));
    }
}

#[rstest]
#[case::dtype("config.json", "\"float32\"", "\"bfloat16\"", 6)]
#[case::theta("config.json", "10000.0", "20000.0", 0)]
#[case::template("tokenizer_config.json", r"'\\n'", "' '", 0)]
fn a_copy_of_the_model_finds_what_its_settings_do_not_change(
    #[case] file: &str,
    #[case] from: &str,
    #[case] to: &str,
    #[case] expected: usize,
) {
    let folder = Folder::new();
    let cache = folder.arg("cache");
    run(&folder, "first", &[2, 3], model_arg(), &cache, &[]);
    let copy = folder.copy(model(), "copy");
    let (before, file) = (fs::read_to_string(model().join(file)).expect("a file"), format!("copy/{file}"));
    folder.write(&file, before.replace(from, to));
    assert_ne!(folder.read(&file), before);
    assert_eq!(found(&run(&folder, "second", &[2, 3], &copy, &cache, &[])), (expected, 6));
}

#[test]
fn one_bit_of_the_weights_makes_another_model() {
    let folder = Folder::new();
    let cache = folder.arg("cache");
    run(&folder, "first", &[2, 3], model_arg(), &cache, &[]);
    let copy = folder.copy(model(), "copy");
    assert_eq!(found(&run(&folder, "second", &[2, 3], &copy, &cache, &[])), (6, 6));
    let mut bytes = fs::read(model().join("model.safetensors")).expect("weights");
    let lowest = bytes.len() - 4;
    bytes[lowest] ^= 1;
    folder.write("copy/model.safetensors", bytes);
    assert_eq!(found(&run(&folder, "third", &[2, 3], &copy, &cache, &[])), (0, 6));
}

#[test]
fn a_response_that_is_cut_is_another_one() {
    let folder = Folder::new();
    let cache = folder.arg("cache");
    run(&folder, "first", &[2, 3], model_arg(), &cache, &[]);
    // Enough for everything but the one long response per prompt.
    let second = run(&folder, "second", &[2, 3], model_arg(), &cache, &["max_length=40", "max_prompt_length=36"]);
    assert!(second.err.contains("cut: 0 prompts, 2 responses"), "{}", second.err);
    assert_eq!(found(&second), (4, 6));
    let third = run(&folder, "third", &[2, 3], model_arg(), &cache, &["max_prompt_length=5"]);
    assert!(third.err.contains("cut: 2 prompts, 0 responses"), "{}", third.err);
    assert_eq!(found(&third), (0, 6));
}

#[test]
fn a_cache_that_cannot_be_written_ends_no_run() {
    let folder = Folder::new();
    let taken = folder.write("taken", "no folder");
    let outcome = run(&folder, "run", &[2, 3], model_arg(), &taken, &[]);
    let notes: Vec<&str> = outcome.err.lines().filter(|line| line.contains("reference cache")).collect();
    assert_eq!(notes.len(), 1, "{}", outcome.err);
    assert!(notes[0].contains("for this run only"), "{}", notes[0]);
}
