//! The verbs that read and write data: published layouts, named fields, and outputs that are never replaced unasked.

use rstest::rstest;
use serde_json::json;

use crate::harness::{Folder, collimate, succeed};
use crate::small_model::model_arg;

/// Published layouts: a file's rows, and the rewards of its best and worst response.
#[rstest]
#[case::alpaca(r#"{"instruction": "Q", "input": "", "chosen": "A", "rejected": "B"}"#, "1", "0")]
#[case::scores(r#"{"prompt":"Q","completions":["A","B"],"scores":[1,0]}"#, "1", "0")]
#[case::hh(r#"{"chosen": "\n\nHuman: Hi\n\nAssistant: A", "rejected": "\n\nHuman: Hi\n\nAssistant: B"}"#, "1", "0")]
#[case::helpsteer_3(
    r#"{"context":[{"role":"user","content":"Q"}],"response1":"A","response2":"B","overall_preference":-2}"#,
    "2",
    "0"
)]
#[case::kto(
    "{\"prompt\": \"Q\", \"completion\": \"A\", \"label\": true}\n{\"prompt\": \"Q\", \"completion\": \"B\", \"label\": false}",
    "1",
    "0"
)]
#[case::old_list(r#"{"instruction":"Q","input":"","output":["A","B"]}"#, "1", "0")]
#[case::pku(
    r#"{"prompt":"Q","response_0":"A","response_1":"B","better_response_id":0,"safer_response_id":1}"#,
    "1",
    "0"
)]
#[case::stack_exchange(r#"{"question":"Q","response_j":"A","response_k":"B"}"#, "1", "0")]
#[case::sharegpt(
    r#"{"conversations": [{"from":"human","value":"Q"}], "chosen": {"from":"gpt","value":"A"}, "rejected": {"from":"gpt","value":"B"}}"#,
    "1", "0")]
#[case::swift(
    r#"{"messages":[{"role":"user","content":"Q"},{"role":"assistant","content":"A"}],"rejected_response":"B"}"#,
    "1",
    "0"
)]
#[case::ultrainteract(
    r#"{"task":"Math","dataset":"MATH","trajectory":[{"from":"user","value":"Q"}],"chosen":"A","rejected":"B","id":"0","parent_id":"0"}"#,
    "1", "0")]
fn published_layouts_are_read(#[case] rows: &str, #[case] best: &str, #[case] worst: &str) {
    let folder = Folder::new();
    let file = folder.write("d.jsonl", rows);
    let outcome = succeed(&["data", "check", &file]);
    assert!(outcome.out.contains(&format!("line 1, best (reward {best}): A")), "{}", outcome.out);
    assert!(outcome.out.contains(&format!("line 1, worst (reward {worst}): B")), "{}", outcome.out);
    assert!(outcome.out.contains(" 1 group, 0 errors"), "{}", outcome.out);
}

/// A recipe's template and system prompt are seen before a run.
#[test]
fn a_recipe_shows_what_it_would_train_on() {
    let folder = Folder::new();
    let row = json!({"prompt": [{"role": "user", "content": "2 + 3?"}], "chosen": [{"role": "assistant", "content": "5"}],
                     "rejected": [{"role": "assistant", "content": "6"}]});
    let data = folder.write("d.jsonl", format!("{row}\n"));
    let template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";
    let recipe = folder.write(
        "r.yaml",
        format!(
            "model_name_or_path: {}\ndata: {data}\nsystem_prompt: Add.\nchat_template: \"{template}\"\n",
            model_arg()
        ),
    );
    let outcome = succeed(&["data", "preview", "--recipe", &recipe]);
    assert!(outcome.out.contains("[system]Add.[user]2 + 3?[assistant]"), "{}", outcome.out);
    let outcome = succeed(&["data", "check", "--recipe", &recipe]);
    assert!(outcome.out.contains(" 1 group, 0 errors") && outcome.out.contains("prompt tokens"), "{}", outcome.out);
    let generate = |more: &[&str]| {
        let args =
            ["generate", "--model", model_arg(), "--chat", "--prompt", "2 + 3?", "--json", "--max-new-tokens", "1"];
        succeed(&[&args, more].concat())
    };
    let (outcome, plain) = (generate(&["--recipe", &recipe]), generate(&[]));
    assert_ne!(outcome.out.split("prompt_ids").nth(1), plain.out.split("prompt_ids").nth(1));
    let nothing = collimate(&["data", "preview"]);
    assert!(nothing.code == 2 && nothing.err.contains("required"), "{}", nothing.err);
}

