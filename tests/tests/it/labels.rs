//! Labels against scores, and what a recipe changes about conversations, from the command line to the saved model.

use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{Folder, Outcome, collimate, succeed};
use crate::small_model::model_arg;

/// Pairs of which the first is labeled against its scores.
const PAIRS: [(&str, &str, &str, f64, f64); 2] =
    [("Name a fruit. ", "Apple.", "Iron.", 2.0, 7.0), ("Name a metal. ", "Iron.", "Apple.", 8.0, 3.0)];

fn pairs(folder: &Folder, name: &str, row: impl Fn((&str, &str, &str, f64, f64)) -> Value) -> String {
    let rows: Vec<String> = PAIRS.map(row).iter().map(Value::to_string).collect();
    folder.write(name, rows.join("\n"))
}

fn scored((prompt, chosen, rejected, score_chosen, score_rejected): (&str, &str, &str, f64, f64)) -> Value {
    json!({"prompt": prompt, "chosen": chosen, "rejected": rejected, "score_chosen": score_chosen, "score_rejected": score_rejected})
}

fn train(folder: &Folder, name: &str, data: &str, more: &[&str]) -> (Vec<f64>, Outcome) {
    let output = folder.arg(name);
    let mut args = vec!["train", "--model", model_arg(), "--data", data, "--output", &output];
    for setting in ["learning_rate=1e-3", "num_train_epochs=3", "warmup_ratio=0", "shuffle=false", "sample_prompts=0"] {
        args.extend(["--set", setting]);
    }
    args.extend(["--set", "per_device_train_batch_size=2"]);
    args.extend(more);
    let outcome = succeed(&args);
    let losses =
        folder.rows(&format!("{name}/metrics.jsonl")).into_iter().map(|row| row["loss"].as_f64().expect("a loss"));
    (losses.collect(), outcome)
}

/// DPO knows only which response is the better one, and the file says so: scores change nothing.
#[test]
fn a_pair_is_trained_as_it_is_labeled() {
    let folder = Folder::new();
    let data = pairs(&folder, "scored.jsonl", scored);
    let unscored = pairs(
        &folder,
        "unscored.jsonl",
        |(prompt, chosen, rejected, ..)| json!({"prompt": prompt, "chosen": chosen, "rejected": rejected}),
    );
    let dpo = ["--objective", "dpo"];
    let (losses, outcome) = train(&folder, "a", &data, &dpo);
    assert_eq!(losses, train(&folder, "b", &unscored, &dpo).0);
    // DPO by its definition in PyTorch, on the pairs as they are labeled.
    for (found, expected) in losses.iter().zip([std::f64::consts::LN_2, 0.177577, 0.079317]) {
        assert!((found - expected).abs() < 1e-4, "{losses:?}");
    }
    let warning = format!(
        "warning: in 1 of 2 rows the scores contradict the label, the first {data}:1: the label decides; its score and the \
         highest are exchanged (label_conflicts: label)"
    );
    assert!(outcome.err.contains(&warning), "{}", outcome.err);
    // By the scores, the first pair is the other way round.
    let turned = pairs(&folder, "turned.jsonl", |(prompt, chosen, rejected, good, bad)| match good > bad {
        true => json!({"prompt": prompt, "chosen": chosen, "rejected": rejected}),
        false => json!({"prompt": prompt, "chosen": rejected, "rejected": chosen}),
    });
    let by_scores = train(&folder, "c", &data, &["--objective", "dpo", "--set", "label_conflicts=scores"]).0;
    assert_ne!(by_scores, losses);
    for (found, expected) in by_scores.iter().zip(train(&folder, "d", &turned, &dpo).0) {
        assert!((found - expected).abs() < 1e-4, "{found} {expected}");
    }
}

