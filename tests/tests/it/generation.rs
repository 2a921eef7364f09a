//! Generation and sampling.

use serde_json::{Value, json};

use crate::changed_model::changed_model;
use crate::faults::overflow;
use crate::harness::{Folder, collimate, succeed};
use crate::small_model::{model, model_arg};

pub(crate) const PROMPTS: [&str; 2] = ["How many eggs are left?", "James runs 3 sprints a week."];

/// Generated token ids, by prompt.
pub(crate) fn generate(model: &[&str], prompts: &[&str], extra: &[&str]) -> Vec<Value> {
    let prompts: Vec<&str> = prompts.iter().flat_map(|prompt| ["--prompt", prompt]).collect();
    let out = succeed(&[&["generate", "--json"], model, &prompts, extra].concat()).out;
    let row = |line: &str| serde_json::from_str::<Value>(line).expect("a row")["response_ids"].clone();
    out.lines().map(row).collect()
}

#[test]
fn greedy_output_is_the_same_again_alone_and_in_part() {
    let model = ["--model", model_arg()];
    let both = generate(&model, &PROMPTS, &["--max-new-tokens", "12"]);
    assert_eq!(both, generate(&model, &PROMPTS, &["--max-new-tokens", "12", "--seed", "7"]));
    assert_eq!(both[1..], generate(&model, &PROMPTS[1..], &["--max-new-tokens", "12"]));
    for (whole, part) in both.iter().zip(generate(&model, &PROMPTS, &["--max-new-tokens", "5"])) {
        let whole = whole.as_array().expect("ids");
        assert_eq!(part.as_array().expect("ids"), &whole[..5.min(whole.len())]);
    }
    assert_ne!(both[0], both[1]);
}

#[test]
fn samples_once_scored_can_be_trained_on() {
    let folder = Folder::new();
    let model = model_arg();
    let prompt = |text: &str| json!({"prompt": [{"role": "user", "content": text}]}).to_string() + "\n";
    let prompts = folder.write("prompts.jsonl", PROMPTS.map(prompt).concat());
    let samples = folder.arg("samples.jsonl");
    let args = ["sample", "--model", model, "--data", &prompts, "--output", &samples, "--num-responses", "5"];
    succeed(&[&args[..], &["--max-new-tokens", "10"]].concat());

    let mut rows = folder.rows("samples.jsonl");
    assert_eq!(rows.len(), PROMPTS.len());
    for (row, text) in rows.iter_mut().zip(PROMPTS) {
        assert_eq!(row["prompt"], json!([{"role": "user", "content": text}]));
        let responses = row["responses"].as_array_mut().expect("responses");
        assert_eq!(responses.len(), 5);
        assert!(responses.iter().any(|response| *response != responses[0]), "samples at temperature 1 are not alike");
        for (k, response) in responses.iter_mut().enumerate() {
            response["reward"] = json!(k as f64 / 4.0);
        }
    }
    let scored = folder.write("scored.jsonl", rows.iter().map(|row| format!("{row}\n")).collect::<String>());
    let run = folder.arg("run");
    let args = ["train", "--model", model, "--data", &scored, "--output", &run, "--set", "max_steps=2", "--quiet"];
    succeed(&args);
    assert_eq!(folder.rows("run/metrics.jsonl")[1]["rewards/rank_4"].as_f64().map(f64::is_finite), Some(true));
}

/// A tokenizer's dropout is turned off; each verb that reads one says so, once.
#[test]
fn a_setting_of_the_tokenizer_that_is_not_applied_is_said_once() {
    let folder = Folder::new();
    let model = folder.copy(model(), "m");
    let path = folder.path("m/tokenizer.json");
    let text = std::fs::read(&path).expect("a tokenizer");
    let mut tokenizer: Value = serde_json::from_slice(&text).expect("JSON");
    assert_eq!(tokenizer["model"]["type"], "BPE");
    tokenizer["model"]["dropout"] = json!(0.5);
    folder.write("m/tokenizer.json", tokenizer.to_string());
    let response = |text: &str, reward: u8| json!({"content": text, "reward": reward});
    let row = json!({"prompt": "2 * 2", "responses": [response("4", 1), response("5", 0)]});
    let data = folder.write("d.jsonl", format!("{row}\n"));
    let verbs: [&[&str]; 3] = [
        &["generate", "--prompt", "2 * 2", "--max-new-tokens", "2"],
        &["sample", "--data", &data, "--output", &folder.arg("s.jsonl"), "-n", "1", "--max-new-tokens", "2"],
        &["score", "--data", &data, "--output", &folder.arg("l.jsonl"), "--quiet"],
    ];
    for verb in verbs {
        let err = succeed(&[verb, &["--model", &model]].concat()).err;
        assert_eq!(err.matches("field \"model.dropout\": 0.5 is not applied").count(), 1, "{verb:?}: {err}");
    }
}