#[test]
fn demonstrations_are_for_sft_alone() {
    let folder = Folder::new();
    let row = json!({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]});
    let data = folder.write("d.jsonl", format!("{row}\n{row}\n"));
    let outcome = succeed(&["data", "check", &data]);
    assert!(outcome.out.contains("each row has one response and no reward"), "{}", outcome.out);
    let train = |objective: &str| {
        let run = folder.arg(objective);
        let args =
            ["train", "--model", model_arg(), "--data", &data, "--objective", objective, "--output", &run, "--quiet"];
        collimate(&[&args[..], &["--set", "max_steps=1"]].concat())
    };
    let refused = train("nca");
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("for objectives that compare nothing, such as sft"), "{}", refused.err);
    let trained = train("sft");
    assert_eq!(trained.code, 0, "{}", trained.err);
}

#[test]
fn any_row_is_converted_by_the_fields_that_are_named() {
    let folder = Folder::new();
    let row = json!({"meta": {"question": "Q"}, "answers": [{"text": "A", "score": 1}, {"text": "B", "score": 0.5}]});
    let (data, output) = (folder.write("d.jsonl", format!("{row}\n")), folder.arg("out.jsonl"));
    let unknown = collimate(&["data", "check", &data]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.err.contains("no layout is known for a row with meta, answers"), "{}", unknown.err);
    assert!(unknown.err.contains("--prompt-field a --response-field b --reward-field c"), "{}", unknown.err);
    let fields =
        ["--prompt-field", "meta.question", "--response-field", "answers.*.text", "--reward-field", "answers.*.score"];
    succeed(&[&["data", "convert", &data, "--output", &output][..], &fields].concat());
    let responses = json!([{"content": "A", "reward": 1.0}, {"content": "B", "reward": 0.5}]);
    assert_eq!(folder.rows("out.jsonl"), [json!({"prompt": "Q", "responses": responses})]);
    succeed(&[&["data", "check", &data][..], &fields].concat());
    let half = collimate(&["data", "check", &data, "--prompt-field", "meta.question"]);
    assert_eq!(half.code, 2);
    assert!(half.err.contains("give --response-field, or --chosen-field and --rejected-field"), "{}", half.err);
}

/// Case 18.
#[test]
fn a_missing_reward_can_be_left_out_and_is_counted() {
    let folder = Folder::new();
    let row = r#"{"prompt": "Q", "responses": [{"content": "A", "reward": 1.0}, {"content": "B", "reward": null}, {"content": "C", "reward": 0.0}]}"#;
    let data = folder.write("d.jsonl", row);
    let refused = collimate(&["data", "check", &data]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("--skip-unusable leaves such responses out"), "{}", refused.err);
    let outcome = succeed(&["data", "check", &data, "--skip-unusable"]);
    assert!(outcome.out.contains("1 row, 1 group, 0 errors\nresponses left out: 1 × no reward"), "{}", outcome.out);
    let run = folder.arg("run");
    let args = ["train", "--model", model_arg(), "--data", &data, "--output", &run, "--set", "max_steps=1"];
    let trained = succeed(&[&args[..], &["--set", "skip_unusable=true"]].concat());
    assert!(trained.err.contains("1 response left out: it cannot be used"), "{}", trained.err);
}

const SCORED: &str = r#"{"prompt": "Q", "responses": [{"content": "A", "reward": 1}, {"content": "B", "reward": 0}]}"#;

