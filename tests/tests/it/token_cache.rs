//! Tokens of earlier runs: with them, without them and while they are damaged, a run gives the same bytes.

mod memory;

use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use rstest::rstest;
use serde_json::json;

use crate::harness::{Folder, Outcome, succeed, train};
use crate::process::Process;
use crate::small_model::model_arg;

/// Conversations of these numbers with three responses each.
fn rows(numbers: Range<usize>, words: usize) -> String {
    let response = |i: usize, k: usize| {
        let content = format!("{} ", i * 7 + k).repeat(words + (i + k) % 5);
        json!({"content": content.trim(), "reward": 1.0 - k as f64 / 3.0})
    };
    let row = |i: usize| {
        let responses: Vec<_> = (0..3).map(|k| response(i, k)).collect();
        let prompt = json!([{"role": "user", "content": format!("7 times {i}?")}]);
        json!({"prompt": prompt, "responses": responses}).to_string() + "\n"
    };
    numbers.map(row).collect()
}

const SETTINGS: [&str; 6] = [
    "max_steps=4",
    "learning_rate=1e-3",
    "eval_fraction=0.2",
    "sample_prompts=2",
    "save_steps=2",
    "reference_cache=false",
];

fn run(folder: &Folder, name: &str, cache: &str, more: &[&str]) -> Outcome {
    let (data, output, cache) = (folder.arg("rows.jsonl"), folder.arg(name), format!("token_cache={cache}"));
    let settings: Vec<&str> = SETTINGS.iter().copied().chain([cache.as_str()]).chain(more.iter().copied()).collect();
    succeed(&train(model_arg(), &data, &output, &settings))
}

/// What a run leaves that does not depend on its time.
fn results(folder: &Folder, name: &str) -> Vec<Vec<u8>> {
    let without_time = |line: &str| {
        let mut row: serde_json::Value = serde_json::from_str(line).expect("a row");
        for key in ["step_seconds", "tokens_per_second", "memory_bytes", "memory_mib"] {
            row.as_object_mut().expect("a row").remove(key);
        }
        row.to_string()
    };
    let rows = folder.read(&format!("{name}/metrics.jsonl")).lines().map(without_time).collect::<Vec<_>>().join("\n");
    let file = |file: &str| fs::read(folder.path(name).join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let state = folder.read(&format!("{name}/checkpoint-2/trainer_state.json"));
    let state: serde_json::Value = serde_json::from_str(&state).expect("a state");
    vec![
        file("model.safetensors"),
        file("samples.json"),
        file("lengths.json"),
        rows.into(),
        state["data"].to_string().into(),
    ]
}

fn stores(folder: &Folder) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.path("tokens")).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut stores: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "tokens")).collect();
    stores.sort();
    stores
}

fn is_found(outcome: &Outcome) -> bool {
    outcome.err.lines().any(|line| line.contains("tokens of ") && line.contains("as an earlier run made them"))
}

fn tokenizes(outcome: &Outcome) -> bool {
    outcome.err.lines().any(|line| line.starts_with("tokenizing "))
}

