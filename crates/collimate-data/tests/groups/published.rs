//! The layouts of published data sets and of other trainers, with all columns that they have.

use collimate_data::{ConvertTo, DataSource, Layout, LoadOptions, Message, Prompt, PromptGroup, convert};
use rstest::rstest;
use serde_json::{Value, json};

use crate::common::{first_error, reader, rewards};

/// Options for objectives that compare nothing.
fn one() -> LoadOptions {
    LoadOptions { min_responses: 1, ..LoadOptions::default() }
}

fn from(reward_from: &str) -> LoadOptions {
    LoadOptions { reward_from: Some(reward_from.parse().unwrap()), ..LoadOptions::default() }
}

/// All groups of rows, and the name of their layout.
fn read(rows: &[Value], options: &LoadOptions) -> (&'static str, Vec<PromptGroup>) {
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    let mut reader = reader(&text, options).unwrap();
    let groups = reader.by_ref().map(Result::unwrap).collect();
    (reader.describe().layout.name(), groups)
}

fn contents(group: &PromptGroup) -> Vec<&str> {
    group.responses.iter().map(|response| response.content.as_str()).collect()
}

fn user(text: &str) -> Prompt {
    Prompt::Messages(vec![Message::new("user", text)])
}

fn turns(turns: &[(&str, &str)]) -> Prompt {
    Prompt::Messages(turns.iter().map(|(role, text)| Message::new(*role, *text)).collect())
}

/// Rows with one group: layout, prompt, responses and their rewards.
#[rstest]
#[case::hh_rlhf(
    json!({"chosen": "\n\nHuman: Name a bird.\n\nAssistant: Wren.\n\nHuman: Another?\n\nAssistant: Robin.",
           "rejected": "\n\nHuman: Name a bird.\n\nAssistant: Wren.\n\nHuman: Another?\n\nAssistant: No."}),
    "hh_rlhf", turns(&[("user", "Name a bird."), ("assistant", "Wren."), ("user", "Another?")]), &["Robin.", "No."], &[1.0, 0.0])]
#[case::ultrainteract(
    json!({"task": "Math", "dataset": "MATH", "trajectory": [{"from": "user", "value": "2 + 2?"},
           {"from": "assistant", "value": "Let me see."}, {"from": "user", "value": "Well?"}],
           "chosen": "4", "rejected": "5", "id": "0", "parent_id": "0"}),
    "ultrainteract", turns(&[("user", "2 + 2?"), ("assistant", "Let me see."), ("user", "Well?")]), &["4", "5"], &[1.0, 0.0])]
#[case::sharegpt_pair(
    json!({"id": "a", "system": "Be brief.", "conversations": [{"from": "human", "value": "Q"}],
           "chosen": {"from": "gpt", "value": "A"}, "rejected": {"from": "gpt", "value": "B"}}),
    "sharegpt", turns(&[("system", "Be brief."), ("user", "Q")]), &["A", "B"], &[1.0, 0.0])]
#[case::sharegpt_pair_of_texts(
    json!({"conversations": [{"role": "user", "content": "Q"}], "chosen": "A", "rejected": [{"role": "assistant", "content": "B"}]}),
    "sharegpt", user("Q"), &["A", "B"], &[1.0, 0.0])]
#[case::messages_pair(
    json!({"messages": [{"role": "user", "content": "Q"}], "chosen": {"role": "assistant", "content": "A"},
           "rejected": {"role": "assistant", "content": "B"}}),
    "messages", user("Q"), &["A", "B"], &[1.0, 0.0])]
#[case::swift_response(
    json!({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}], "rejected_response": "B"}),
    "messages", user("Q"), &["A", "B"], &[1.0, 0.0])]
#[case::swift_messages(
    json!({"system": "Be brief.", "messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}],
           "rejected_messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "B"}]}),
    "messages", turns(&[("system", "Be brief."), ("user", "Q")]), &["A", "B"], &[1.0, 0.0])]
#[case::swift_query(
    json!({"query": "Q", "response": "A", "rejected_response": "B", "history": [["q", "a"]]}),
    "alpaca", turns(&[("user", "q"), ("assistant", "a"), ("user", "Q")]), &["A", "B"], &[1.0, 0.0])]
#[case::alpaca_pair(
    json!({"instruction": "Sum up.", "input": "A long text.", "chosen": "A", "rejected": "B", "system": ""}),
    "alpaca", user("Sum up.\nA long text."), &["A", "B"], &[1.0, 0.0])]
#[case::alpaca_list(
    json!({"instruction": "Q", "input": "", "output": ["A", "B"], "history": []}),
    "alpaca", user("Q"), &["A", "B"], &[1.0, 0.0])]
