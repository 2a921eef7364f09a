//! Broken rows are errors that name file, line and field.

use crate::common::{first_error, reader};
use collimate_data::{DataError, DataSource, Layout, LoadOptions, MostResponses, ScoreDirection};
use rstest::rstest;

const OURS: &str = r#"{"prompt": "a", "responses": [{"content": "b", "reward": 1}, {"content": "c", "reward": 0}]}"#;

#[rstest]
#[case::reward_as_text(
    r#"{"prompt": "a", "responses": [{"content": "b", "reward": "n/a"}]}"#,
    r#"data.jsonl:1: field "responses[0].reward": expected a finite number, found "n/a""#
)]
#[case::number_in_text(
    r#"{"prompt": "a", "responses": [{"content": "b", "reward": 1}, {"content": "c", "reward": "0.5"}]}"#,
    r#"data.jsonl:1: field "responses[1].reward": expected a finite number, found "0.5""#
)]
#[case::reward_null(
    r#"{"prompt": "a", "responses": [{"content": "b", "reward": null}]}"#,
    r#"data.jsonl:1: field "responses[0].reward": expected a finite number, found null; --skip-unusable leaves such responses out"#
)]
#[case::reward_missing(
    r#"{"prompt": "a", "responses": [{"content": "b"}, {"content": "c"}]}"#,
    r#"data.jsonl:1: field "responses[0].reward": expected a finite number, found nothing; --skip-unusable leaves such responses out"#
)]
#[case::content_missing(
    r#"{"prompt": "a", "responses": [{"reward": 1}]}"#,
    r#"data.jsonl:1: field "responses[0].content": expected a string, found nothing"#
)]
#[case::content_number(
    r#"{"prompt": "a", "responses": [{"content": 4, "reward": 1}]}"#,
    r#"data.jsonl:1: field "responses[0].content": expected a string, found 4"#
)]
#[case::response_text(
    r#"{"prompt": "a", "responses": ["b"]}"#,
    r#"data.jsonl:1: field "responses[0]": expected an object, found "b""#
)]
#[case::responses_object(
    r#"{"prompt": "a", "responses": {"content": "b"}}"#,
    r#"data.jsonl:1: field "responses": expected a list of responses, found an object with content"#
)]
#[case::no_prompt(
    r#"{"responses": []}"#,
    r#"data.jsonl:1: field "prompt": expected a string or a list of messages, found nothing"#
)]
#[case::prompt_number(
    r#"{"prompt": 3, "responses": []}"#,
    r#"data.jsonl:1: field "prompt": expected a string or a list of messages, found 3"#
)]
#[case::prompt_empty_list(
    r#"{"prompt": [], "responses": []}"#,
    r#"data.jsonl:1: field "prompt": expected at least one message, found an empty list"#
)]
#[case::role_number(
    r#"{"prompt": [{"role": 1, "content": "a"}], "responses": []}"#,
    r#"data.jsonl:1: field "prompt[0].role": expected a string, found 1"#
)]
#[case::message_without_content(
    r#"{"prompt": [{"role": "user"}], "responses": []}"#,
    r#"data.jsonl:1: field "prompt[0].content": expected a string, found nothing"#
)]
#[case::part_without_text(
    r#"{"prompt": [{"role": "user", "content": [{"type": "text"}]}], "responses": []}"#,
    r#"data.jsonl:1: field "prompt[0].content[0].text": expected a string, found nothing"#
)]
#[case::score_text(
    r#"{"prompt": "a", "responses": [{"content": "b", "reward": 1, "scores": {"x": "y"}}]}"#,
    r#"data.jsonl:1: field "responses[0].scores.x": expected a finite number, found "y""#
)]
#[case::token_ids_that_are_none(
    r#"{"prompt": "a", "responses": [{"content": "b", "reward": 1, "token_ids": [4, -1]}]}"#,
    r#"data.jsonl:1: field "responses[0].token_ids[1]": expected a token id, found -1"#
)]
#[case::no_responses(
    r#"{"prompt": "a", "responses": []}"#,
    "data.jsonl:1: the group has 0 responses, expected at least 2; --skip-unusable skips such rows"
)]
#[case::key_twice(
    r#"{"prompt": "a", "prompt": "b", "responses": []}"#,
    r#"data.jsonl:1:24: not valid JSON: the key "prompt" is given twice"#
)]
#[case::overflow(
    r#"{"prompt": "a", "responses": [{"content": "b", "reward": 1e999}]}"#,
    "data.jsonl:1:62: not valid JSON: number out of range"
)]
#[case::not_a_number(
    r#"{"prompt": "a", "responses": [{"content": "b", "reward": NaN}]}"#,
    r#"data.jsonl:1: field "responses[0].reward": expected a finite number, found null; --skip-unusable leaves such responses out"#
)]
#[case::several_lines(
    "{\n\"prompt\": \"a\"}",
    "data.jsonl:1:1: not valid JSON: EOF while parsing an object; each object must be on a single line"
)]
#[case::two_objects("{} {}", "data.jsonl:1:4: not valid JSON: trailing characters")]
#[case::pair_text_without_prompt(
    r#"{"chosen": "Human: a b", "rejected": "Human: a c"}"#,
    "data.jsonl:1: \"chosen\", \"rejected\" are text and there is no \"prompt\", so where the prompt ends would be a guess; \
     add a \"prompt\" field and keep only the responses, or give lists of messages"
)]
#[case::pair_mixed_kinds(
    r#"{"prompt": "a", "chosen": "b", "rejected": [{"role": "assistant", "content": "c"}]}"#,
    r#"data.jsonl:1: field "chosen": expected messages, like its siblings, found "b""#
)]
#[case::pair_nothing_shared(
    r#"{"chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "rejected": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "c"}]}"#,
    "data.jsonl:1: there is no \"prompt\" and \"chosen\", \"rejected\" begin with different messages; add the prompt as a field")]
