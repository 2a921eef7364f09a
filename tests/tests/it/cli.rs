//! What each command writes and returns.

use collimate_train::load_recipe;
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{Folder, collimate, succeed};
use crate::small_model::{adapter_arg, model_arg};

const GROUP: &str = r#"{"prompt": "two and two", "responses": [{"content": "four", "reward": 1.0}, {"content": "five", "reward": 0.25}, {"content": "six", "reward": 0.0}]}"#;

/// A file with this many groups of three responses.
pub(super) fn groups(folder: &Folder, count: usize) -> String {
    folder.write("groups.jsonl", [GROUP, "\n"].concat().repeat(count))
}

#[test]
fn objectives_are_listed_and_described() {
    let list = succeed(&["objectives"]).out;
    for name in ["nca ", "infonca ", "dpo ", "sft "] {
        assert!(list.lines().any(|line| line.starts_with(name)), "{name} in {list}");
    }
    let nca: Value = serde_json::from_str(&succeed(&["objectives", "nca", "--json"]).out).expect("JSON");
    assert_eq!(nca["name"], "nca");
    assert!(nca["paper"].as_str().is_some_and(|paper| paper.contains("2402.05369")));
    assert!(nca["defaults"]["alpha"].is_f64());
}

#[test]
fn an_unknown_objective_is_bad_input_and_the_nearest_is_named() {
    let outcome = collimate(&["objectives", "ncaa"]);
    assert_eq!((outcome.code, outcome.out.as_str()), (2, ""));
    assert!(outcome.err.contains("did you mean nca"), "{}", outcome.err);
}

#[test]
fn backends_tell_what_is_compiled_in_and_what_they_find() {
    let backends: Value = serde_json::from_str(&succeed(&["backends", "--json"]).out).expect("JSON");
    let backends = backends.as_array().expect("a list");
    let flex = backends.iter().find(|backend| backend["name"] == "flex").expect("the CPU backend");
    assert_eq!((&flex["compiled"], &flex["problem"]), (&json!(true), &Value::Null));
    let cpu = &flex["devices"][0];
    assert_eq!((&cpu["index"], &cpu["dtypes"][0]), (&json!(0), &json!("float32")));
    assert!(cpu["memory_bytes"].is_u64() || cfg!(not(target_os = "linux")), "{cpu}");
    // A backend without a device says why; the others are still listed.
    for backend in backends {
        let finds = backend["devices"].as_array().is_some_and(|devices| !devices.is_empty());
        let expected = backend["compiled"] == true && !finds;
        assert_eq!(backend["problem"].is_string(), expected, "{backend}");
    }
    let shown = succeed(&["backends"]).out;
    assert!(backends.iter().all(|backend| shown.contains(backend["name"].as_str().expect("a name"))), "{shown}");
}

#[test]
fn help_goes_to_stdout_and_mistakes_to_stderr() {
    let help = collimate(&["score", "--help"]);
    assert_eq!(help.code, 0);
    assert!(help.out.contains("Example:") && help.err.is_empty());
    let mistake = collimate(&["score", "--modle", "x"]);
    assert_eq!((mistake.code, mistake.out.as_str()), (2, ""));
    assert!(mistake.err.contains("--model"), "{}", mistake.err);
}

#[test]
fn every_recipe_in_configs_can_be_read() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the recipes") {
        let path = entry.expect("an entry").path();
        let recipe = load_recipe(Some(&path), &[]).unwrap_or_else(|error| panic!("{error}"));
        let built = collimate_objective::registry::build(&recipe.objective.name, &recipe.objective.params);
        built.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        count += 1;
    }
    assert!(count >= 5);
}

