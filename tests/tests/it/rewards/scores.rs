//! The requests to a reward program, and what its answers become.

use rstest::rstest;
use serde_json::{Value, json};

use super::{reward, rewards, samples};
use crate::harness::{Folder, collimate, succeed};

/// Prints row and response as one number: 12 for response 2 of row 1.
const NUMBERED: &str = r#"sed 's/.*"index":\([0-9]*\),"response_index":\([0-9]*\).*/\1\2/'"#;

#[rstest]
fn rewards_stand_in_the_order_of_the_file(#[values("1", "2", "3", "9")] workers: &str) {
    let folder = Folder::new();
    let outcome = reward(&folder, NUMBERED, &["--workers", workers, "--quiet"]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert_eq!(rewards(&folder), [0.0, 1.0, 10.0, 11.0, 20.0, 21.0]);
    assert!(
        outcome.err.contains("6 responses, mean reward 10.5000, mean of the best of a row 11.0000"),
        "{}",
        outcome.err
    );
}

#[test]
fn a_program_is_asked_with_all_fields_of_a_row_and_its_scores_are_kept() {
    let folder = Folder::new();
    let asked = folder.arg("asked.jsonl");
    let script = format!("tee '{asked}' | sed 's/.*/{{\"reward\": 0.5, \"scores\": {{\"form\": 1}}}}/'");
    let outcome = reward(&folder, &script, &[]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let expected =
        json!({"index": 1, "response_index": 0, "prompt": "prompt 1", "response": "row 1 response 0", "answer": 1});
    assert_eq!(folder.rows("asked.jsonl")[2], expected);
    let row = &folder.rows("rewards.jsonl")[1];
    assert_eq!(row["answer"], 1, "the row keeps its fields");
    assert_eq!(row["responses"][1], json!({"content": "row 1 response 1", "reward": 0.5, "scores": {"form": 1}}));
}

#[test]
fn full_pipes_stop_nobody() {
    // More than a pipe's buffer is written before the first line is read, and more than that to standard error.
    let folder = Folder::new();
    let text = "x".repeat(20_000);
    let row = json!({"prompt": "p", "responses": [{"content": text}, {"content": text}]}).to_string() + "\n";
    let data = folder.write("long.jsonl", row.repeat(20));
    let script = "all=$(cat); head -c 300000 /dev/zero | tr '\\0' e >&2; echo \"$all\" | sed 's/.*/1/'";
    let program = folder.write("program.sh", script);
    let (command, output) = (format!("sh {program}"), folder.arg("rewards.jsonl"));
    succeed(&["reward", "--command", &command, "--data", &data, "--output", &output, "--timeout", "60"]);
    assert_eq!(rewards(&folder), [1.0; 40]);
}

#[test]
fn a_shell_runs_only_where_it_is_asked_for() {
    let folder = Folder::new();
    let (data, output) = (samples(&folder), folder.arg("rewards.jsonl"));
    let args = ["reward", "--command", "cat | sed 's/.*/3/'", "--data", &data, "--output", &output];
    let outcome = collimate(&args);
    assert_eq!(outcome.code, 1, "{}", outcome.err);
    succeed(&[&args[..], &["--shell"]].concat());
    assert_eq!(rewards(&folder), [3.0; 6]);
}

#[test]
fn rows_come_and_go_through_standard_streams() {
    let folder = Folder::new();
    let data = samples(&folder);
    let outcome = succeed(&["reward", "--command", "sed s/.*/2/", "--data", &data, "--output", "-"]);
    let rows: Vec<Value> = outcome.out.lines().map(|line| serde_json::from_str(line).expect("a row")).collect();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[2]["responses"][1]["reward"], json!(2.0));
}
