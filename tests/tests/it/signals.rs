//! SIGINT, SIGTERM and a full disk.
#![cfg(unix)]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use rstest::rstest;
use serde_json::json;

use crate::harness::{Folder, train};
use crate::process::Process;
use crate::small_model::model_arg;

/// The command line of a run of `steps` steps over `num_prompts` prompts, into `run` of the current folder.
fn command_of(folder: &Folder, num_prompts: usize, steps: usize, settings: &[&str]) -> Vec<String> {
    let response = |i: usize, k: usize| json!({"content": format!("{}", i * (k + 3)), "reward": 1.0 / (k + 1) as f64});
    let row = |i: usize| {
        let responses: Vec<_> = (0..3).map(|k| response(i, k)).collect();
        json!({"prompt": format!("What is 3 times {i}?"), "responses": responses}).to_string() + "\n"
    };
    let data = folder.write("data.jsonl", (2..2 + num_prompts).map(row).collect::<String>());
    let steps = format!("max_steps={steps}");
    let mut all = vec![
        &*steps,
        "per_device_train_batch_size=2",
        "learning_rate=1e-3",
        "reference_cache=false",
        "sample_time_share=1",
    ];
    all.extend(settings);
    train(model_arg(), &data, "run", &all).into_iter().map(str::to_owned).collect()
}

fn command(folder: &Folder, steps: usize, settings: &[&str]) -> Vec<String> {
    command_of(folder, 12, steps, settings)
}

fn resumed(arguments: &[String]) -> Vec<String> {
    [arguments, &["--resume".to_owned()]].concat()
}

fn bytes(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Steps recorded in a run's folder.
fn num_rows(folder: &Path) -> usize {
    fs::read_to_string(folder.join("run/metrics.jsonl")).unwrap_or_default().lines().count()
}

#[rstest]
#[case("INT", 130, "SIGINT")]
#[case("TERM", 143, "SIGTERM")]
fn a_signal_finishes_the_step_and_saves(#[case] signal: &str, #[case] code: i32, #[case] name: &str) {
    let folder = Folder::new();
    let arguments = command(&folder, 400, &["eval_steps=0"]);
    let (whole, stopped) = (folder.path("whole"), folder.path("stopped"));
    Process::start(&whole, &arguments).succeed();

    let mut process = Process::start(&stopped, &arguments);
    process.wait_until(|_| num_rows(&stopped) >= 5);
    process.signal(signal);
    let (found, log) = process.wait();
    assert_eq!(found, Some(code), "{log}");
    let rows = num_rows(&stopped);
    for part in [&format!("stopped by {name} after step {rows}; its state is in run/checkpoint-{rows}"), "--resume"] {
        assert!(log.contains(part), "{part:?} is not in {log}");
    }
    assert!(rows < 400, "the signal came too late");
    let page = fs::read_to_string(stopped.join("run/report.html")).expect("a report of what was done");
    assert!(page.contains(&format!("<strong>{rows} of 400</strong>: not finished")), "{page}");

    Process::start(&stopped, &resumed(&arguments)).succeed();
    for file in ["run/model.safetensors", "run/checkpoint-400/optimizer.safetensors"] {
        assert!(bytes(&whole.join(file)) == bytes(&stopped.join(file)), "{file} differs");
    }
    // The checkpoint written out of order was removed with the next one.
    assert!(!stopped.join(format!("run/checkpoint-{rows}")).exists());
}

#[test]
fn a_run_of_two_billion_steps_begins_at_once() {
    let folder = Folder::new();
    let settings = ["logging_steps=1000000", "logging_first_step=true", "dataloader_drop_last=true", "shuffle=false"];
    // An odd number of prompts: with these settings no epoch visits the last.
    let arguments = command_of(&folder, 5, i32::MAX as usize, &settings);
    let (stopped, begun) = (folder.path("stopped"), Instant::now());
    let mut process = Process::start(&stopped, &arguments);
    process.wait_until(|_| num_rows(&stopped) > 0);
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
    process.signal("INT");
    let (code, log) = process.wait();
    assert_eq!(code, Some(130), "{log}");
    assert!(log.contains("training: 2,147,483,647 steps") && log.contains("stopped by SIGINT after step"), "{log}");
}

#[test]
fn a_second_signal_stops_at_once() {
    let folder = Folder::new();
    // One very long step, so that it does not end between the signals, without a reference pass before it.
    let settings = ["gradient_accumulation_steps=100000", "objective=sft"];
    let arguments = command_of(&folder, 6000, 1, &settings);
    let here = folder.path("here");
    let mut process = Process::start(&here, &arguments);
    process.wait_until(|log| log.contains("training with sft"));
    process.signal("INT");
    process.wait_until(|log| log.contains("stopping after this step"));
    process.signal("INT");
    let (code, log) = process.wait();
    assert_eq!(code, Some(130), "{log}");
}

#[rstest]
fn before_training_a_signal_stops_at_once(#[values("INT", "TERM")] signal: &str) {
    let folder = Folder::new();
    // Nothing is written to this pipe, so the program waits for rows.
    let pipe = folder.arg("rows");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("the program mkfifo").success());
    let arguments = ["data", "check", &pipe].map(str::to_owned);
    let process = Process::start(&folder.path("here"), &arguments);
    // Opening a pipe for writing blocks until the program reads it.
    let writer = fs::OpenOptions::new().write(true).open(&pipe).expect("a pipe");
    process.signal(signal);
    let (code, log) = process.wait();
    assert_eq!(code, Some(if signal == "INT" { 130 } else { 143 }), "{log}");
    drop(writer);
}