#[case::orca_pair(
    json!({"system": "Be brief.", "question": "Q", "chosen": "A", "rejected": "B"}),
    "alpaca", turns(&[("system", "Be brief."), ("user", "Q")]), &["A", "B"], &[1.0, 0.0])]
#[case::pku(
    json!({"prompt": "Q", "response_0": "A", "response_1": "B", "prompt_source": "x", "response_0_source": "y",
           "response_1_source": "z", "is_response_0_safe": false, "is_response_1_safe": true,
           "response_0_harm_category": {"Violence": true}, "response_1_harm_category": {"Violence": false},
           "response_0_severity_level": 3, "response_1_severity_level": 0, "better_response_id": 0, "safer_response_id": 1,
           "response_0_sha256": "0", "response_1_sha256": "1"}),
    "pku_safe_rlhf", user("Q"), &["A", "B"], &[1.0, 0.0])]
#[case::stack_exchange_pair(
    json!({"qid": 1, "question": "Q", "date": "2020/01/01", "metadata": ["x"], "response_j": "A", "response_k": "B"}),
    "stack_exchange", user("Q"), &["A", "B"], &[1.0, 0.0])]
#[case::stack_exchange_answers(
    json!({"qid": 1, "question": "Q", "date": "2020/01/01", "metadata": ["x"], "answers": [
           {"answer_id": 1, "author": "a", "author_id": 1, "author_profile": "p", "pm_score": 4, "selected": true, "text": "A"},
           {"answer_id": 2, "author": "b", "author_id": 2, "author_profile": "p", "pm_score": 0, "selected": false, "text": "B"},
           {"answer_id": 3, "author": "c", "author_id": 3, "author_profile": "p", "pm_score": -1, "selected": false, "text": "C"}]}),
    "stack_exchange", user("Q"), &["A", "B", "C"], &[4.0, 0.0, -1.0])]
#[case::helpsteer_2_first_preferred(
    json!({"split": "train", "prompt": "Q", "response_1": "A", "response_2": "B", "preference_strength": -3,
           "preference_statement": "s", "preference_elaboration": "e", "three_most_similar_preferences": [],
           "all_preferences_unprocessed": []}),
    "helpsteer2_preference", user("Q"), &["A", "B"], &[3.0, 0.0])]
#[case::helpsteer_3_second_preferred(
    json!({"domain": "code", "language": "rust", "context": [{"role": "user", "content": "Q"}], "response1": "A",
           "response2": "B", "overall_preference": 2, "individual_preference": [{"score": 2, "reasoning": "r", "feedback1": "f",
           "feedback2": "g"}]}),
    "helpsteer3", user("Q"), &["A", "B"], &[0.0, 2.0])]
#[case::helpsteer_3_tie(
    json!({"context": [{"role": "user", "content": "Q"}], "response1": "A", "response2": "B", "overall_preference": 0}),
    "helpsteer3", user("Q"), &["A", "B"], &[0.0, 0.0])]
#[case::texts_and_scores(
    json!({"prompt": "Q", "completions": ["A", "B", "C"], "scores": [1, 0, 0.5]}),
    "scored_lists", Prompt::Text("Q".to_owned()), &["A", "B", "C"], &[1.0, 0.0, 0.5])]
#[case::grpo(
    json!({"step": 3, "prompt": [{"role": "user", "content": "Q"}], "completions": [[{"role": "assistant", "content": "A"}],
           [{"role": "assistant", "content": "B"}]], "rewards": [0.25, -0.5], "advantages": [1, -1]}),
    "scored_lists", user("Q"), &["A", "B"], &[0.25, -0.5])]
#[case::responses_and_rewards(
    json!({"prompt": "Q", "responses": ["A", "B"], "rewards": [true, false]}),
    "scored_lists", Prompt::Text("Q".to_owned()), &["A", "B"], &[1.0, 0.0])]
fn a_published_row_is_a_group(
    #[case] row: Value,
    #[case] layout: &str,
    #[case] prompt: Prompt,
    #[case] responses: &[&str],
    #[case] expected: &[f64],
) {
    let (found, groups) = read(std::slice::from_ref(&row), &LoadOptions::default());
    assert_eq!((found, groups.len()), (layout, 1));
    assert_eq!(groups[0].prompt, prompt);
    assert_eq!((contents(&groups[0]), rewards(&groups[0])), (responses.to_vec(), expected.to_vec()));
    // Converted to this project's layout, it is the same group.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    let mut again = reader(&row.to_string(), &LoadOptions::default()).unwrap();
    convert(&mut again, &path, ConvertTo::Collimate).unwrap();
    let back: Vec<PromptGroup> =
        DataSource::open(&path, &LoadOptions::default()).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!((&back[0].prompt, &back[0].responses), (&groups[0].prompt, &groups[0].responses));
}

