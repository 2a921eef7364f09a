//! Runs that are killed, resumed from any checkpoint, given other threads or a partial cache must end with the same bytes.

use std::fs;
use std::path::Path;

use collimate_chaos::compare::training_differences;
use collimate_chaos::{Disturbance, Inputs, Program, Ready, Run, Trial, VERBS, Workload, rows};
use rstest::rstest;

use crate::harness::{Folder, Outcome, succeed, train};
use crate::process::{self, Process};
use crate::small_model::{model, model_arg};

/// Settings of every run here: three epochs of four steps, each epoch with a short last step.
const COMMON: [&str; 5] = [
    "per_device_train_batch_size=2",
    "gradient_accumulation_steps=2",
    "num_train_epochs=3",
    "learning_rate=1e-3",
    "seed=3",
];
const FULL: &[&str] = &["save_steps=2", "save_total_limit=2", "eval_steps=4"];
const ADAPTER: &[&str] =
    &["use_peft=true", "lora_r=4", "lora_dropout=0.1", "gradient_checkpointing=true", "save_steps=1", "eval_steps=0"];

/// The command line of a run into the subfolder `run` of its working folder.
fn command(folder: &Folder, settings: &[&str]) -> Vec<String> {
    let (data, eval) =
        (folder.write("data.jsonl", rows(1, "train", 14)), folder.write("eval.jsonl", rows(1, "held-out", 4)));
    let eval = format!("eval_data={eval}");
    let evaluates = settings.iter().any(|setting| setting.starts_with("eval_steps="));
    let all: Vec<&str> = COMMON.iter().chain(settings).copied().chain(evaluates.then_some(eval.as_str())).collect();
    train(model_arg(), &data, "run", &all).into_iter().map(str::to_owned).collect()
}

/// Numbers that fill the interval from 0 to 1 evenly, for any count.
fn spread(index: usize) -> f64 {
    (0.5 + index as f64 * 0.618_033_988_749_895).fract()
}

/// Fails if two runs ended with different weights or metrics.
#[track_caller]
fn assert_same_training(expected: &Path, found: &Path) {
    assert_eq!(training_differences(expected, found).expect("two runs"), Vec::<String>::new());
}

/// Kills that must hit in each workload.
const NUM_KILLS: usize = 8;
/// The same for each verb.
const NUM_KILLS_OF_A_VERB: usize = 4;

/// [`FULL`] and [`ADAPTER`] as workloads of the harness, and one that scores pairs.
const WORKLOADS: [Workload; 3] = [
    Workload {
        name: "full",
        about: "all weights, accumulated batches, evaluation, two checkpoints kept",
        objectives: &["nca"],
        settings: &[
            "per_device_train_batch_size=2",
            "gradient_accumulation_steps=2",
            "num_train_epochs=3",
            "save_steps=2",
            "save_total_limit=2",
            "eval_steps=4",
        ],
        num_prompts: 14,
        num_held_out: 4,
    },
    Workload {
        name: "adapter",
        about: "an adapter with dropout, a checkpoint after every step, a reference cache that starts empty",
        objectives: &["nca"],
        settings: &[
            "per_device_train_batch_size=2",
            "gradient_accumulation_steps=2",
            "num_train_epochs=3",
            "use_peft=true",
            "lora_r=4",
            "lora_dropout=0.1",
            "gradient_checkpointing=true",
            "save_steps=1",
            "eval_steps=0",
            "reference_cache=cache",
        ],
        num_prompts: 14,
        num_held_out: 4,
    },
    Workload {
        name: "pairs",
        about: "each response under the next row's prompt too, all weights, evaluation",
        objectives: &["cca"],
        settings: &[
            "per_device_train_batch_size=3",
            "num_train_epochs=3",
            "save_steps=2",
            "eval_steps=4",
            "objective.uncond_ratio=0",
            "objective.lambda=2",
        ],
        num_prompts: 14,
        num_held_out: 4,
    },
];

#[rstest]
#[case::full(WORKLOADS[0], "nca")]
#[case::adapter(WORKLOADS[1], "nca")]
#[case::pairs(WORKLOADS[2], "cca")]
fn a_run_that_is_killed_again_and_again_ends_with_the_same_bytes(
    #[case] workload: Workload,
    #[case] objective: &'static str,
) {
    let folder = Folder::new();
    let program = Program::new(process::command);
    let ready = Ready::new(workload, objective, model(), &folder.path("trial")).expect("files");
    let trial = Trial::begin(&program, ready, &folder.path("trial")).expect("undisturbed runs");
    kill(&trial, NUM_KILLS, true);
}

#[rstest]
fn a_command_that_is_killed_and_given_again_ends_with_the_same_bytes(
    #[values("loop", "sample", "reward", "score", "merge", "export", "convert")] name: &str,
) {
    let folder = Folder::new();
    let program = Program::new(process::command);
    let inputs = Inputs::new(&program, model(), &folder.path("inputs")).expect("files");
    let verb = VERBS.iter().find(|verb| verb.name == name).expect("a verb");
    let trial = Trial::begin(&program, verb.with(&inputs), &folder.path("trial")).expect("undisturbed runs");
    kill(&trial, NUM_KILLS_OF_A_VERB, false);
}

