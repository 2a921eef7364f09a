//! Runs whose reference is scored step by step, while the policy trains.

use std::fs;

use rstest::rstest;

use crate::harness::{Folder, Outcome, backend, succeed, train};
use crate::process::Process;
use crate::resume::{groups, timeless};
use crate::small_model::{adapter_arg, model_arg};

/// Four steps of three prompts an epoch.
const COMMON: [&str; 4] = ["use_peft=true", "per_device_train_batch_size=3", "learning_rate=1e-2", "sample_prompts=0"];
const NOTE: &str = "each prompt's are computed before the first step that visits it";
const UP_FRONT: &str = "precompute_ref_log_probs=true";

fn run(folder: &Folder, name: &str, settings: &[&str]) -> Outcome {
    let (data, output) = (groups(folder), folder.arg(name));
    succeed(&train(model_arg(), &data, &output, &[&COMMON, settings].concat()))
}

fn weights(folder: &Folder, name: &str) -> Vec<u8> {
    fs::read(folder.path(name).join("adapter_model.safetensors")).expect("an adapter")
}

fn check_same(folder: &Folder, one: &str, other: &str) {
    assert_eq!(timeless(folder, one), timeless(folder, other));
    assert!(weights(folder, one) == weights(folder, other), "the adapters of {one} and {other} differ");
}

/// The number before `what` in the last line that has it.
fn number(outcome: &Outcome, what: &str) -> Option<usize> {
    let before = outcome.err.lines().filter_map(|line| line.split_once(what)).next_back()?.0;
    before.rsplit(' ').next().and_then(|number| number.parse().ok())
}

/// Prompts of the training data that a run says it scored, once all are known.
fn num_scored(outcome: &Outcome) -> Option<usize> {
    number(outcome, " prompts scored in ")
}

#[rstest]
#[case::fresh(&[])]
#[case::base(&["reference=base"])]
#[case::in_order(&["shuffle=false"])]
#[case::one_by_one(&["per_device_train_batch_size=1", "gradient_accumulation_steps=3"])]
#[case::embedding(&["lora_target_modules=embed_tokens,q_proj"])]
#[case::bfloat16(&["compute_dtype=bfloat16"])]
#[case::coupled(&["objective=kto"])]
fn a_reference_that_waits_trains_the_same(#[case] settings: &[&str]) {
    if backend() != "flex" {
        return;
    }
    let folder = Folder::new();
    let settings = [&["max_steps=10"], settings].concat();
    let (waits, before) =
        (run(&folder, "waits", &settings), run(&folder, "before", &[&settings[..], &[UP_FRONT]].concat()));
    assert!(waits.err.contains(NOTE), "{}", waits.err);
    assert!(!waits.err.contains("reference log-probs (12)"), "{}", waits.err);
    assert!(before.err.contains("reference log-probs (12)") && !before.err.contains(NOTE), "{}", before.err);
    assert_eq!(num_scored(&waits), Some(12), "each prompt once in two epochs and a half: {}", waits.err);
    check_same(&folder, "waits", "before");
}

#[rstest]
#[case::up_front(&[UP_FRONT])]
#[case::all_weights(&["use_peft=false"])]
#[case::dora(&["use_dora=true"])]
#[case::output_layer(&["lora_target_modules=lm_head,q_proj"])]
#[case::whole_tensors(&["lora_modules_to_save=lm_head"])]
#[case::another_model(&["reference=MODEL"])]
#[case::an_adapter_trained_further(&["adapter=ADAPTER"])]
fn what_training_changes_is_scored_before_it(#[case] settings: &[&str]) {
    let folder = Folder::new();
    let placed = |text: &&str| text.replace("MODEL", model_arg()).replace("ADAPTER", adapter_arg());
    let settings: Vec<String> = settings.iter().map(placed).collect();
    let settings = settings.iter().map(String::as_str).chain(["max_steps=4"]).collect::<Vec<_>>();
    let outcome = run(&folder, "run", &settings);
    assert!(!outcome.err.contains(NOTE), "{}", outcome.err);
    assert!(outcome.err.contains("reference log-probs (12)"), "{}", outcome.err);
}

/// The base of an adapter that is trained further stays as it is.
#[test]
fn the_base_of_an_adapter_waits() {
    if backend() != "flex" {
        return;
    }
    let folder = Folder::new();
    let adapter = format!("adapter={}", adapter_arg());
    let settings = ["max_steps=5", "reference=base", &adapter];
    assert!(run(&folder, "waits", &settings).err.contains(NOTE));
    run(&folder, "before", &[&settings[..], &[UP_FRONT]].concat());
    check_same(&folder, "waits", "before");
}

