//! Ratings under the names that data sets give them.

use collimate_data::{Layout, LoadOptions, Message, Prompt, PromptGroup};
use rstest::rstest;
use serde_json::json;

use crate::common::{reader, rewards};

fn groups(text: &str) -> (Layout, Vec<PromptGroup>) {
    let mut reader = reader(text, &LoadOptions::default()).unwrap();
    let groups = reader.by_ref().map(Result::unwrap).collect();
    (reader.describe().layout, groups)
}

#[rstest]
#[case("score_chosen", "score_rejected")]
#[case("chosen_reward", "rejected_reward")]
#[case::argillas("chosen-rating", "rejected-rating")]
#[case::argillas("chosen_rating", "rejected_rating")]
#[case::capybaras("rating_chosen", "rating_rejected")]
fn a_pair_has_the_ratings_of_its_row(#[case] chosen: &str, #[case] rejected: &str) {
    let row = json!({"prompt": "Q", "chosen": "A", "rejected": "B", chosen: 4.5, rejected: 2});
    assert_eq!(rewards(&groups(&row.to_string()).1[0]), [4.5, 2.0]);
}

#[rstest]
#[case("completion", "reward")]
#[case("response", "score")]
fn rated_responses_are_gathered_by_their_prompt(#[case] text: &str, #[case] number: &str) {
    let row = |answer: &str, reward: f64| json!({"prompt": "2 + 2?", text: answer, number: reward}).to_string() + "\n";
    let (layout, groups) = groups(&[row("4", 0.9), row("5", 0.1)].concat());
    assert_eq!((layout, groups.len()), (Layout::Rated, 1));
    assert_eq!(groups[0].prompt, Prompt::Text("2 + 2?".to_owned()));
    assert_eq!(rewards(&groups[0]), [0.9, 0.1]);
    assert_eq!(groups[0].responses[1].message(), Message::new("assistant", "5"));
}