#[test]
fn a_second_run_starts_without_tokenizing_and_trains_the_same() {
    let folder = Folder::new();
    folder.write("rows.jsonl", rows(0..30, 3));
    let cache = folder.arg("tokens");
    let plain = run(&folder, "plain", "false", &[]);
    let first = run(&folder, "first", &cache, &[]);
    let second = run(&folder, "second", &cache, &[]);
    assert!(!is_found(&plain) && !is_found(&first) && is_found(&second), "{}", second.err);
    assert!(tokenizes(&plain) && tokenizes(&first) && !tokenizes(&second), "{}", second.err);
    assert!(!second.err.lines().any(|line| line.starts_with("reading ")), "{}", second.err);
    let expected = results(&folder, "plain");
    assert!(results(&folder, "first") == expected && results(&folder, "second") == expected);
    // Everything that is said of the data is said again.
    let said = |outcome: &Outcome| {
        let lines = outcome.err.lines().filter(|line| line.contains("layout ") || line.starts_with("data: "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(said(&first), said(&second));
    assert!(said(&first).len() == 2, "{:?}", said(&first));
}

#[test]
fn a_run_is_resumed_with_tokens_that_another_made() {
    let folder = Folder::new();
    let data = folder.write("rows.jsonl", rows(0..30, 3));
    let (whole, half) = (folder.arg("whole"), folder.arg("half"));
    let settings =
        |cache: &'static str| SETTINGS.iter().copied().chain(["lr_scheduler_type=constant", cache]).collect::<Vec<_>>();
    succeed(&train(model_arg(), &data, &whole, &settings("token_cache=false")));
    let short = settings("token_cache=false").into_iter().chain(["max_steps=2"]).collect::<Vec<_>>();
    succeed(&train(model_arg(), &data, &half, &short));
    run(&folder, "other", &folder.arg("tokens"), &["max_steps=1"]);
    let cache = format!("token_cache={}", folder.arg("tokens"));
    let resumed = succeed(&["train", "--resume", "--output", &half, "--set", "max_steps=4", "--set", &cache]);
    assert!(is_found(&resumed) && resumed.err.contains("resuming after step 2"), "{}", resumed.err);
    let weights = |name: &str| fs::read(folder.path(name).join("model.safetensors")).expect("weights");
    assert!(weights("half") == weights("whole"));
}

#[test]
fn plan_and_train_share_tokens() {
    let folder = Folder::new();
    let data = folder.write("rows.jsonl", rows(0..30, 3));
    let cache = format!("token_cache={}", folder.arg("tokens"));
    let plan = |cache: &str| {
        let settings = ["--set", "eval_fraction=0.2", "--set", "max_steps=4", "--set", cache];
        let args = ["plan", "--model", model_arg(), "--data", &data, "--objective", "nca", "--json"];
        let mut plan: serde_json::Value =
            serde_json::from_str(&succeed(&[&args[..], &settings].concat()).out).expect("a plan");
        // Others write to the disk meanwhile.
        plan["disk"].as_object_mut().expect("what the disk must hold").remove("free");
        plan
    };
    let without = plan("token_cache=false");
    assert_eq!(plan(&cache), without);
    assert_eq!(stores(&folder).len(), 1, "only what is trained on is planned");
    let first = run(&folder, "run", &folder.arg("tokens"), &[]);
    assert!(is_found(&first), "{}", first.err);
    assert_eq!(stores(&folder).len(), 2);
    assert_eq!(plan(&cache), without);
}

#[rstest]
#[case::data(&[])]
#[case::template(&["chat_template={% for m in messages %}{{ m.content }}:{% endfor %}"])]
#[case::system(&["system_prompt=Be brief."])]
#[case::length(&["max_length=40", "max_prompt_length=20"])]
#[case::seed(&["seed=7"])]
#[case::samples(&["max_samples=20"])]
fn other_tokens_are_made_anew(#[case] settings: &[&str]) {
    let folder = Folder::new();
    folder.write("rows.jsonl", rows(0..30, 3));
    run(&folder, "first", &folder.arg("tokens"), &[]);
    if settings.is_empty() {
        folder.write("rows.jsonl", rows(0..30, 3).replace("7 times 3?", "7 times 4?"));
    }
    let second = run(&folder, "second", &folder.arg("tokens"), settings);
    assert!(!is_found(&second), "{}", second.err);
    run(&folder, "plain", "false", settings);
    assert!(results(&folder, "second") == results(&folder, "plain"));
}

#[test]
fn damaged_tokens_are_made_again() {
    let folder = Folder::new();
    folder.write("rows.jsonl", rows(0..30, 3));
    run(&folder, "first", &folder.arg("tokens"), &[]);
    let expected = results(&folder, "first");
    let damages: [fn(&mut Vec<u8>); 4] = [
        |bytes| bytes[100] ^= 1,
        |bytes| bytes.truncate(bytes.len() - 100),
        |bytes| bytes.clear(),
        |bytes| bytes.extend([0; 64]),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        for path in stores(&folder) {
            let mut bytes = fs::read(&path).expect("a store");
            damage(&mut bytes);
            fs::write(&path, bytes).expect("a store");
        }
        let name = format!("run-{number}");
        let outcome = run(&folder, &name, &folder.arg("tokens"), &[]);
        assert!(!is_found(&outcome) && outcome.err.contains("cannot be used"), "{}", outcome.err);
        assert!(results(&folder, &name) == expected, "{name}");
    }
}

fn process(folder: &Folder, name: &str, data: &str, settings: &[&str]) -> Process {
    process_with(folder, name, data, settings, &[])
}

/// The same with variables of the environment.
fn process_with(folder: &Folder, name: &str, data: &str, settings: &[&str], variables: &[(&str, &str)]) -> Process {
    let output = folder.arg(name);
    let args = train(model_arg(), data, &output, settings);
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).chain(["--quiet".to_owned()]).collect();
    Process::start_with_variables(&folder.path(&format!("{name}-log")), &args, variables)
}

#[test]
fn processes_at_once_make_one_store() {
    let folder = Folder::new();
    let data = folder.write("rows.jsonl", rows(0..400, 3));
    let cache = format!("token_cache={}", folder.arg("tokens"));
    let settings: Vec<&str> = SETTINGS.iter().copied().chain([cache.as_str()]).collect();
    let names = ["a", "b", "c"];
    let all: Vec<Process> = names.iter().map(|name| process(&folder, name, &data, &settings)).collect();
    all.into_iter().for_each(Process::succeed);
    let expected = results(&folder, "a");
    assert!(names.iter().all(|name| results(&folder, name) == expected));
    assert_eq!(stores(&folder).len(), 2);
    let names =
        fs::read_dir(folder.path("tokens")).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let hidden: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with('.')).collect();
    assert!(hidden.is_empty(), "{hidden:?}");
}

/// A killed process leaves a part under a hidden name, which the next one removes.
#[cfg(unix)]
#[test]
fn what_a_killed_process_leaves_is_removed() {
    let folder = Folder::new();
    let data = folder.write("rows.jsonl", rows(0..6000, 30));
    let cache = format!("token_cache={}", folder.arg("tokens"));
    let settings = [cache.as_str(), "max_steps=1", "sample_prompts=0", "reference_cache=false"];
    let mut killed = process(&folder, "killed", &data, &settings);
    let hidden = || {
        let names = fs::read_dir(folder.path("tokens")).into_iter().flatten().flatten();
        names.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).count()
    };
    killed.wait_until(|_| hidden() > 0);
    killed.signal("KILL");
    drop(killed);
    assert_eq!((hidden(), stores(&folder).len()), (1, 0));
    process(&folder, "next", &data, &settings).succeed();
    assert_eq!((hidden(), stores(&folder).len()), (0, 1));
}