/// Rows of one response that is to be imitated.
#[rstest]
#[case::messages(
    json!({"prompt_id": "x", "messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}),
    "messages", user("Q"))]
#[case::ultrachat(
    json!({"prompt": "Q", "prompt_id": "x", "messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}),
    "messages", user("Q"))]
#[case::sharegpt(
    json!({"id": "x", "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}), "sharegpt", user("Q"))]
#[case::alpaca(json!({"instruction": "Q", "input": "", "output": "A", "text": "Below is …"}), "alpaca", user("Q"))]
#[case::dolly(
    json!({"instruction": "Q", "context": "C", "response": "A", "category": "closed_qa"}), "alpaca", user("Q\nC"))]
#[case::open_orca(
    json!({"id": "x", "system_prompt": "Be brief.", "question": "Q", "response": "A"}),
    "alpaca", turns(&[("system", "Be brief."), ("user", "Q")]))]
#[case::prompt_completion(json!({"prompt": "Q", "completion": "A"}), "prompt_completion", Prompt::Text("Q".to_owned()))]
fn a_demonstration_is_for_objectives_that_compare_nothing(
    #[case] row: Value,
    #[case] layout: &str,
    #[case] prompt: Prompt,
) {
    let (found, groups) = read(std::slice::from_ref(&row), &one());
    assert_eq!((found, groups.len()), (layout, 1));
    assert_eq!((&groups[0].prompt, contents(&groups[0])), (&prompt, vec!["A"]));
    let error = first_error(&row.to_string(), &LoadOptions::default());
    assert!(
        error.contains("rows of one response without a reward are for objectives that compare nothing, such as sft")
    );
    assert!(reader(&row.to_string(), &LoadOptions::default()).unwrap().is_demonstrations());
}

#[rstest]
#[case::text(json!("Q"), json!("A"), json!("B"))]
#[case::messages(json!([{"role": "user", "content": "Q"}]), json!([{"role": "assistant", "content": "A"}]),
                 json!([{"role": "assistant", "content": "B"}]))]
fn rows_of_kto_with_the_same_prompt_are_one_group(#[case] prompt: Value, #[case] good: Value, #[case] bad: Value) {
    // As `unpair_preference_dataset` writes them: all good ones, then all bad ones.
    let rows = [
        json!({"prompt": prompt, "completion": good, "label": true}),
        json!({"prompt": "other", "completion": "C", "label": true}),
        json!({"prompt": prompt, "completion": bad, "label": false}),
        json!({"prompt": "other", "completion": "D", "label": 0}),
    ];
    let (layout, groups) = read(&rows, &LoadOptions::default());
    assert_eq!((layout, groups.len()), ("kto", 2));
    assert_eq!((contents(&groups[0]), rewards(&groups[0])), (vec!["A", "B"], vec![1.0, 0.0]));
    assert_eq!((contents(&groups[1]), rewards(&groups[1])), (vec!["C", "D"], vec![1.0, 0.0]));
    assert_eq!(groups.iter().map(|group| (group.index, group.line)).collect::<Vec<_>>(), [(0, 1), (1, 2)]);
}

#[rstest]
#[case(json!({"prompt": "Q", "completion": "A", "label": true}), json!({"prompt": "Q", "completion": "B", "label": false}))]
#[case(json!({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}], "label": true}),
       json!({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "B"}], "label": false}))]
#[case(json!({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}], "kto_tag": true}),
       json!({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "B"}], "kto_tag": false}))]
#[case(json!({"instruction": "Q", "output": "A", "kto_tag": true}), json!({"instruction": "Q", "output": "B", "kto_tag": false}))]
fn a_label_makes_rows_of_a_prompt_one_group_in_every_form(#[case] good: Value, #[case] bad: Value) {
    let (_, groups) = read(&[bad.clone(), good], &LoadOptions::default());
    assert_eq!((contents(&groups[0]), rewards(&groups[0])), (vec!["B", "A"], vec![0.0, 1.0]));
    // A prompt with one response can be compared with nothing.
    let error = first_error(&bad.to_string(), &LoadOptions::default());
    let expected = "data.jsonl:1: the group has 1 response, expected at least 2; all rows with its prompt are counted; \
                    --skip-unusable skips such rows";
    assert_eq!(error, expected);
}

#[test]
fn bad_responses_alone_are_not_imitated() {
    let rows = [
        json!({"prompt": "Q", "completion": "A", "label": false}),
        json!({"prompt": "R", "completion": "B", "label": true}),
    ];
    let options = LoadOptions { needs_good_response: true, ..one() };
    let text = format!("{}\n{}\n", rows[0], rows[1]);
    let error = first_error(&text, &options);
    assert!(error.contains("no response to this prompt is labeled true"), "{error}");
    let mut skipping = reader(&text, &LoadOptions { skip_unusable: true, ..options }).unwrap();
    assert_eq!(skipping.by_ref().map(|group| group.unwrap().line).collect::<Vec<_>>(), [2]);
    assert_eq!(skipping.counts().num_skipped(), 1);
}