/// A run that stopped after its first checkpoint.
fn begun(folder: &Folder) -> (Vec<String>, std::path::PathBuf) {
    let arguments = command(folder, 6, &["save_steps=2"]);
    Process::start(&folder.path("whole"), &arguments).succeed();
    let here = folder.path("here");
    folder.copy(&folder.path("whole/run/checkpoint-2"), "here/run/checkpoint-2");
    folder.write("here/run/metrics.jsonl", folder.read("whole/run/metrics.jsonl"));
    (arguments, here)
}

/// Checks the state after a full disk: the error, the earlier checkpoint, and the same bytes once there is space.
fn check_full(folder: &Folder, arguments: &[String], here: &Path, ended: (Option<i32>, String)) {
    let (code, log) = ended;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("cannot be written: "), "{log}");
    let names = fs::read_dir(here.join("run")).expect("a folder").flatten();
    let names: Vec<_> = names.map(|entry| entry.file_name().display().to_string()).collect();
    assert!(!names.iter().any(|name| name.starts_with('.')), "hidden leftovers: {names:?}");
    assert!(names.contains(&"checkpoint-2".to_owned()) && !names.contains(&"checkpoint-4".to_owned()), "{names:?}");
    Process::start(here, &resumed(arguments)).succeed();
    for file in ["run/model.safetensors", "run/checkpoint-6/optimizer.safetensors"] {
        assert!(bytes(&folder.path("whole").join(file)) == bytes(&here.join(file)), "{file} differs");
    }
}

#[test]
fn a_quota_leaves_the_last_good_state() {
    let folder = Folder::new();
    let (arguments, here) = begun(&folder);
    let model = fs::metadata(folder.path("whole/run/model.safetensors")).expect("a model").len();
    // The weights fit; the optimizer's moments, twice as large, do not.
    let process = Process::start_with_short_files(&here, &resumed(&arguments), model + model / 2);
    let ended = process.wait();
    assert!(ended.1.contains("optimizer.safetensors: cannot be written"), "{}", ended.1);
    check_full(&folder, &arguments, &here, ended);
}

/// Mounts a disk of this size; `None` if this user must not. Without it only the quota above is tested.
fn small_disk(at: &Path, num_bytes: u64) -> Option<Mounted<'_>> {
    let user = Command::new("id").arg("-u").output().expect("the program id").stdout;
    if !cfg!(target_os = "linux") || user != b"0\n" {
        eprintln!("not run: only the superuser can mount a small disk");
        return None;
    }
    fs::create_dir_all(at).expect("a folder");
    let mut command = Command::new("mount");
    command.args(["-t", "tmpfs", "-o", &format!("size={num_bytes}"), "none"]).arg(at);
    if !command.status().expect("the program mount").success() {
        eprintln!("not run: this superuser must not mount");
        return None;
    }
    Some(Mounted(at))
}