/// Interrupts jobs until so many kills have hit; each must end with the same bytes.
fn kill(trial: &Trial<'_>, num_kills: usize, at_checkpoints: bool) {
    let (mut kills, mut starts) = (0, 0);
    for number in 1.. {
        let mut run = Run::default();
        let disturbance =
            Disturbance { seed: 1, number, most_kills: num_kills - kills, signals: false, at_checkpoints };
        trial.attempt(disturbance, &mut run).unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(run.differences, Vec::<String>::new(), "{:?}", run.interruptions);
        kills += run.num_kills();
        starts += run.starts;
        if kills >= num_kills {
            break;
        }
        assert!(starts < 20 * num_kills, "{kills} of {starts} processes were killed");
    }
}

#[rstest]
#[case::full(FULL)]
#[case::adapter(ADAPTER)]
fn the_number_of_threads_changes_no_byte(#[case] settings: &[&str]) {
    let folder = Folder::new();
    for threads in ["1", "2", "4"] {
        let threads_key = format!("num_threads={threads}");
        let here = folder.path(threads);
        let settings = [settings, &["reference_cache=false", &threads_key]].concat();
        Process::start(&here, &command(&folder, &settings)).succeed();
        assert_same_training(&folder.path("1/run"), &here.join("run"));
    }
}

/// A run in this process, from the start or from a checkpoint copied into its folder.
fn run(folder: &Folder, name: &str, settings: &[&str], resume: bool) -> Outcome {
    let mut arguments = command(folder, settings);
    let output = arguments.iter().position(|argument| argument == "run").expect("an output folder");
    arguments[output] = folder.arg(name);
    arguments.extend(resume.then(|| "--resume".to_owned()));
    succeed(&arguments)
}

#[rstest]
#[case::full(&["save_steps=1", "eval_steps=4"])]
#[case::adapter(ADAPTER)]
fn every_checkpoint_leads_to_the_same_bytes(#[case] settings: &[&str]) {
    let folder = Folder::new();
    run(&folder, "whole", settings, false);
    // 14 prompts are 4 steps an epoch.
    for step in 1..=12 {
        let (name, checkpoint) = (format!("from-{step}"), format!("checkpoint-{step}"));
        folder.copy(&folder.path(&format!("whole/{checkpoint}")), &format!("{name}/{checkpoint}"));
        folder.write(&format!("{name}/metrics.jsonl"), folder.read("whole/metrics.jsonl"));
        let outcome = run(&folder, &name, settings, true);
        assert!(outcome.err.contains(&format!("resuming after step {step} ")), "{}", outcome.err);
        assert_same_training(&folder.path("whole"), &folder.path(&name));
    }
}

#[rstest]
#[case::full(&[])]
#[case::adapter(&["use_peft=true", "lora_dropout=0.1"])]
fn evaluation_changes_nothing_of_training(#[case] settings: &[&str]) {
    let folder = Folder::new();
    run(&folder, "without", settings, false);
    run(&folder, "with", &[settings, &["eval_steps=1"]].concat(), false);
    let with = folder.rows("with/metrics.jsonl");
    let (evaluations, steps): (Vec<_>, Vec<_>) = with.into_iter().partition(|row| row.get("eval_loss").is_some());
    // At the start, and after each of the 12 steps.
    assert_eq!((evaluations.len(), steps.len()), (13, 12));
    let text = steps.iter().map(|row| row.to_string() + "\n").collect::<String>();
    folder.write("with/metrics.jsonl", text);
    assert_same_training(&folder.path("without"), &folder.path("with"));
}

#[test]
fn half_of_a_reference_cache_is_as_good_as_none() {
    let folder = Folder::new();
    let cached = |name: &str| {
        let cache = format!("reference_cache={}", folder.arg(&format!("cache-{name}")));
        run(&folder, name, &["per_device_train_batch_size=1", "eval_steps=0", &cache], false)
    };
    cached("whole");
    let path =
        fs::read_dir(folder.path("cache-whole")).expect("a cache").next().expect("a file").expect("a file").path();
    let (name, records) = (path.file_name().expect("a name").display().to_string(), fs::read(&path).expect("records"));
    // One record of 32 bytes per response; truncated anywhere, or with a byte changed anywhere.
    for i in 0..4 {
        let cut = (spread(2 * i) * records.len() as f64) as usize;
        let mut damaged = records[..cut].to_vec();
        if i % 2 == 1 {
            let at = (spread(2 * i + 1) * cut as f64) as usize;
            damaged[at] ^= 1;
        }
        let run = format!("cut-{cut}");
        folder.write(&format!("cache-{run}/{name}"), damaged);
        cached(&run);
        assert_same_training(&folder.path("whole"), &folder.path(&run));
        let sorted = |bytes: &[u8]| {
            let mut records = bytes.as_chunks::<32>().0.to_vec();
            records.sort_unstable();
            records
        };
        let completed = fs::read(folder.path(&format!("cache-{run}")).join(&name)).expect("records");
        assert!(sorted(&completed) == sorted(&records), "the cache after {run} holds other records");
    }
}