#[case::pair_two_turns(
    r#"{"prompt": [{"role": "user", "content": "a"}], "chosen": [{"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}], "rejected": [{"role": "assistant", "content": "d"}]}"#,
    r#"data.jsonl:1: field "chosen[1].role": expected "assistant", who begins and ends what follows the prompt, found "user""#)]
#[case::null_among_texts(
    r#"{"prompt": "a", "responses": ["x", null], "scores": [1, 0]}"#,
    r#"data.jsonl:1: field "responses[1]": expected a string, found null"#
)]
#[case::pair_wrong_role(
    r#"{"prompt": [{"role": "user", "content": "a"}], "chosen": [{"role": "user", "content": "b"}], "rejected": [{"role": "assistant", "content": "d"}]}"#,
    r#"data.jsonl:1: field "chosen[0].role": expected "assistant", found "user""#)]
#[case::pair_other_prompt(
    r#"{"prompt": "zzz", "chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "rejected": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "c"}]}"#,
    "data.jsonl:1: \"prompt\" is not among the messages that \"chosen\", \"rejected\" have in common; make it the list \
     of messages before the response, or remove it")]
#[case::pair_one_score(
    r#"{"prompt": "a", "chosen": "b", "rejected": "c", "score_chosen": 1}"#,
    r#"data.jsonl:1: field "score_rejected": expected a finite number, like the other response's, found nothing; --skip-unusable leaves such responses out"#
)]
#[case::set_with_a_gap(
    r#"{"prompt": "a", "A0": "b", "A2": "c", "score_A0": 1, "score_A2": 2}"#,
    r#"data.jsonl:1: field "A1": expected a completion before "A2": numbers must have no gaps, found nothing"#
)]
#[case::set_without_score(
    r#"{"prompt": "a", "A0": "b", "A1": "c", "score_A0": 1}"#,
    r#"data.jsonl:1: field "score_A1": expected a finite number, found nothing; --skip-unusable leaves such responses out"#
)]
#[case::rank_zero(
    r#"{"prompt": "a", "answers": [{"answer": "b", "rank": 0}, {"answer": "c", "rank": 1}]}"#,
    r#"data.jsonl:1: field "answers[0].rank": expected a rank from 1 to 2, the number of responses, found 0"#
)]
#[case::rank_missing(
    r#"{"context": "a", "completions": [{"text": "b"}]}"#,
    r#"data.jsonl:1: field "completions[0].rank": expected a rank, found nothing; --skip-unusable leaves such responses out"#
)]
#[case::rating_word(r#"{"instruction": "a", "completions": [{"response": "b", "annotations": {"honesty": {"Rating": "good"}}}]}"#,
    r#"data.jsonl:1: field "completions[0].annotations.honesty.Rating": expected a rating such as "4" or "N/A", found "good""#)]
#[case::json_list(
    "[{\"prompt\": \"a\", \"responses\": 3}]",
    r#"data.jsonl:1: field "responses": expected a list of responses, found 3"#
)]
#[case::json_list_on_many_lines(
    "[\n{\"prompt\": \"a\"\n]\n",
    "data.jsonl:1: not a valid JSON list: the list is truncated"
)]
#[case::json_list_with_a_broken_row("[{\"prompt\" \"a\"}]", "data.jsonl:1: not valid JSON: expected `:`")]
#[case::parquet("PAR1\u{15}", "data.jsonl: this is Parquet, which can only be read from a file, not from a stream")]
#[case::empty("\n\n", "data.jsonl: it has no rows")]
fn a_broken_row_is_refused_by_name(#[case] text: &str, #[case] expected: &str) {
    assert_eq!(first_error(text, &LoadOptions::default()), expected);
}

