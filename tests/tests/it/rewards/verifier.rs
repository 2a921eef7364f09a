//! The quickstart's verifier as a reward program: prompts, samples, rewards.

use collimate_quickstart::verifier::score_answer;

use crate::harness::{Folder, succeed};
use crate::process::script;

#[test]
fn the_quickstart_s_verifier_gives_its_rewards_as_a_program() {
    let folder = Folder::new();
    let task = folder.arg("task");
    succeed(&["quickstart-task", "--output", &task, "--problems", "6", "--held-out", "2"]);
    let (base, prompts) = (folder.arg("task/base"), folder.arg("task/prompts.jsonl"));
    let (samples, rewards) = (folder.arg("samples.jsonl"), folder.arg("rewards.jsonl"));
    let args =
        ["sample", "--model", &base, "--data", &prompts, "--output", &samples, "-n", "3", "--max-new-tokens", "40"];
    succeed(&args);
    let program = folder.write("verifier.sh", script(&["quickstart-verifier"]));
    let command = format!("sh '{program}'");
    succeed(&["reward", "--command", &command, "--data", &samples, "--output", &rewards, "--workers", "2"]);
    let mut different = std::collections::BTreeSet::new();
    let rows = folder.rows("rewards.jsonl");
    assert_eq!((rows.len(), folder.rows("task/held-out.jsonl").len()), (6, 2));
    for row in rows {
        let steps: Vec<i64> = serde_json::from_value(row["steps"].clone()).expect("steps");
        let answer = row["answer"].as_i64().expect("an answer");
        for response in row["responses"].as_array().expect("responses") {
            let expected = score_answer(&steps, answer, response["content"].as_str().expect("text"));
            assert_eq!(response["reward"].as_f64(), Some(expected), "{response}");
            different.insert(response["reward"].to_string());
        }
    }
    assert!(different.len() > 1, "the base solves some problems and not others: {different:?}");
}
