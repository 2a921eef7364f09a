//! Data and counts that are large: memory does not grow with them, or they are refused before anything is computed.

use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{Folder, collimate};
use crate::small_model::model_arg;

/// A row of `num_responses` responses with rewards that all differ.
fn wide(num_responses: usize) -> String {
    let response = |k: usize| json!({"content": format!("{k}"), "reward": k});
    let responses: Vec<Value> = (0..num_responses).map(response).collect();
    json!({"prompt": "4", "responses": responses}).to_string() + "\n"
}

/// A row that nothing is wrong with.
const ROW: &str =
    "{\"prompt\": \"4\", \"responses\": [{\"content\": \"8\", \"reward\": 1}, {\"content\": \"9\", \"reward\": 0}]}\n";

/// Checks that a command line is refused as invalid, with this message.
fn refused(args: &[&str], message: &str) {
    let outcome = collimate(args);
    assert_eq!(outcome.code, 2, "{}", outcome.err);
    // A message may be broken between words.
    let words: Vec<&str> = outcome.err.split_whitespace().collect();
    assert!(words.join(" ").contains(message), "{message:?} is not in: {}", outcome.err);
}

#[rstest]
#[case(&["-n", "10000000"], "10000000 responses to a prompt are more than 65536")]
#[case(&["--max-new-tokens", "1000000000"], "8 × 1000000000 tokens are to be drawn for a prompt, 8000000000 in all")]
#[case(&["-n", "18446744073709551615", "--max-new-tokens", "18446744073709551615"], "are more than 65536")]
fn samples_beyond_memory_are_refused(#[case] counts: &[&str], #[case] message: &str) {
    let folder = Folder::new();
    let (prompts, output) = (folder.write("prompts.jsonl", "{\"prompt\": \"4\"}\n"), folder.arg("samples.jsonl"));
    let args = ["sample", "--model", model_arg(), "--data", &prompts, "--output", &output];
    refused(&[&args[..], counts].concat(), message);
    assert!(!folder.path("samples.jsonl").exists());
    let recipe = folder.write("recipe.yaml", format!("model_name_or_path: {}\n", model_arg()));
    let run = folder.arg("loop");
    let args = ["loop", &recipe, "--prompts", &prompts, "--command", "cat", "--output", &run];
    refused(&[&args[..], counts].concat(), message);
}

#[rstest]
#[case(&["generate", "--prompt", "4", "--max-new-tokens", "1000000000"], "1 × 1000000000 tokens are to be drawn for a prompt")]
#[case(&["score", "--data", "DATA", "--output", "OUT", "--batch-size", "1000000000"], "--batch-size must be at most 1024")]
#[case(&["data", "preview", "DATA", "--num", "1000000000"], "--num must be at most 1000")]
fn other_counts_beyond_memory_are_refused(#[case] args: &[&str], #[case] message: &str) {
    let folder = Folder::new();
    let (data, output) = (folder.write("data.jsonl", ROW), folder.arg("out.jsonl"));
    let named = |arg: &&str| match *arg {
        "DATA" => data.clone(),
        "OUT" => output.clone(),
        other => other.to_owned(),
    };
    let args: Vec<String> = args.iter().map(named).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).chain(["--model", model_arg()]).collect();
    refused(&args, message);
}

#[test]
fn many_processes_of_a_reward_program_are_refused() {
    let folder = Folder::new();
    let (data, output) = (folder.write("data.jsonl", ROW), folder.arg("out.jsonl"));
    let args = ["reward", "--command", "cat", "--data", &data, "--output", &output, "--workers", "1000000000"];
    refused(&args, "--workers must be at most 1024");
}

