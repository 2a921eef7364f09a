//! The log file of a command, and what progress says of a run's steps.

use rstest::rstest;
use serde_json::json;

use crate::harness::{Folder, collimate, succeed, train};
use crate::small_model::model_arg;

/// Rows of prompts with three responses.
fn data(folder: &Folder) -> String {
    let row = |i: usize| {
        let responses: Vec<_> = (0..3).map(|k| json!({"content": format!("{}", i * (k + 3)), "reward": k})).collect();
        json!({"prompt": format!("What is 3 times {i}?"), "responses": responses}).to_string() + "\n"
    };
    folder.write("data.jsonl", (2..14).map(row).collect::<String>())
}

const SETTINGS: [&str; 4] = ["eval_fraction=0.4", "eval_steps=2", "max_steps=6", "per_device_train_batch_size=2"];

/// A log's lines without their times, which must be there.
fn lines(text: &str) -> Vec<&str> {
    let line = |line: &'_ str| {
        let time = line.get(..20).filter(|time| time.ends_with(' ') && time.matches([':', '-']).count() == 4);
        assert!(time.is_some(), "{line}");
    };
    text.lines().inspect(|text| line(text)).map(|line| &line[20..]).collect()
}

#[rstest]
#[case::option(&["--log-file"], &[])]
#[case::recipe(&[], &["log_file"])]
#[case::quiet(&["--log-file"], &["quiet"])]
fn every_line_is_also_in_the_log_file(#[case] option: &[&str], #[case] key: &[&str]) {
    let folder = Folder::new();
    let (data, output, log) = (data(&folder), folder.arg("run"), folder.arg("logs/run.log"));
    let mut args = train(model_arg(), &data, &output, &SETTINGS);
    let named = format!("log_file={log}");
    args.extend(option.iter().flat_map(|option| [*option, &*log]));
    match key {
        ["quiet"] => args.push("--quiet"),
        [_] => args.extend(["--set", &named]),
        _ => {}
    }
    let outcome = succeed(&args);
    let text = folder.read("logs/run.log");
    let logged = lines(&text);
    for line in ["training with nca (6)", "evaluation (5)", &output] {
        assert!(logged.iter().any(|logged| logged.ends_with(line)), "{line:?} is not in {text}");
    }
    // Lines with a speed or a time depend on when they were written.
    let steady =
        |line: &&str| ["model: ", "data: ", "memory: ", "report: "].iter().any(|start| line.starts_with(start));
    assert!(outcome.err.lines().filter(steady).all(|line| logged.contains(&line)), "{text}");
    assert!(!text.contains('\x1b'), "{text}");

    // A second command appends, errors included.
    let again = collimate(&args);
    assert_ne!(again.code, 0);
    let text = folder.read("logs/run.log");
    assert!(lines(&text).last().is_some_and(|line| line.contains("holds a run already")), "{text}");
    assert!(text.matches("model: llama").count() == 1, "{text}");
}

#[test]
fn steps_are_counted_over_evaluations() {
    let folder = Folder::new();
    let (data, output) = (data(&folder), folder.arg("run"));
    let err = succeed(&train(model_arg(), &data, &output, &SETTINGS)).err;
    let of = |start: &str| err.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!(of("training with nca ("), 1, "the steps begin once: {err}");
    for step in [0, 2, 4, 6] {
        assert_eq!(of(&format!("evaluation after step {step}: 5/5 in ")), 1, "{err}");
        assert!(of(&format!("training with nca: {step}/6")) > 0, "{err}");
    }
    let ended =
        err.lines().find(|line| line.starts_with("training with nca: 6/6 in ")).unwrap_or_else(|| panic!("{err}"));
    assert!(ended.contains("steps/s") && ended.contains(" tokens/s"), "{ended}");
}