/// Samples of two prompts with an answer key.
fn sample(folder: &Folder, name: &str, extra: &[&str]) -> Vec<Value> {
    let prompt = |text: &str| json!({"id": text.len(), "prompt": text, "key": {"answer": 4}}).to_string() + "\n";
    let prompts = folder.write("prompts.jsonl", PROMPTS.map(prompt).concat());
    let output = folder.arg(name);
    let args = ["sample", "--model", model_arg(), "--data", &prompts, "--output", &output, "--max-new-tokens", "8"];
    succeed(&[&args, extra].concat());
    folder.rows(name)
}

#[test]
fn samples_follow_the_seed_and_the_temperature_and_keep_what_a_row_has() {
    let folder = Folder::new();
    let first = sample(&folder, "first", &["-n", "3", "--seed", "1"]);
    assert_eq!(first, sample(&folder, "again", &["-n", "3", "--seed", "1"]));
    assert_ne!(first, sample(&folder, "other", &["-n", "3", "--seed", "2"]));
    let greedy = sample(&folder, "greedy", &["-n", "3", "--temperature", "0"]);
    for row in &greedy {
        let responses = row["responses"].as_array().expect("responses");
        assert!(responses.len() == 3 && responses.iter().all(|response| *response == responses[0]), "{row}");
        assert_eq!(row["key"], json!({"answer": 4}));
    }
    assert_ne!(first, greedy);
    // A tiny top-p keeps only the likeliest token; a tiny temperature gives it all the weight.
    assert_eq!(greedy, sample(&folder, "nucleus", &["-n", "3", "--top-p", "1e-9"]));
    assert_eq!(greedy, sample(&folder, "cold", &["-n", "3", "--temperature", "1e-6"]));
}

/// `score` wrote null, and the others drew token 0 until the longest answer was full, with exit code 0.
#[test]
fn numbers_that_are_not_finite_name_the_row_and_leave_no_file() {
    let folder = Folder::new();
    let model = changed_model(&folder, overflow);
    let row = json!({"prompt": "a", "responses": [{"content": "b", "reward": 1}, {"content": "c", "reward": 0}]});
    let data = folder.write("data.jsonl", format!("\n{row}\n"));
    let output = folder.arg("out.jsonl");
    let file = ["--model", &model, "--data", &data, "--output", &output];
    let drawn = "response 0 cannot be drawn: the logits of its token 0 are not finite";
    let cases = [
        ([&["score", "--quiet"], &file[..]].concat(), "data.jsonl:2: the log-prob of response 0 is "),
        ([&["score", "--quiet", "--tokens"], &file[..]].concat(), "data.jsonl:2: the log-prob of response 0 is "),
        ([&["sample", "-n", "2"], &file[..]].concat(), &format!("data.jsonl:2: {drawn}")),
        ([&["sample", "--temperature", "0"], &file[..]].concat(), &format!("data.jsonl:2: {drawn}")),
        (vec!["generate", "--model", &model, "--prompt", "a"], &format!("prompt 1: {drawn}")),
    ];
    for (args, expected) in cases {
        let outcome = collimate(&args);
        assert_eq!((outcome.code, outcome.out.as_str()), (1, ""), "{args:?}: {}", outcome.err);
        assert!(outcome.err.contains(expected), "{args:?}: {}", outcome.err);
    }
    let mut left: Vec<_> =
        std::fs::read_dir(folder.path("")).expect("a folder").flatten().map(|e| e.file_name()).collect();
    left.sort();
    assert_eq!(left, ["changed", "data.jsonl"]);
}