#[rstest]
#[case(
    r#"{"question": "a", "answer": "b"}"#,
    "no layout is known for a row with question, answer; there are\n  collimate: prompt, responses[].content"
)]
#[case("{}", "no layout is known for a row with no fields; there are")]
#[case("3", "no layout is known for a row with no fields: it is not an object; there are")]
fn an_unknown_layout_lists_the_fields_found_and_needed(#[case] text: &str, #[case] expected: &str) {
    let message = first_error(text, &LoadOptions::default());
    assert!(message.contains(expected), "{message}");
    assert!(message.contains("\n  nectar: prompt, answers[].answer, answers[].rank"), "{message}");
}

#[test]
fn the_line_of_a_later_row_is_named() {
    let text = format!("{OURS}\n\n{OURS}\n{{\"prompt\": \"a\"}}\n");
    assert_eq!(
        first_error(&text, &LoadOptions::default()),
        r#"data.jsonl:4: field "responses": expected a list of responses, found nothing"#
    );
}

#[test]
fn a_later_row_with_other_fields_for_its_rewards_is_refused() {
    let text = "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\", \"score_chosen\": 2, \"score_rejected\": 1}\n\
                {\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}";
    assert_eq!(
        first_error(text, &LoadOptions::default()),
        "data.jsonl:2: the first row's rewards come from score_chosen, score_rejected, this row's from chosen 1, rejected 0; \
         give every row the same fields"
    );
}

#[test]
fn a_requested_field_must_exist() {
    let options = LoadOptions { reward_from: Some("field:quality".parse().unwrap()), ..LoadOptions::default() };
    assert_eq!(
        first_error(OURS, &options),
        r#"data.jsonl:1: field "responses[0].quality": expected a finite number, found nothing; --skip-unusable leaves such responses out"#
    );
}

#[test]
fn rewards_are_fitted_to_at_most_128_responses() {
    let response = |reward: usize| format!(r#"{{"content": "a", "reward": {reward}}}"#);
    let row = |count: usize| {
        let responses: Vec<String> = (0..count).map(response).collect();
        format!(r#"{{"prompt": "p", "responses": [{}]}}"#, responses.join(", "))
    };
    for rule in ["pairs", "plackett_luce", "elo"] {
        let options = LoadOptions { reward_from: Some(rule.parse().unwrap()), ..LoadOptions::default() };
        let group = reader(&row(128), &options).unwrap().next().unwrap().unwrap();
        assert_eq!(group.responses.len(), 128, "{rule}");
        let error = first_error(&row(129), &options);
        assert!(error.contains("a prompt may have at most 128; found 129"), "{error}");
    }
    let group = reader(&row(5000), &LoadOptions::default()).unwrap().next().unwrap().unwrap();
    assert_eq!(group.responses.len(), 5000);
}

#[test]
fn a_gain_that_overflows_is_refused() {
    let options = LoadOptions { reward_from: Some("ndcg".parse().unwrap()), ..LoadOptions::default() };
    let text = OURS.replace("\"reward\": 1", "\"reward\": 5000");
    assert!(first_error(&text, &options).contains("\"responses[0].reward\" is not finite"));
}

#[test]
fn a_direction_for_preferences_without_scores_is_refused() {
    let options = LoadOptions { direction: Some(ScoreDirection::LowerIsBetter), ..LoadOptions::default() };
    let error = reader(r#"{"prompt": "a", "chosen": "b", "rejected": "c"}"#, &options).unwrap_err();
    assert!(matches!(error, DataError::Options { .. }), "{error}");
}

#[test]
fn a_forced_layout_names_the_field_that_is_missing() {
    let options = LoadOptions { layout: Some(Layout::Nectar), ..LoadOptions::default() };
    assert_eq!(
        first_error(OURS, &options),
        r#"data.jsonl:1: field "answers": expected a list of answers, found nothing"#
    );
}

#[test]
fn bytes_that_are_not_text_are_refused() {
    let bytes = std::io::Cursor::new(b"{\"prompt\": \"\xff\"}".to_vec());
    let error = DataSource::from_reader(bytes, "data.jsonl", &LoadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("not valid JSON: invalid unicode"), "{error}");
}

#[test]
fn a_missing_file_is_named() {
    let error = DataSource::open("no/such/file.jsonl", &LoadOptions::default()).unwrap_err().to_string();
    assert!(error.starts_with("no/such/file.jsonl: "), "{error}");
}

#[test]
fn a_row_with_more_responses_than_are_taken_is_named() {
    let of = "the objective \"x\"".to_owned();
    let most = Some(MostResponses { count: 1, of });
    let options = LoadOptions { most_responses: most, min_responses: 1, skip_unusable: true, ..LoadOptions::default() };
    let one = r#"{"prompt": "a", "responses": [{"content": "b", "reward": 1}]}"#;
    let expected = "data.jsonl:2: 2 responses, but the objective \"x\" takes at most 1";
    assert_eq!(first_error(&format!("{one}\n{OURS}\n"), &options), expected);
    // A response that is left out does not count.
    let blank = OURS.replace("\"c\"", "\"\"");
    assert_eq!(reader(&blank, &options).unwrap().next().unwrap().unwrap().responses.len(), 1);
}