#[test]
fn scores_have_a_row_a_group_and_their_tokens_add_up() {
    let folder = Folder::new();
    let (data, output) = (groups(&folder, 3), folder.arg("scores.jsonl"));
    let model = model_arg();
    succeed(&["score", "--model", model, "--data", &data, "--output", &output, "--tokens", "--batch-size", "2"]);
    let rows = folder.rows("scores.jsonl");
    assert_eq!(rows.iter().map(|row| row["index"].as_u64()).collect::<Vec<_>>(), [Some(0), Some(1), Some(2)]);
    let floats = |value: &Value| -> Vec<f64> { serde_json::from_value(value.clone()).expect("numbers") };
    for response in rows.iter().flat_map(|row| row["responses"].as_array().expect("responses")) {
        let tokens = floats(&response["token_logps"]);
        assert_eq!(response["num_tokens"], tokens.len());
        assert!((tokens.iter().sum::<f64>() - response["logps"].as_f64().expect("a sum")).abs() < 1e-9);
        assert_eq!(response["response_ids"].as_array().map(Vec::len), Some(tokens.len()));
    }
    // Shared or repeated prompts, together or alone, give the same numbers.
    let separate = folder.arg("separate.jsonl");
    succeed(&["score", "--model", model, "--data", &data, "--output", &separate, "--separate", "--batch-size", "1"]);
    for (shared, separate) in rows.iter().zip(folder.rows("separate.jsonl")) {
        for k in 0..3 {
            let logps = |row: &Value| row["responses"][k]["logps"].as_f64().expect("a sum");
            assert!((logps(shared) - logps(&separate)).abs() < 1e-4 * logps(&separate).abs());
        }
    }
}

#[test]
fn data_is_checked_described_and_previewed() {
    let folder = Folder::new();
    let (data, model) = (groups(&folder, 4), model_arg());
    let check = succeed(&["data", "check", &data, "--model", model]).out;
    assert!(check.contains("4 rows, 4 groups, 0 errors") && check.contains("best (reward 1): four"), "{check}");
    // Four prompts with three responses each.
    let texts = "tokens decoded give the text of 16 of 16 prompts and responses; 12 of 12 responses compared";
    assert!(check.contains(texts) && !check.contains("warning"), "{check}");
    let stats: Value =
        serde_json::from_str(&succeed(&["data", "stats", &data, "--alpha", "1", "--json"]).out).expect("JSON");
    assert_eq!((&stats["num_groups"], &stats["num_responses"]), (&json!(4), &json!(12)));
    let preview = succeed(&["data", "preview", &data, "--model", model]).out;
    assert!(preview.contains("[2] reward 0") && !preview.contains('\u{1b}'), "{preview}");
    assert!(preview.contains("tokens decoded give the text of 4 of 4 prompts and responses"), "{preview}");
}

#[test]
fn every_error_of_a_file_is_shown_by_check() {
    let folder = Folder::new();
    let data = folder.write("d.jsonl", format!("{GROUP}\n{{\"prompt\": 1}}\n{GROUP}\n{{]\n"));
    let outcome = collimate(&["data", "check", &data]);
    assert_eq!(outcome.code, 2);
    assert!(outcome.err.contains("d.jsonl:2") && outcome.err.contains("d.jsonl:4"), "{}", outcome.err);
    assert!(outcome.err.contains("rows that cannot be used: 2"), "{}", outcome.err);
}

#[test]
fn groups_become_pairs_and_pairs_groups() {
    let folder = Folder::new();
    let (data, pairs, back) = (groups(&folder, 2), folder.arg("pairs.jsonl"), folder.arg("back.jsonl"));
    succeed(&["data", "convert", &data, "--to", "preference", "--output", &pairs]);
    let rows = folder.rows("pairs.jsonl");
    assert_eq!((rows.len(), &rows[0]["chosen"], &rows[0]["rejected"]), (2, &json!("four"), &json!("six")));
    succeed(&["data", "convert", &pairs, "--from", "preference", "--output", &back]);
    let rewards: Vec<_> = folder.rows("back.jsonl")[0]["responses"]
        .as_array()
        .expect("responses")
        .iter()
        .map(|response| response["reward"].as_f64())
        .collect();
    assert_eq!(rewards, [Some(1.0), Some(0.0)]);
}

#[test]
fn a_declared_direction_turns_the_rewards() {
    let folder = Folder::new();
    let (data, turned) = (groups(&folder, 1), folder.arg("turned.jsonl"));
    succeed(&["data", "convert", &data, "--higher-is-better", "false", "--output", &turned]);
    let row = &folder.rows("turned.jsonl")[0];
    assert_eq!(row["responses"][0]["reward"], -1.0);
}