/// Held-out prompts are scored when the first evaluation needs them, between steps too: a resumed run that finds its first
/// evaluation done scores them at the next.
#[rstest]
fn a_run_resumed_after_any_step_ends_with_the_same_bytes(
    #[values(1, 3, 4, 6)] step: usize,
    #[values(false, true)] with_cache: bool,
) {
    if backend() != "flex" {
        return;
    }
    let folder = Folder::new();
    let cache = if with_cache { folder.arg("cache") } else { "false".to_owned() };
    let cache = format!("reference_cache={cache}");
    let rows: Vec<String> = fs::read_to_string(groups(&folder)).expect("rows").lines().map(str::to_owned).collect();
    let held_out = rows[..5].iter().map(|row| row.replace("What is", "How much is") + "\n").collect::<String>();
    let held_out = format!("eval_data={}", folder.write("held-out.jsonl", held_out));
    let settings = ["max_steps=9", "save_steps=1", &held_out, "eval_steps=5", &cache];
    run(&folder, "before", &[&settings[..4], &[UP_FRONT]].concat());
    let whole = run(&folder, "whole", &settings);
    assert_eq!(num_scored(&whole), Some(12), "{}", whole.err);
    check_same(&folder, "whole", "before");

    let checkpoint = format!("checkpoint-{step}");
    folder.copy(&folder.path(&format!("whole/{checkpoint}")), &format!("killed/{checkpoint}"));
    folder.write("killed/metrics.jsonl", folder.read("whole/metrics.jsonl"));
    let (data, output) = (groups(&folder), folder.arg("killed"));
    let mut arguments = train(model_arg(), &data, &output, &[]);
    let all: Vec<&str> = COMMON.iter().chain(&settings).flat_map(|setting| ["--set", setting]).collect();
    arguments.extend(all);
    arguments.push("--resume");
    let resumed = succeed(&arguments);
    assert!(resumed.err.contains(&format!("resuming after step {step}")), "{}", resumed.err);
    assert_eq!(num_scored(&resumed).is_none(), with_cache, "{}", resumed.err);
    check_same(&folder, "whole", "killed");
}

#[test]
fn a_second_run_finds_what_the_first_one_came_to() {
    if backend() != "flex" {
        return;
    }
    let folder = Folder::new();
    let cache = format!("reference_cache={}", folder.arg("cache"));
    let first = run(&folder, "first", &["max_steps=2", &cache]);
    assert_eq!(number(&first, " of 36 responses from the cache"), None, "only what two steps visit: {}", first.err);
    assert_eq!(number(&first, " of 18 responses from the cache"), Some(0), "{}", first.err);
    let second = run(&folder, "second", &["max_steps=5", &cache]);
    assert_eq!(number(&second, " of 36 responses from the cache"), Some(18), "{}", second.err);
    assert_eq!(num_scored(&second), Some(6), "{}", second.err);
    let third = run(&folder, "third", &["max_steps=5", &cache]);
    assert_eq!(number(&third, " of 36 responses from the cache"), Some(36), "{}", third.err);
    assert!(!third.err.contains(NOTE), "{}", third.err);
    assert_eq!(num_scored(&third), None);
    run(&folder, "plain", &["max_steps=5"]);
    check_same(&folder, "second", "plain");
    check_same(&folder, "third", "plain");
}

/// Killed without warning in the middle of the first epoch, with the cache half full.
#[test]
fn a_killed_run_goes_on_from_its_cache() {
    if backend() != "flex" {
        return;
    }
    let folder = Folder::new();
    let data = groups(&folder);
    let cache = format!("reference_cache={}", folder.arg("cache"));
    let settings = ["max_steps=12", "save_steps=1", "per_device_train_batch_size=1", &cache];
    let all = [&COMMON[..], &settings].concat();
    let arguments: Vec<String> = train(model_arg(), &data, "run", &all).into_iter().map(str::to_owned).collect();
    let whole = run(&folder, "whole/run", &[&settings[..3], &[UP_FRONT]].concat());
    assert!(whole.err.contains("reference log-probs (12)"), "{}", whole.err);

    let here = folder.path("killed");
    let mut process = Process::start(&here, &arguments);
    process.wait_until(|_| here.join("run/checkpoint-2").is_dir());
    process.signal("KILL");
    let (code, log) = process.wait();
    assert_eq!(code, None, "{log}");
    Process::start(&here, &[&arguments[..], &["--resume".to_owned()]].concat()).succeed();
    check_same(&folder, "whole/run", "killed/run");
}
