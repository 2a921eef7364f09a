//! Runs of several processes under `mpirun`, each of one thread: this program starts itself as the ranks of collimate.

mod launched;
#[path = "../it/small_model.rs"]
#[allow(dead_code, reason = "the other tests use all of it")]
mod small_model;

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use collimate_report::{MetricsRow, read_metrics};
use launched::{Launched, Place};

fn main() -> ExitCode {
    if let Some(arguments) = launched::arguments() {
        return ExitCode::from(launched::be_a_rank(arguments));
    }
    let begun = Instant::now();
    let tests: [(&str, fn(&Place)); 7] = [
        ("two and four ranks take the steps of one", several_take_the_steps_of_one),
        ("a run goes on with another number of ranks", another_number_goes_on),
        ("a rank that is killed ends all", |place| a_fault_ends_all(place, "kill", "rank 1 has ended")),
        ("a rank that panics ends all", |place| {
            a_fault_ends_all(place, "panic", "error: rank 1: panicked; all ranks end")
        }),
        ("a rank with an error ends all", a_rank_with_an_error_ends_all),
        ("SIGTERM finishes the step and saves", a_signal_saves),
        ("what is one process is not started several times", only_train_takes_several),
    ];
    for (name, test) in tests {
        println!("test {name}");
        test(&Place::new());
    }
    println!("{} tests passed in {:.1} s", tests.len(), begun.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}

/// Arguments of a run of so many steps, with these settings.
fn train(place: &Place, output: &str, steps: usize, settings: &[&str]) -> Vec<String> {
    let (data, steps) = (place.data(), format!("max_steps={steps}"));
    let mut all =
        vec!["train", "--model", small_model::model_arg(), "--data", &data, "--output", output, "--objective"];
    all.push("nca");
    let fixed = ["per_device_train_batch_size=2", "learning_rate=2e-3", "use_peft=true", "lora_r=4", "num_threads=1"];
    let fixed = fixed.iter().chain(&["reference_cache=false", "token_cache=false", "sample_prompts=1"]);
    all.extend(fixed.chain(settings).chain(&[steps.as_str()]).flat_map(|setting| ["--set", setting]));
    all.into_iter().map(str::to_owned).collect()
}

fn rows(place: &Place, output: &str) -> Vec<MetricsRow> {
    read_metrics(&place.path(output).join("metrics.jsonl")).expect("metrics")
}

fn bytes(place: &Place, file: &str) -> Vec<u8> {
    fs::read(place.path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Log-probs and the loss of the first step to the bit, the other steps nearly.
fn assert_same_run(one: &[MetricsRow], several: &[MetricsRow]) {
    assert_eq!(one.len(), several.len());
    for name in one[0].names().filter(|name| name.starts_with("log") || ["loss", "rewards/margins"].contains(name)) {
        assert_eq!(one[0].get(name), several[0].get(name), "{name}");
    }
    for (one, several) in one.iter().zip(several) {
        let figure = |name: &str| (one.get(name).expect("a figure"), several.get(name).expect("a figure"));
        let ((loss, other_loss), (norm, other_norm)) = (figure("loss"), figure("grad_norm"));
        assert!((loss - other_loss).abs() <= 1e-4, "{loss} {other_loss}");
        assert!((norm - other_norm).abs() <= 1e-3 * norm, "{norm} {other_norm}");
    }
}

fn several_take_the_steps_of_one(place: &Place) {
    for (output, ranks, accumulation) in [("one", 1, 4), ("two", 2, 2), ("again", 2, 2), ("four", 4, 1)] {
        let accumulation = format!("gradient_accumulation_steps={accumulation}");
        let ran = Launched::start(place, ranks, &train(place, output, 12, &[&accumulation])).wait();
        assert_eq!(ran.code, Some(0), "{}", ran.said);
        assert_eq!(ran.said.matches("12 steps in").count(), 1, "one rank reports: {}", ran.said);
        assert_eq!(ran.said.contains("most memory by rank: "), ranks > 1, "{}", ran.said);
    }
    let one = rows(place, "one");
    for output in ["two", "four"] {
        assert_same_run(&one, &rows(place, output));
    }
    assert!(
        rows(place, "four").iter().all(|row| row.get("ranks") == Some(4.0) && row.get("tokens_per_second") > Some(0.0))
    );
    for file in ["adapter_model.safetensors", "checkpoint-12/optimizer.safetensors"] {
        assert!(bytes(place, &format!("two/{file}")) == bytes(place, &format!("again/{file}")), "{file} differs");
    }
}

fn another_number_goes_on(place: &Place) {
    let settings = ["gradient_accumulation_steps=2", "lr_scheduler_type=constant", "save_steps=4"];
    let whole = Launched::start(place, 2, &train(place, "whole", 12, &settings)).wait();
    assert_eq!(whole.code, Some(0), "{}", whole.said);
    for (ranks, steps) in [(2, 4), (1, 8), (4, 12)] {
        let mut arguments = train(place, "moved", steps, &settings);
        arguments.extend((steps > 4).then(|| "--resume".to_owned()));
        let ran = Launched::start(place, ranks, &arguments).wait();
        assert_eq!(ran.code, Some(0), "{ranks}: {}", ran.said);
    }
    assert_same_run(&rows(place, "whole"), &rows(place, "moved"));
}

/// Starts a run of two ranks whose rank 1 does this after some steps; all must end soon and name it, and the run must go on
/// afterwards.
fn a_fault_ends_all(place: &Place, fault: &str, message: &str) {
    let arguments = train(place, "run", 100_000, &["save_steps=2"]);
    let mut launched = Launched::start_with(place, 2, &arguments, &[("RANK_FAULT", fault), ("RANK_RUN", "run")]);
    launched.wait_for_rows(place, "run", 4);
    let begun = Instant::now();
    let ran = launched.wait();
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}: {}", begun.elapsed(), ran.said);
    assert!(ran.code != Some(0) && ran.said.contains(message), "{:?}: {}", ran.code, ran.said);
    let done = rows(place, "run").len();
    let resumed = [train(place, "run", done + 2, &["save_steps=2"]), vec!["--resume".to_owned()]].concat();
    let ran = Launched::start(place, 2, &resumed).wait();
    assert!(ran.code == Some(0) && ran.said.contains("resuming after step"), "{}", ran.said);
}

fn a_rank_with_an_error_ends_all(place: &Place) {
    fs::write(place.path("broken.jsonl"), "{\n").expect("a file");
    let launched = Launched::start_with(place, 2, &train(place, "run", 4, &[]), &[("RANK_FAULT", "data")]);
    let ran = launched.wait();
    assert_eq!(ran.code, Some(1), "{}", ran.said);
    assert!(ran.said.contains("error: rank 1: broken.jsonl:1:1: not valid JSON"), "{}", ran.said);
}

fn a_signal_saves(place: &Place) {
    let mut launched = Launched::start(place, 2, &train(place, "run", 100_000, &[]));
    launched.wait_for_rows(place, "run", 4);
    launched.terminate();
    let ran = launched.wait();
    assert_eq!(ran.code, Some(1), "mpirun's own: {}", ran.said);
    assert_eq!(ran.said.matches("stopped by SIGTERM after step ").count(), 1, "{}", ran.said);
    let done = rows(place, "run").len();
    assert!(place.path(&format!("run/checkpoint-{done}/checksums.json")).is_file());
    let resumed = [train(place, "run", done + 2, &[]), vec!["--resume".to_owned()]].concat();
    let ran = Launched::start(place, 2, &resumed).wait();
    assert!(ran.code == Some(0) && ran.said.contains(&format!("resuming after step {done} ")), "{}", ran.said);
}

fn only_train_takes_several(place: &Place) {
    let ran = Launched::start(place, 2, &["train".to_owned(), "--quiet".to_owned()]).wait();
    assert_ne!(ran.code, Some(0));
    assert!(ran.said.contains("the quickstart is one process, and mpirun started 2"), "{}", ran.said);
}
