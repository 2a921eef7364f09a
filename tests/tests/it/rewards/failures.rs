//! Reward programs that die, print garbage, too little or too much, or are too slow.

use std::time::Instant;

use rstest::rstest;

use super::{check_nothing_written, reward, rewards};
use crate::harness::{Folder, collimate};

/// Answers `1`, except for response 1 of row 1.
fn but(otherwise: &str) -> String {
    format!("while read -r line; do case \"$line\" in *'row 1 response 1'*) {otherwise};; *) echo 1;; esac; done")
}

#[rstest]
#[case::dies("echo oh no >&2; exit 7", &["ended before it answered", "exit code 7", "oh no"])]
#[case::is_killed("kill -9 $$", &["ended before it answered", "SIGKILL"])]
#[case::prints_words("echo very good", &["printed no number", "it printed: very good"])]
#[case::prints_nothing_of_worth("echo", &["printed no number", "it printed: "])]
#[case::is_not_finite("echo nan", &["printed no number", "it printed: nan"])]
#[case::hangs("sleep 20", &["did not answer within 1 s and was killed"])]
fn a_failure_names_the_row_and_what_happened(#[case] otherwise: &str, #[case] parts: &[&str]) {
    let folder = Folder::new();
    let begun = Instant::now();
    let outcome = reward(&folder, &but(otherwise), &["--timeout", "1", "--quiet"]);
    assert_eq!(outcome.code, 1, "{}", outcome.err);
    assert!(outcome.err.contains("samples.jsonl:2, response 1: the reward program "), "{}", outcome.err);
    for part in parts {
        assert!(outcome.err.contains(part), "{part:?} is not in {}", outcome.err);
    }
    check_nothing_written(&folder);
    assert!(begun.elapsed().as_secs() < 50, "what hangs is not waited for");
}

#[rstest]
#[case::dies("exit 7")]
#[case::prints_words("echo very good")]
#[case::hangs("sleep 20")]
fn others_keep_their_rewards_where_one_is_skipped_or_given(#[case] otherwise: &str) {
    let folder = Folder::new();
    let script = but(otherwise);
    let outcome = reward(&folder, &script, &["--timeout", "1", "--on-failure", "-2.5"]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert_eq!(rewards(&folder), [1.0, 1.0, 1.0, -2.5, 1.0, 1.0]);
    assert!(outcome.err.contains("failed for 1 response; 0 rows left out"), "{}", outcome.err);
    // This would leave the row with one response.
    let outcome = reward(&folder, &script, &["--timeout", "1", "--on-failure", "skip", "--workers", "2", "--force"]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert_eq!(rewards(&folder), [1.0; 4]);
    assert_eq!(folder.rows("rewards.jsonl")[1]["prompt"], "prompt 2");
    assert!(outcome.err.contains("failed for 1 response; 1 row left out"), "{}", outcome.err);
}

#[rstest]
#[case::too_few("sed 2d | sed 's/.*/1/'", "samples.jsonl:3, response 1", "printed 5 lines for 6 responses")]
#[case::none_at_all("cat > /dev/null", "samples.jsonl:1, response 0", "printed 0 lines for 6 responses")]
#[case::too_many("sed 's/.*/1/'; echo 1", "samples.jsonl:3, response 1", "printed more than 6 lines")]
#[case::of_another(
    "while read -r line; do echo '{\"index\": 0, \"reward\": 1}'; done",
    "samples.jsonl:2, response 0",
    "answered another response"
)]
fn answers_that_match_no_response_are_never_used(#[case] script: &str, #[case] place: &str, #[case] what: &str) {
    let folder = Folder::new();
    let outcome = reward(&folder, script, &["--on-failure", "skip"]);
    assert_eq!(outcome.code, 1, "{}", outcome.err);
    assert!(outcome.err.contains(place) && outcome.err.contains(what), "{}", outcome.err);
    check_nothing_written(&folder);
}

#[test]
fn a_program_that_fails_after_its_last_answer_failed() {
    let folder = Folder::new();
    let outcome = reward(&folder, "sed 's/.*/1/'; exit 4", &[]);
    assert_eq!(outcome.code, 1, "{}", outcome.err);
    assert!(outcome.err.contains("answered, and then failed\n  it ended with exit code 4"), "{}", outcome.err);
    check_nothing_written(&folder);
}

#[test]
fn a_program_that_never_answers_is_given_up() {
    let folder = Folder::new();
    let row = r#"{"prompt": "p", "responses": [{"content": "a"}, {"content": "b"}]}"#;
    let data = folder.write("samples.jsonl", [row, "\n"].concat().repeat(20));
    let output = folder.arg("rewards.jsonl");
    let args = ["reward", "--command", "false", "--data", &data, "--output", &output, "--on-failure", "skip"];
    let outcome = collimate(&args);
    assert_eq!(outcome.code, 1, "{}", outcome.err);
    let expected = "samples.jsonl:5, response 1: the reward program ended before it answered; that was the 10th time";
    assert!(outcome.err.contains(expected), "{}", outcome.err);
}

#[rstest]
#[case::nobody("no-such-program-here", "cannot be started", "--shell")]
#[case::quotes("'a", "--command has a single quote that is not closed", "")]
fn a_command_that_is_none_is_bad_input(#[case] command: &str, #[case] what: &str, #[case] help: &str) {
    let folder = Folder::new();
    let data = super::samples(&folder);
    let outcome =
        collimate(&["reward", "--command", command, "--data", &data, "--output", &folder.arg("rewards.jsonl")]);
    assert_eq!(outcome.code, 2, "{}", outcome.err);
    assert!(outcome.err.contains(what) && outcome.err.contains(help), "{}", outcome.err);
}