#[test]
fn generation_is_repeatable_and_samples_differ() {
    let folder = Folder::new();
    let model = model_arg();
    let greedy =
        ["generate", "--model", model, "--prompt", "one", "--prompt", "two", "--max-new-tokens", "6", "--json"];
    let first = succeed(&greedy).out;
    assert_eq!(first.lines().count(), 2);
    assert_eq!(first, succeed(&greedy).out);

    let prompts = folder.write("prompts.jsonl", "{\"prompt\": \"one\"}\n{\"prompt\": \"two\"}\n");
    let sample = |seed: &str, name: &str| {
        let output = folder.arg(name);
        succeed(&[
            "sample",
            "--model",
            model,
            "--data",
            &prompts,
            "--output",
            &output,
            "-n",
            "3",
            "--seed",
            seed,
            "--max-new-tokens",
            "8",
            "--temperature",
            "2",
        ]);
        folder.read(name)
    };
    let first = sample("1", "a.jsonl");
    assert_eq!(first, sample("1", "b.jsonl"));
    assert_ne!(first, sample("2", "c.jsonl"));
    assert_eq!(folder.rows("a.jsonl")[1]["responses"].as_array().map(Vec::len), Some(3));
}

#[test]
fn a_merged_model_scores_as_its_adapter_does() {
    let folder = Folder::new();
    let (data, merged) = (groups(&folder, 1), folder.arg("merged"));
    let (model, adapter) = (model_arg(), adapter_arg());
    succeed(&["merge", "--model", model, "--adapter", adapter, "--output", &merged]);
    let score = |args: &[&str], name: &str| {
        let output = folder.arg(name);
        let all: Vec<&str> =
            ["score", "--data", &data, "--output", &output].into_iter().chain(args.iter().copied()).collect();
        succeed(&all);
        folder.rows(name)[0]["responses"][0]["logps"].as_f64().expect("a sum")
    };
    let together = score(&["--model", model, "--adapter", adapter], "together.jsonl");
    let whole = score(&["--model", &merged], "whole.jsonl");
    assert!((together - whole).abs() < 1e-4 * whole.abs(), "{together} {whole}");
}

#[test]
fn objective_values_come_back_with_the_rows() {
    let folder = Folder::new();
    let rows = folder.write(
        "rows.json",
        r#"[{"objective": "dpo", "policy_logps": [[-5, -6]], "reference_logps": [[-5, -6]], "rewards": [[1, 0]], "lengths": [[3, 3]]}]"#,
    );
    let values: Value = serde_json::from_str(&succeed(&["objective-values", &rows]).out).expect("JSON");
    let loss = values[0]["loss"][0].as_f64().expect("a loss");
    assert!((loss - std::f64::consts::LN_2).abs() < 1e-12);
    // −β/2 for the better response, β = 0.1.
    assert!((values[0]["grad_of_mean"][0][0].as_f64().expect("a gradient") + 0.05).abs() < 1e-12);
}

#[test]
fn a_file_of_prompts_without_a_prompt_is_refused_by_line() {
    let folder = Folder::new();
    let (prompts, output) = (folder.write("p.jsonl", "{\"prompt\": \"a\"}\n{\"text\": 1}\n"), folder.arg("o.jsonl"));
    let outcome = collimate(&["sample", "--model", model_arg(), "--data", &prompts, "--output", &output]);
    assert_eq!(outcome.code, 2);
    assert!(outcome.err.contains("p.jsonl:2"), "{}", outcome.err);
}

#[rstest]
fn completions_know_the_verbs(#[values("bash", "zsh", "fish", "powershell")] shell: &str) {
    let script = succeed(&["completions", shell]).out;
    for part in ["train", "reward", "num-responses", "objective"] {
        assert!(script.contains(part), "{part} in the script for {shell}");
    }
}

#[test]
fn manual_pages_are_written_for_every_verb() {
    let folder = Folder::new();
    let page = succeed(&["man"]).out;
    assert!(page.contains(".TH collimate 1") && page.contains("reward"), "{page}");
    succeed(&["man", "--output", &folder.arg("man")]);
    for name in ["collimate-reward.1", "collimate-data-check.1", "collimate.1"] {
        let page = folder.read(&format!("man/{name}"));
        assert!(page.contains(".TH ") && page.contains(".SH OPTIONS"), "{name}: {page}");
    }
}
