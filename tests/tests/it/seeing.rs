//! What a run reports: summary, answers before and after, TensorBoard files, and pages of one or several runs.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Folder, collimate, succeed, train};
use crate::small_model::model_arg;

/// Groups of three scored responses.
fn groups(folder: &Folder, name: &str, from: i32) -> String {
    let group = |i: i32| {
        let response = |content: String, reward: f64| json!({"content": content, "reward": reward});
        let responses =
            [response(format!("{i}"), 0.0), response(format!("{}", 7 * i), 1.0), response(format!("{i} or so"), 0.5)];
        json!({"prompt": format!("What is 7 times {i}?"), "responses": responses}).to_string() + "\n"
    };
    folder.write(name, (from..from + 6).map(group).collect::<String>())
}

/// A short run on `train.jsonl`, evaluated on `held-out.jsonl`.
fn run(folder: &Folder, name: &str, settings: &[&str]) -> String {
    let (data, held_out) = (groups(folder, "train.jsonl", 2), groups(folder, "held-out.jsonl", 20));
    let (output, held_out) = (folder.arg(name), format!("eval_data={held_out}"));
    let mut all = vec!["max_steps=4", "per_device_train_batch_size=2", "learning_rate=1e-2", held_out.as_str()];
    // What the clock cuts would differ between runs.
    all.push("sample_time_share=1");
    all.extend(settings);
    succeed(&train(model_arg(), &data, &output, &all)).err
}

fn samples(folder: &Folder, run: &str) -> Value {
    serde_json::from_str(&folder.read(&format!("{run}/samples.json"))).expect("JSON")
}

#[test]
fn answers_of_before_and_after_are_those_of_the_two_models() {
    let folder = Folder::new();
    run(&folder, "run", &["sample_prompts=2", "sample_max_new_tokens=12"]);
    let samples = samples(&folder, "run");
    assert_eq!(samples["prompts"].as_array().map(Vec::len), Some(2));
    let first = &samples["prompts"][0];
    // From the held-out prompts; the second response is the best.
    assert!(first["place"].as_str().is_some_and(|place| place.ends_with("held-out.jsonl:1")), "{first}");
    assert!(first["prompt"].as_str().is_some_and(|prompt| prompt.contains("What is 7 times 20?")), "{first}");
    assert_eq!((&first["best"], &first["reward"]), (&json!("140"), &json!(1.0)));

    let prompts = folder.write("prompts.jsonl", json!({"prompt": "What is 7 times 20?"}).to_string() + "\n");
    let answer = |model: &str| {
        let out = folder.arg("answers.jsonl");
        let args = ["sample", "--model", model, "--data", &prompts, "--output", &out, "--force", "-n", "1"];
        succeed(&[&args[..], &["--temperature", "0", "--max-new-tokens", "12"]].concat());
        folder.rows("answers.jsonl")[0]["responses"][0]["content"].clone()
    };
    assert_eq!(first["before"], answer(model_arg()));
    assert_eq!(first["after"], answer(&folder.arg("run")));
    assert_ne!(first["before"], first["after"]);
    let report = folder.read("run/report.html");
    assert!(report.contains("Answers before and after") && report.contains("Length against implicit reward"));
}

#[test]
fn a_run_that_goes_on_keeps_the_answers_from_before_it() {
    let folder = Folder::new();
    run(&folder, "run", &["save_steps=2"]);
    let whole = folder.read("run/samples.json");
    for damaged in [whole.clone(), "{\"max_new".to_owned()] {
        fs::remove_dir_all(folder.path("run/checkpoint-4")).expect("a checkpoint");
        folder.write("run/samples.json", damaged);
        succeed(&["train", "--output", &folder.arg("run"), "--resume", "--set", "reference_cache=false"]);
        assert_eq!(folder.read("run/samples.json"), whole);
    }
}

#[test]
fn no_answers_where_none_are_asked_for() {
    let folder = Folder::new();
    let err = run(&folder, "run", &["sample_prompts=0"]);
    assert!(!folder.path("run/samples.json").exists() && !err.contains("answering"), "{err}");
    assert!(!folder.path("run/tensorboard").exists());
}

#[test]
fn a_run_says_what_it_is_before_it_begins_and_what_came_of_it_at_the_end() {
    let folder = Folder::new();
    let err = run(&folder, "run", &["use_peft=true", "lora_r=4"]);
    let line =
        |start: &str| err.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {err}"));
    assert!(line("model: llama, ").contains("LoRA r 4"), "{err}");
    assert!(line("reference: ").contains("blake3 "), "{err}");
    assert!(
        line("objective: nca (beta 0.1, alpha 0.33); weights softmax(reward/alpha) have ").contains(" nats"),
        "{err}"
    );
    assert!(line("data: 6 prompts, 18 responses (K 3), ").contains("cut: 0 prompts, 0 responses"), "{err}");
    assert!(line("held out: 6 prompts, ").contains("0 prompts with equal rewards"), "{err}");
    line("training: 4 steps of 2 prompts (1.33 epochs), learning rate 1e-2 (cosine after 1 step of warm-up)");
    assert!(line("memory: ").contains(" at the peak"), "{err}");
    line("training, first to last: loss 1.3863 -> ");
    line("held out, first to last: loss 1.3863 -> ");
    assert!(line("report: ").ends_with("run/report.html"), "{err}");
}