#[rstest]
#[case(&["--num-responses", "1000000000"], "--num-responses 1000000000 are")]
#[case(&["--num-responses", "18446744073709551615"], "--num-responses 18446744073709551615 are")]
#[case(&["--set", "max_length=2000000000"], "more than 67108864")]
#[case(&["--set", "per_device_train_batch_size=2000000000"], "2000000000 prompts a step")]
fn a_plan_without_data_is_of_a_step_that_can_be_held(#[case] counts: &[&str], #[case] message: &str) {
    let folder = Folder::new();
    let recipe = folder.write("recipe.yaml", format!("model_name_or_path: {}\n", model_arg()));
    refused(&[&["plan", &recipe][..], counts].concat(), message);
}

#[rstest]
#[case("lipo_lambda", 4097, "takes at most 4096")]
#[case("rrhf", 5000, "takes at most 4096")]
#[case("kto", 70_000, "takes at most 65536")]
fn more_responses_than_an_objective_takes_are_refused_when_the_row_is_read(
    #[case] objective: &str,
    #[case] num_responses: usize,
    #[case] limit: &str,
) {
    let folder = Folder::new();
    let (data, output) = (folder.write("data.jsonl", ROW.to_owned() + &wide(num_responses)), folder.arg("run"));
    let settings = ["--set", "per_device_train_batch_size=64", "--set", "gradient_accumulation_steps=1"];
    let args = ["train", "--model", model_arg(), "--data", &data, "--output", &output, "--objective", objective];
    let message = format!("data.jsonl:2: {num_responses} responses, but the objective \"{objective}\" {limit}");
    refused(&[&args[..], &settings].concat(), &message);
    assert!(!folder.path("run").exists(), "nothing was begun");
    // As data to evaluate on, too.
    let (training, held_out) = (folder.write("train.jsonl", ROW.repeat(64)), format!("eval_data={data}"));
    let args = ["train", "--model", model_arg(), "--data", &training, "--output", &output, "--objective", objective];
    refused(&[&args[..], &settings, &["--set", &held_out]].concat(), &message);
}

#[cfg(target_os = "linux")]
mod memory {
    use std::fmt::Write;

    use super::*;
    use crate::process::Process;

    const MIB: u64 = 1 << 20;

    /// Rows of 20 kB, 40 MB in all, or only a few of them.
    fn rows(folder: &Folder, name: &str, count: usize) -> String {
        let note = "lorem ipsum dolor ".repeat(1100);
        let mut text = String::new();
        for i in 0..count {
            let responses = [json!({"content": format!("{i}")}), json!({"content": "8"})];
            writeln!(text, "{}", json!({"prompt": format!("{i} * 2"), "note": note, "responses": responses}))
                .expect("text");
        }
        folder.write(name, text)
    }

    /// Peak memory of a command line that must succeed.
    fn peak(folder: &Folder, args: &[&str]) -> u64 {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        Process::start(&folder.path("here"), &args).peak_bytes()
    }

    /// Checks that a verb takes no more memory for 2,000 rows than for 20, within a few windows of rows.
    fn check_rows(args: &[&str]) {
        let folder = Folder::new();
        let (few, many) = (rows(&folder, "few.jsonl", 20), rows(&folder, "many.jsonl", 2000));
        let of = |data: &str| {
            peak(&folder, &[args, &["--data", data, "--output", "out.jsonl", "--force", "--quiet"]].concat())
        };
        let (least, most) = (of(&few), of(&many));
        assert_eq!(folder.rows("here/out.jsonl").len(), 2000);
        assert!(most < least + 24 * MIB, "{} MiB for 40 MB of rows, {} MiB for a few", most / MIB, least / MIB);
    }

    #[test]
    fn sampling_holds_a_window_of_rows() {
        check_rows(&["sample", "--model", model_arg(), "-n", "4", "--max-new-tokens", "1"]);
    }

    #[rstest]
    #[case::as_it_reads("sed s/.*/1/")]
    #[case::after_its_input("awk '{n++} END {for (i = 0; i < n; i++) print 1}'")]
    fn rewarding_holds_a_window_of_rows(#[case] program: &str, #[values("1", "3")] workers: &str) {
        check_rows(&["reward", "--command", program, "--workers", workers]);
    }