/// Bytes that a folder's files take on a disk.
fn bytes_on_disk(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    entries.map(|entry| entry.metadata().expect("a file").len().next_multiple_of(4096)).sum()
}

#[test]
fn a_disk_that_is_too_small_is_refused_before_the_first_step() {
    let folder = Folder::new();
    let (arguments, here) = begun(&folder);
    let checkpoint = bytes_on_disk(&folder.path("whole/run/checkpoint-2"));
    fs::rename(here.join("run"), here.join("aside")).expect("a rename");
    let run = here.join("run");
    // Three checkpoints and the model do not fit; one and the model would.
    let Some(mounted) = small_disk(&run, 2 * checkpoint + (1 << 20)) else { return };
    let (code, log) = Process::start(&here, &arguments).wait();
    drop(mounted);
    assert_eq!(code, Some(1), "{log}");
    for part in ["MiB are free, and the run needs up to ", "4 checkpoints of ", "save_total_limit: 1", "use_peft: true"]
    {
        assert!(log.contains(part), "{part:?} is not in {log}");
    }
    assert!(!log.contains("training with") && !log.contains("reference log-probs ("), "{log}");
}

#[test]
fn a_disk_that_fills_up_leaves_the_last_good_state() {
    let folder = Folder::new();
    let arguments = command(&folder, 200, &["save_steps=2", "save_total_limit=2", "sample_prompts=0"]);
    Process::start(&folder.path("whole"), &arguments).succeed();
    let here = folder.path("here");
    let run = here.join("run");
    let room = 5 * bytes_on_disk(&folder.path("whole/run/checkpoint-200")) + (4 << 20);
    let Some(mounted) = small_disk(&run, room) else { return };
    let mut process = Process::start(&here, &arguments);
    process.wait_until(|_| num_rows(&here) >= 5);
    // Another program takes the rest.
    let mut others = fs::File::create(run.join("others")).expect("a file");
    while others.write_all(&[0; 4096]).is_ok() {}
    let (code, log) = process.wait();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("cannot be written: ") && log.contains("No space left on device"), "{log}");
    // An open file would keep its space.
    drop(others);
    fs::remove_file(run.join("others")).expect("a file");
    Process::start(&here, &resumed(&arguments)).succeed();
    for file in ["run/model.safetensors", "run/checkpoint-200/optimizer.safetensors"] {
        assert!(bytes(&folder.path("whole").join(file)) == bytes(&here.join(file)), "{file} differs");
    }
    drop(mounted);
}

/// Names of a run's checkpoints, in order.
fn checkpoints(run: &Path) -> Vec<String> {
    let names = fs::read_dir(run).into_iter().flatten().flatten().map(|entry| entry.file_name().display().to_string());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("checkpoint-")).collect();
    names.sort();
    names
}

#[test]
fn a_killed_run_resumes_from_its_last_checkpoint_by_time() {
    let folder = Folder::new();
    let whole = command(&folder, 300, &["save_minutes=0"]);
    Process::start(&folder.path("whole"), &whole).succeed();
    // After every step.
    let arguments = command(&folder, 300, &["save_minutes=0.000001"]);
    let here = folder.path("here");
    let mut process = Process::start(&here, &arguments);
    process.wait_until(|_| num_rows(&here) >= 5);
    process.signal("KILL");
    process.wait();
    let left = checkpoints(&here.join("run"));
    assert!(!left.is_empty() && left.len() <= 2 && !left.contains(&"checkpoint-300".to_owned()), "{left:?}");
    let (code, log) = Process::start(&here, &resumed(&arguments)).wait();
    assert!(code == Some(0) && log.contains("resuming after step "), "{log}");
    for file in ["run/model.safetensors", "run/checkpoint-300/optimizer.safetensors"] {
        assert!(bytes(&folder.path("whole").join(file)) == bytes(&here.join(file)), "{file} differs");
    }
    assert_eq!(checkpoints(&folder.path("whole/run")), ["checkpoint-300"]);
    assert_eq!(checkpoints(&here.join("run")), ["checkpoint-300"], "each replaced the one before it");
    let rows = |folder: &Path| fs::read_to_string(folder.join("run/metrics.jsonl")).expect("rows").lines().count();
    assert_eq!(rows(&here), rows(&folder.path("whole")));
}

/// Unmounts the small disk on drop.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}