#[test]
fn rewards_are_exchanged_or_the_row_is_left_out() {
    let folder = Folder::new();
    let data = pairs(&folder, "scored.jsonl", scored);
    let exchanged = pairs(&folder, "exchanged.jsonl", |(prompt, chosen, rejected, a, b)| {
        scored((prompt, chosen, rejected, a.max(b), a.min(b)))
    });
    let second = folder.write("second.jsonl", scored(PAIRS[1]).to_string());
    assert_eq!(train(&folder, "a", &data, &[]).0, train(&folder, "b", &exchanged, &[]).0);
    let (dropped, outcome) = train(&folder, "c", &data, &["--set", "label_conflicts=drop"]);
    assert_eq!(dropped, train(&folder, "d", &second, &[]).0);
    assert!(outcome.err.contains("left out (label_conflicts: drop)"), "{}", outcome.err);
    let check = succeed(&["data", "check", &data]).out;
    assert!(check.contains(&format!("the first {data}:1: the label decides")), "{check}");
    let check = succeed(&["data", "check", &data, "--label-conflicts", "drop"]).out;
    assert!(check.contains("skipped: 1 × scores that contradict the label"), "{check}");
}

const CHAT: &str = r#"{"prompt": [{"role": "user", "content": "2+2?"}], "chosen": [{"role": "assistant", "content": "4"}], "rejected": [{"role": "assistant", "content": "5"}]}"#;
const TEMPLATE: &str = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}{{ mood }}\
                        {% if add_generation_prompt %}[assistant]{% endif %}";

#[rstest]
#[case::all_weights(&[])]
#[case::an_adapter(&["--set", "use_peft=true"])]
fn template_and_end_are_saved_with_the_result(#[case] more: &[&str]) {
    let folder = Folder::new();
    let (data, jinja) = (folder.write("d.jsonl", CHAT), folder.write("t.jinja", TEMPLATE));
    let path = format!("chat_template_path={jinja}");
    let mut settings = vec!["--set", &path, "--set", "eos_token=<|endoftext|>", "--set", "system_prompt=Be brief."];
    settings.extend(["--set", "chat_template_kwargs={mood: ':)'}"]);
    settings.extend(more);
    train(&folder, "run", &data, &settings);
    assert_eq!(folder.read("run/chat_template.jinja"), TEMPLATE);
    let config: Value = serde_json::from_str(&folder.read("run/tokenizer_config.json")).expect("JSON");
    assert_eq!((&config["eos_token"], &config["chat_template"]), (&json!("<|endoftext|>"), &Value::Null));
    // Another template would be another run.
    let output = folder.arg("run");
    let changed = folder.write("t.jinja", TEMPLATE.replace("[assistant]", "<assistant>"));
    assert_eq!(changed, jinja);
    let mut args = vec!["train", "--resume", "--output", &output];
    let refused = collimate(&args);
    assert!(refused.code != 0 && refused.err.contains("other data than"), "{}", refused.err);
    assert!(refused.err.contains("or another tokenizer"), "{}", refused.err);
    args.extend(["--set", "system_prompt=Rhyme."]);
    let refused = collimate(&args);
    assert!(refused.code != 0 && refused.err.contains("system_prompt: Rhyme. (there Be brief.)"), "{}", refused.err);
}

#[test]
fn a_text_prompt_of_a_model_with_a_template_is_said() {
    let folder = Folder::new();
    let data = pairs(&folder, "scored.jsonl", scored);
    let (_, outcome) = train(&folder, "run", &data, &[]);
    assert!(
        outcome.err.contains("2 prompts are text and encoded as they stand, without the model's chat template"),
        "{}",
        outcome.err
    );
    let preview = succeed(&["data", "preview", &data, "--model", model_arg()]).out;
    assert!(preview.contains("1 prompt is text and encoded as it stands"), "{preview}");
    let output = folder.arg("system");
    let args =
        ["train", "--model", model_arg(), "--data", &data, "--output", &output, "--set", "system_prompt=Be brief."];
    let refused = collimate(&args);
    assert!(
        refused.err.contains("system_prompt") && refused.err.contains(&format!("{data}:1 is text")),
        "{}",
        refused.err
    );
}

#[test]
fn a_row_whose_template_leaves_out_its_tools_is_refused() {
    let folder = Folder::new();
    let data = folder.write("d.jsonl", CHAT.replace("{\"prompt\"", "{\"tools\": [{\"name\": \"clock\"}], \"prompt\""));
    let outcome = collimate(&["data", "check", &data, "--model", model_arg()]);
    let expected = format!("{data}:1: chat template: it leaves out \"tools\", which the conversation has");
    assert!(outcome.code == 2 && outcome.err.contains(&expected), "{}", outcome.err);
    succeed(&["data", "check", &data, "--model", model_arg(), "--ignore-field", "tools"]);
}