fn helpsteer2(prompt: &str, response: &str, helpfulness: Value) -> Value {
    json!({"prompt": prompt, "response": response, "helpfulness": helpfulness, "correctness": 3, "coherence": 4,
           "complexity": 1, "verbosity": 2})
}

#[test]
fn ratings_of_helpsteer_2_are_grouped_by_prompt() {
    let prompt = "Q<extra_id_1>Assistant\nA\n<extra_id_1>User\nR";
    let rows = [helpsteer2(prompt, "B", json!(4)), helpsteer2(prompt, "C", json!(1))];
    let (layout, groups) = read(&rows, &LoadOptions::default());
    assert_eq!((layout, groups.len()), ("helpsteer2", 1));
    assert_eq!(groups[0].prompt, turns(&[("user", "Q"), ("assistant", "A"), ("user", "R")]));
    assert_eq!((contents(&groups[0]), rewards(&groups[0])), (vec!["B", "C"], vec![4.0, 1.0]));
    let (_, groups) = read(&rows, &from("aspects:correctness=1,verbosity=0.5"));
    assert_eq!(rewards(&groups[0]), [3.0 + 0.5 * 2.0, 3.0 + 0.5 * 2.0]);
}

#[rstest]
#[case("field:safer", None, &[0.0, 1.0])]
#[case("field:is_safe", None, &[0.0, 1.0])]
#[case("field:severity", Some(collimate_data::ScoreDirection::LowerIsBetter), &[-3.0, 0.0])]
fn pku_has_more_than_one_judgment(
    #[case] rule: &str,
    #[case] direction: Option<collimate_data::ScoreDirection>,
    #[case] expected: &[f64],
) {
    let row = json!({"prompt": "Q", "response_0": "A", "response_1": "B", "is_response_0_safe": false, "is_response_1_safe": true,
        "response_0_severity_level": 3, "response_1_severity_level": 0, "better_response_id": 0, "safer_response_id": 1});
    let (_, groups) = read(&[row], &LoadOptions { direction, ..from(rule) });
    assert_eq!(rewards(&groups[0]), expected);
}

#[test]
fn an_hh_row_with_two_prompts_or_an_empty_answer_can_be_skipped() {
    let row = |chosen: &str, rejected: &str| json!({"chosen": chosen, "rejected": rejected}).to_string();
    let good = row("\n\nHuman: Q\n\nAssistant: A", "\n\nHuman: Q\n\nAssistant: B");
    let text = [
        good.as_str(),
        &row("\n\nHuman: Q\n\nAssistant: A", "\n\nHuman: R\n\nAssistant: B"),
        &row("\n\nHuman: Q\n\nAssistant: A", "\n\nHuman: Q\n\nAssistant:"),
    ]
    .join("\n");
    assert_eq!(
        first_error(&text, &LoadOptions::default()),
        "data.jsonl:2: \"chosen\" and \"rejected\" differ before the assistant's last turn; --skip-unusable skips such rows"
    );
    let mut skipping = reader(&text, &LoadOptions { skip_unusable: true, ..LoadOptions::default() }).unwrap();
    assert_eq!(skipping.by_ref().map(Result::unwrap).count(), 1);
    let skipped: Vec<String> = skipping.counts().skipped.iter().map(|(why, count)| format!("{why}: {count}")).collect();
    assert_eq!(skipped, ["empty response: 1", "prompts that differ: 1"]);
    let ends = row("\n\nHuman: Q\n\nAssistant: A\n\nHuman: R", "\n\nHuman: Q\n\nAssistant: B");
    assert!(first_error(&ends, &LoadOptions::default()).contains("field \"chosen\": expected a dialogue"));
}

#[test]
fn the_table_of_layouts_is_in_the_docs() {
    let mut table = "| layout | prompt | responses | rewards |\n|---|---|---|---|\n".to_owned();
    for layout in Layout::ALL {
        let [name, prompt, responses, rewards] = layout.table_row();
        table += &format!("| `{name}` | {prompt} | {responses} | {} |\n", rewards.replace('|', "\\|"));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/data.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once("<!-- table: start -->\n").unwrap();
    let (found, after) = rest.split_once("<!-- table: end -->").unwrap();
    if std::env::var_os("COLLIMATE_WRITE_DOCS").is_some() {
        let page = format!("{before}<!-- table: start -->\n{table}<!-- table: end -->{after}");
        std::fs::write(path, page).unwrap();
    } else {
        assert_eq!(found, table, "run this test with COLLIMATE_WRITE_DOCS=1 and commit docs/data.md");
    }
}