#[test]
fn event_files_are_there_where_a_recipe_of_trl_asks_for_them() {
    let folder = Folder::new();
    run(&folder, "run", &["report_to=tensorboard", "save_steps=2"]);
    let files = || fs::read_dir(folder.path("run/tensorboard")).expect("a folder").count();
    assert_eq!(files(), 1);
    fs::remove_dir_all(folder.path("run/checkpoint-4")).expect("a checkpoint");
    succeed(&["train", "--output", &folder.arg("run"), "--resume", "--set", "reference_cache=false"]);
    assert_eq!(files(), 2);
}

#[test]
fn several_runs_are_compared_on_one_page() {
    let folder = Folder::new();
    run(&folder, "small", &[]);
    run(&folder, "large", &["learning_rate=5e-2"]);
    let page = folder.arg("both.html");
    let out = succeed(&["report", &folder.arg("small"), &folder.arg("large"), "--output", &page]).out;
    assert_eq!(out.trim(), page);
    let html = folder.read("both.html");
    for part in ["small, large", "<td>learning_rate</td><td>0.01</td><td>0.05</td>", "eval_rewards/accuracies"] {
        assert!(html.contains(part), "{part}");
    }
    assert!(!html.contains("<td>seed</td>"));
    // The page is made anew, but no other file is replaced.
    let notes = folder.write("notes.html", "mine");
    let compare = |page: &str, more: &[&str]| {
        collimate(&[&["report", &folder.arg("small"), &folder.arg("large"), "--output", page], more].concat())
    };
    assert_eq!(compare(&page, &[]).code, 0);
    assert_eq!((compare(&notes, &[]).code, folder.read("notes.html").as_str()), (2, "mine"));
    assert_eq!(compare(&notes, &["--force"]).code, 0);
    let missing = collimate(&["report", &folder.arg("small"), &folder.arg("none")]);
    assert_eq!(missing.code, 2);
    assert!(missing.err.contains("none holds no metrics.jsonl"), "{}", missing.err);
}

#[test]
fn a_run_that_learns_nothing_says_so_before_and_after_in_log_and_report() {
    let folder = Folder::new();
    // Twelve steps at the rate that the README's recipe once had.
    let err = run(&folder, "run", &["use_peft=true", "learning_rate=5e-6", "max_steps=12"]);
    assert!(err.contains("warning: learning_rate 5e-6 is low for an adapter in 12 steps"), "{err}");
    let finding = "the run learned nothing: the held-out loss went from 1.3863 to 1.386";
    assert!(err.contains(&format!("warning: {finding}")), "{err}");
    assert!(err.contains("to try: learning_rate 1e-4 instead of 5e-6"), "{err}");
    let report = folder.read("run/report.html");
    assert!(report.contains(finding) && report.contains("<li>learning_rate 1e-4 instead of 5e-6"), "{report}");
}

#[test]
fn a_run_that_does_harm_says_so_in_log_and_report() {
    let folder = Folder::new();
    let err = run(&folder, "run", &["learning_rate=0.1", "max_steps=30"]);
    let mut losses = folder.rows("run/metrics.jsonl").into_iter().filter_map(|row| row["eval_loss"].as_f64());
    let (first, last) = (losses.next().expect("a loss"), losses.next_back().expect("a loss"));
    assert!(last > 1.01 * first, "the test's run does no harm: {first} {last}");
    assert!(err.contains("warning: the run did harm: the held-out loss rose from 1.3863 to "), "{err}");
    assert!(err.contains("a lower learning_rate (now 0.1)") && err.contains("a larger beta (now 0.1)"), "{err}");
    assert!(folder.read("run/report.html").contains("the run did harm"));
}

#[test]
fn a_report_says_what_was_trained_on_what_and_when() {
    let folder = Folder::new();
    run(&folder, "run", &["use_peft=true", "lora_r=4"]);
    let info: Value = serde_json::from_str(&folder.read("run/run.json")).expect("JSON");
    assert_eq!((&info["objective"], &info["parameters"]), (&json!("nca"), &json!({"beta": 0.1, "alpha": 0.33})));
    assert_eq!((&info["num_prompts"], &info["num_held_out"], &info["total_steps"]), (&json!(6), &json!(6), &json!(4)));
    assert_eq!((&info["trained"], &info["holds_likelihood"]), (&json!("LoRA r 4"), &json!(true)));
    assert!(info["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{info}");
    let report = folder.read("run/report.html");
    let date = info["started"].as_str().expect("a date").replace('T', " ").replace('Z', " UTC");
    for part in ["train.jsonl: 6 prompts, 18 responses; 6 prompts held out", "flex: CPU", "LoRA r 4", date.as_str()] {
        assert!(report.contains(part), "{part}: {report}");
    }
    for part in ["data-name=\"held out\"", "<h3>Throughput", "<h3>Memory", "tokens/s", ">step</text>"] {
        assert!(report.contains(part), "{part}");
    }
    assert!(folder.rows("run/metrics.jsonl").iter().any(|row| row["memory_bytes"].as_u64() > Some(1 << 20)));
}

#[test]
fn a_comparison_shows_answers_side_by_side_and_lengths_on_a_logarithmic_axis() {
    let folder = Folder::new();
    run(&folder, "short", &[]);
    run(&folder, "long", &["max_steps=12"]);
    let page = folder.arg("both.html");
    succeed(&["report", &folder.arg("short"), &folder.arg("long"), "--output", &page]);
    let html = folder.read("both.html");
    for part in ["short, after training", "long, after training", "step (logarithmic)", "best in the data, reward 1"] {
        assert!(html.contains(part), "{part}");
    }
}
