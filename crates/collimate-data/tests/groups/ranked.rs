//! Lists of ranks, and lists of responses under other names.

use collimate_data::{Layout, LoadOptions, ScoreDirection};
use rstest::rstest;
use serde_json::{Value, json};

use crate::common::{first_error, reader, rewards};

/// The layout of one row, its responses and their rewards.
fn read(row: &Value, options: &LoadOptions) -> (&'static str, Vec<(String, f64)>) {
    let mut reader = reader(&format!("{row}\n"), options).unwrap();
    let group = reader.next().unwrap().unwrap();
    let rewards = rewards(&group);
    let contents = group.responses.into_iter().map(|response| response.content);
    (reader.describe().layout.name(), contents.zip(rewards).collect())
}

#[rstest]
#[case::ranks(json!({"prompt": "Q", "completions": ["A", "B", "C"], "ranks": [2, 1, 3]}))]
#[case::rank(json!({"prompt": "Q", "responses": ["A", "B", "C"], "rank": [2, 1, 3]}))]
#[case::numbers_of_parquet(json!({"prompt": "Q", "candidates": ["A", "B", "C"], "ranks": [2.0, 1.0, 3.0]}))]
#[case::another_list(json!({"prompt": "Q", "generations": ["A", "B", "C"], "ranks": [2, 1, 3], "model": "m"}))]
#[case::conversations(json!({"prompt": "Q", "ranks": [2, 1, 3],
    "outputs": [[{"role": "assistant", "content": "A"}], [{"role": "assistant", "content": "B"}], [{"role": "assistant", "content": "C"}]]}))]
fn a_list_of_ranks_has_one_for_each_response(#[case] row: Value) {
    let (layout, found) = read(&row, &LoadOptions::default());
    assert_eq!(layout, "ranked_lists");
    let best_first = {
        let mut sorted = found.clone();
        sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
        sorted
    };
    assert_eq!(best_first.iter().map(|(content, _)| content.as_str()).collect::<String>(), "BAC", "{found:?}");
    assert_eq!(Layout::RankedLists.direction(), ScoreDirection::LowerIsBetter);
}

/// A rank per response reads as the same rewards, whichever list it is in.
#[test]
fn ranks_beside_and_in_the_responses_are_the_same() {
    let beside = json!({"prompt": "Q", "responses": ["A", "B"], "ranks": [2, 1]});
    let inside =
        |list: &str, text: &str| json!({"prompt": "Q", list: [{text: "A", "rank": 2}, {text: "B", "rank": 1}]});
    let (_, expected) = read(&beside, &LoadOptions::default());
    for (list, text) in [("responses", "text"), ("responses", "content"), ("completions", "completion")] {
        let (layout, found) = read(&inside(list, text), &LoadOptions::default());
        assert_eq!((layout, found), ("ranking", expected.clone()), "{list} {text}");
    }
}

#[rstest]
#[case(json!({"prompt": "Q", "responses": ["A", "B"], "ranks": [0, 1]}), "field \"ranks[0]\": expected a rank from 1 to 2, the number of responses, found 0")]
#[case(json!({"prompt": "Q", "responses": ["A", "B"], "rank": [1]}), "field \"rank\": expected 2 numbers, one for each of \"responses\", found 1")]
#[case(json!({"prompt": "Q", "responses": ["A", "B"], "ranks": [1, null]}), "field \"ranks[1]\": expected a rank, found null")]
#[case(json!({"prompt": "Q", "responses": [{"text": "A", "rank": 0}, {"text": "B", "rank": 1}]}), "field \"responses[0].rank\": expected a rank from 1 to 2")]
fn ranks_that_are_none_are_named(#[case] row: Value, #[case] expected: &str) {
    let found = first_error(&format!("{row}\n"), &LoadOptions::default());
    assert!(found.contains(expected), "{found}");
}

/// `ranking` holds ranks in some data and indices in others: [2, 3, 1] is not the same then.
#[test]
fn a_ranking_may_be_an_order_and_is_not_guessed() {
    let row = json!({"prompt": "Q", "responses": ["A", "B", "C"], "ranking": [2, 3, 1]});
    let found = first_error(&format!("{row}\n"), &LoadOptions::default());
    let expected = "\"ranking\" may hold a rank for each response or the responses in their order: if it holds ranks, 1 being \
                    the best, `--layout ranked_lists` (`data_layout`) reads them\n`data convert` reads any other row";
    assert!(found.contains(expected), "{found}");
    let named = LoadOptions { layout: Some(Layout::RankedLists), ..LoadOptions::default() };
    let (_, found) = read(&row, &named);
    assert!(found[2].1 > found[0].1 && found[0].1 > found[1].1, "{found:?}");
}

/// This project's layout under the names of others.
#[rstest]
#[case("responses", "text", "reward")]
#[case("responses", "text", "score")]
#[case("responses", "response", "reward")]
#[case("responses", "output", "score")]
#[case("completions", "text", "reward")]
#[case("completions", "content", "score")]
fn responses_and_their_numbers_have_several_names(#[case] list: &str, #[case] text: &str, #[case] number: &str) {
    let row = json!({"prompt": "Q", list: [{text: "A", number: 0.5, "rank": 1}, {text: "B", number: 2}]});
    let (layout, found) = read(&row, &LoadOptions::default());
    assert_eq!((layout, found), ("collimate", vec![("A".to_owned(), 0.5), ("B".to_owned(), 2.0)]));
    let row = json!({"prompt": "Q", list: [{text: 7, number: 0.5}, {text: "B", number: 2}]});
    let found = first_error(&format!("{row}\n"), &LoadOptions::default());
    assert!(found.contains(&format!("field \"{list}[0].{text}\"")), "{found}");
}

/// Texts without numbers are no rows of this project's, whose responses are objects.
#[test]
fn texts_without_numbers_are_told_the_way() {
    let row = json!({"prompt": "Q", "responses": ["A", "B"], "quality": [0.5, 2]});
    let found = first_error(&format!("{row}\n"), &LoadOptions::default());
    assert!(found.contains("no layout is known for a row with prompt, responses, quality"), "{found}");
    assert!(found.contains("--prompt-field"), "{found}");
}