/// A verb's arguments but for its input and output.
fn verb(name: &str) -> Vec<&'static str> {
    match name {
        "convert" => vec!["data", "convert"],
        "sample" => vec!["sample", "--model", model_arg(), "-n", "1", "--max-new-tokens", "2", "--quiet", "--data"],
        "score" => vec!["score", "--model", model_arg(), "--quiet", "--data"],
        _ => vec!["reward", "--command", "sed s/.*/2/", "--quiet", "--data"],
    }
}

#[rstest]
fn an_output_is_replaced_only_if_asked(#[values("convert", "sample", "score", "reward")] name: &str) {
    let folder = Folder::new();
    let (data, output) = (folder.write("in.jsonl", SCORED), folder.write("out.jsonl", "mine\n"));
    let args = [&verb(name)[..], &[&data, "--output", &output]].concat();
    let refused = collimate(&args);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("out.jsonl: there is a file of this name; --force replaces it"), "{}", refused.err);
    assert_eq!((folder.read("out.jsonl").as_str(), folder.read("in.jsonl").as_str()), ("mine\n", SCORED));
    succeed(&[&args[..], &["--force"]].concat());
    assert_eq!(folder.rows("out.jsonl").len(), 1);
}

#[rstest]
fn an_input_is_never_the_output(
    #[values("convert", "sample", "score", "reward")] name: &str,
    #[values(&[], &["--force"])] force: &[&str],
    #[values("d/in.jsonl", "d/*.jsonl", "d")] given: &str,
) {
    let folder = Folder::new();
    let input = folder.write("d/in.jsonl", SCORED);
    let data = folder.arg(given);
    let refused = collimate(&[&verb(name)[..], &[&data, "--output", &input], force].concat());
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("this file is read, so it cannot be the output too"), "{}", refused.err);
    assert_eq!(folder.read("d/in.jsonl"), SCORED);
}

#[test]
fn a_file_that_is_not_there_is_answered_with_the_nearest_name() {
    let folder = Folder::new();
    folder.write("rewards.jsonl", SCORED);
    folder.write("other.txt", "x");
    for args in [vec!["data", "check"], verb("score")] {
        let (data, output) = (folder.arg("reward.jsonl"), folder.arg("out.jsonl"));
        let mut args = [&args[..], &[&data]].concat();
        if args[0] != "data" {
            args.extend(["--output", &output]);
        }
        let outcome = collimate(&args);
        assert_eq!(outcome.code, 2);
        assert!(outcome.err.contains("reward.jsonl: there is no such file; perhaps "), "{}", outcome.err);
        assert!(outcome.err.contains("rewards.jsonl\n"), "{}", outcome.err);
    }
}

#[rstest]
#[case("d.csv", b"prompt,chosen,rejected\nQ,A,B\n", "this is a CSV table")]
#[case("d.safetensors", b"\x10\0\0\0\0\0\0\0{\"a\":{}}", "this is a safetensors file")]
#[case("d.zip", b"PK\x03\x04rest", "this is a ZIP archive")]
#[case("d.yaml", b"model_name_or_path: base\n", "this is YAML, perhaps a recipe")]
fn a_file_of_another_kind_is_named_with_what_is_read(#[case] name: &str, #[case] bytes: &[u8], #[case] kind: &str) {
    let folder = Folder::new();
    let outcome = collimate(&["data", "check", &folder.write(name, bytes)]);
    assert_eq!(outcome.code, 2);
    assert!(
        outcome.err.contains(kind) && outcome.err.contains("JSON Lines, a JSON list or Parquet"),
        "{}",
        outcome.err
    );
}

#[rstest]
#[case::one_row(format!("{SCORED}\n"))]
#[case::rows(format!("{SCORED}\n{SCORED}\n"))]
#[case::a_list(format!("[{SCORED}]"))]
fn data_in_place_of_a_recipe_is_recognized(#[case] text: String) {
    let folder = Folder::new();
    let outcome = collimate(&["train", &folder.write("rewards.jsonl", text), "--model", model_arg()]);
    assert_eq!(outcome.code, 2, "{}", outcome.err);
    let said = outcome.err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        said.contains("this looks like data, not like a recipe") && said.contains("--data FILE"),
        "{}",
        outcome.err
    );
}