    #[test]
    fn rows_for_standard_output_are_kept_on_disk() {
        let folder = Folder::new();
        let data = rows(&folder, "many.jsonl", 2000);
        let few = rows(&folder, "few.jsonl", 20);
        let of = |data: &str| {
            peak(&folder, &["reward", "--command", "sed s/.*/1/", "--data", data, "--output", "-", "--quiet"])
        };
        let (least, most) = (of(&few), of(&data));
        assert!(most < least + 40 * MIB, "{} MiB against {}", most / MIB, least / MIB);
    }

    #[test]
    fn pairs_are_written_as_they_are_formed() {
        let folder = Folder::new();
        let data = folder.write("wide.jsonl", wide(700));
        let most = peak(
            &folder,
            &["data", "convert", &data, "--to", "preference", "--pairs", "all_pairs", "-o", "pairs.jsonl"],
        );
        assert_eq!(folder.read("here/pairs.jsonl").lines().count(), 700 * 699 / 2);
        assert!(most < 100 * MIB, "{} MiB", most / MIB);
    }

    /// Rows of one response, whose prompts come back a thousand rows later: 100 MB.
    #[test]
    fn rows_that_are_gathered_by_their_prompts_are_kept_on_disk() {
        let folder = Folder::new();
        let answer = "lorem ipsum dolor ".repeat(1100);
        let row = |i: usize, num_prompts: usize| {
            let (prompt, completion) = (format!("{}", i % num_prompts), format!("{i} {answer}"));
            json!({"prompt": prompt, "completion": completion, "label": i.is_multiple_of(3)}).to_string() + "\n"
        };
        let write =
            |name: &str, count: usize| folder.write(name, (0..count).map(|i| row(i, count / 5)).collect::<String>());
        let of = |data: &str| peak(&folder, &["data", "convert", data, "-o", "out.jsonl", "--force"]);
        let (least, most) = (of(&write("few.jsonl", 50)), of(&write("many.jsonl", 5000)));
        assert_eq!(folder.rows("here/out.jsonl").len(), 1000);
        assert!(most < least + 48 * MIB, "{} MiB for 100 MB of rows, {} MiB for few", most / MIB, least / MIB);
    }

    #[test]
    fn an_objective_without_pairs_trains_with_any_number_of_responses() {
        let folder = Folder::new();
        let data = folder.write("wide.jsonl", wide(10_000));
        let args =
            ["train", "--model", model_arg(), "--data", &data, "--output", "run", "--objective", "nca", "--quiet"];
        let settings = ["memory_budget=150MiB", "max_steps=1", "sample_prompts=0", "reference_cache=false"];
        let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        let most = peak(&folder, &[&args[..], &settings].concat());
        assert!(most < 150 * MIB, "{} MiB", most / MIB);
    }

    /// Every answer may have 100,000 tokens, and none has.
    #[test]
    fn memory_follows_the_answers_that_are_drawn() {
        let folder = Folder::new();
        // The base model ends its answers to problems like those that it learned.
        let task = folder.arg("task");
        let args = ["quickstart-task", "--output", &task, "--problems", "64", "--held-out", "4"];
        assert_eq!(collimate(&args).code, 0);
        let (model, data) = (folder.arg("task/base"), folder.arg("task/prompts.jsonl"));
        let of = |tokens: &str| {
            let args = ["sample", "--model", &model, "--data", &data, "--output", "out.jsonl", "--force", "-n", "1"];
            let more = ["--temperature", "0", "--max-new-tokens", tokens, "--quiet"];
            let peak = peak(&folder, &[&args[..], &more].concat());
            (peak, folder.read("here/out.jsonl"))
        };
        let ((least, short), (most, long)) = (of("1000"), of("100000"));
        assert_eq!(short, long, "the draws are the same");
        assert!(most < least + 32 * MIB, "{} MiB against {}", most / MIB, least / MIB);
    }
}