#[test]
fn a_folder_that_cannot_be_used_is_said() {
    let folder = Folder::new();
    folder.write("rows.jsonl", rows(0..30, 3));
    let taken = folder.write("taken", "mine");
    let outcome = run(&folder, "run", &taken, &[]);
    assert!(outcome.err.contains("token cache: ") && outcome.err.contains("for this run only"), "{}", outcome.err);
    run(&folder, "plain", "false", &[]);
    assert!(results(&folder, "run") == results(&folder, "plain"));
    assert_eq!(folder.read("taken"), "mine");
}

#[test]
fn data_from_a_pipe_is_read_once() {
    let folder = Folder::new();
    let data = folder.write("rows.jsonl", rows(0..30, 3));
    run(&folder, "plain", "false", &[]);
    let script = format!("cat {data} | {}", script_of(&folder));
    let shell = std::process::Command::new("sh").args(["-c", &script]).output().expect("a shell");
    assert!(shell.status.success(), "{}", String::from_utf8_lossy(&shell.stderr));
    let without_names = |name: &str| results(&folder, name)[0].clone();
    assert!(without_names("piped") == without_names("plain"));
}

/// A shell's words that train on `/dev/stdin`.
fn script_of(folder: &Folder) -> String {
    let output = folder.arg("piped");
    let settings: Vec<&str> = SETTINGS.iter().copied().chain(["token_cache=false"]).collect();
    let args = train(model_arg(), "/dev/stdin", &output, &settings);
    crate::process::script(&args)
}

#[test]
fn a_limit_on_samples_leaves_the_others_untokenized() {
    let folder = Folder::new();
    folder.write("rows.jsonl", rows(0..3000, 3));
    let outcome = run(&folder, "run", &folder.arg("tokens"), &["max_samples=50", "sample_prompts=0"]);
    assert!(outcome.err.contains("2950 groups left out: max_samples 50"), "{}", outcome.err);
    let bytes: u64 = stores(&folder).iter().map(|path| fs::metadata(path).expect("a store").len()).sum();
    assert!(bytes < 50_000, "{bytes} bytes of tokens");
}
