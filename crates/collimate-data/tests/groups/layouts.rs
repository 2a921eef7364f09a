//! Each layout is recognized by its fields and read with its declared direction.

use std::collections::BTreeMap;

use crate::common::{first_error, fixture, load, reader, rewards};
use collimate_data::{DataSource, Layout, LoadOptions, Prompt, ScoreDirection};
use collimate_rewards::{Normalize, RewardFrom, ndcg_gain};
use rstest::rstest;

fn contents(group: &collimate_data::PromptGroup) -> Vec<&str> {
    group.responses.iter().map(|response| response.content.as_str()).collect()
}

fn turns(prompt: &Prompt) -> Vec<(&str, &str)> {
    match prompt {
        Prompt::Text(text) => panic!("text: {text}"),
        Prompt::Messages(messages) => messages.iter().map(|m| (m.role.as_str(), m.content.as_str())).collect(),
    }
}

/// `docs/data.md` has an example row for every layout, under the layout's name.
#[test]
fn the_documented_rows_match_their_layouts() {
    let page = include_str!("../../../../docs/data.md");
    let mut documented = Vec::new();
    for part in page.split("\n**`").skip(1) {
        let name = part.split('`').next().unwrap();
        let row = part.split("```json\n").nth(1).and_then(|rest| rest.split('\n').next()).unwrap();
        let mut groups = reader(row, &LoadOptions { min_responses: 1, ..LoadOptions::default() }).unwrap();
        assert_eq!(groups.describe().layout.name(), name, "{row}");
        let is_single = groups.is_demonstrations() || ["kto", "helpsteer2", "rated"].contains(&name);
        assert_eq!(groups.next().unwrap().unwrap().responses.len() >= 2, !is_single, "{row}");
        documented.push(name);
    }
    assert_eq!(documented, Layout::ALL.map(Layout::name));
}

fn from(reward_from: &str) -> LoadOptions {
    LoadOptions { reward_from: Some(reward_from.parse().unwrap()), ..LoadOptions::default() }
}

#[rstest]
#[case(
    "collimate.jsonl",
    Layout::Collimate,
    "layout collimate; rewards from responses[].reward (higher is better), by field"
)]
#[case(
    "preference_text.jsonl",
    Layout::Preference,
    "layout preference; rewards from chosen 1, rejected 0 (higher is better), by field"
)]
#[case(
    "preference_scored.jsonl",
    Layout::Preference,
    "layout preference; rewards from score_chosen, score_rejected (higher is better), by field"
)]
#[case(
    "preference_implicit.jsonl",
    Layout::Preference,
    "layout preference; rewards from chosen 1, rejected 0 (higher is better), by field"
)]
#[case(
    "ranked_set.jsonl",
    Layout::RankedSet,
    "layout ranked_set; rewards from score_A0, score_A1, … (higher is better), by field"
)]
#[case(
    "ultrafeedback.jsonl",
    Layout::UltraFeedback,
    "layout ultrafeedback; rewards from completions[].overall_score (higher is better), by field"
)]
#[case(
    "ultrafeedback_aspects.jsonl",
    Layout::UltraFeedback,
    "layout ultrafeedback; rewards from rated aspects (higher is better), by aspects"
)]
#[case("nectar.jsonl", Layout::Nectar, "layout nectar; rewards from answers[].rank (lower is better), by rank")]
#[case("ranking.jsonl", Layout::Ranking, "layout ranking; rewards from completions[].rank (lower is better), by rank")]
fn a_layout_is_recognized_and_described(#[case] file: &str, #[case] layout: Layout, #[case] description: &str) {
    let reader = DataSource::open(fixture(file), &LoadOptions::default()).unwrap();
    assert_eq!(reader.describe().layout, layout);
    assert_eq!(reader.describe().to_string(), description);
}

#[test]
fn our_own_layout_keeps_ragged_groups_and_scores() {
    let groups = load("collimate.jsonl", &LoadOptions::default());
    assert_eq!(groups[0].prompt, Prompt::Text("What is 2 + 2?".to_owned()));
    assert_eq!(rewards(&groups[0]), [1.0, -0.5]);
    assert_eq!(groups[0].responses[0].scores, BTreeMap::from([("brevity".to_owned(), 5.0), ("tone".to_owned(), 2.0)]));
    assert_eq!(turns(&groups[1].prompt), [("system", "Be kind."), ("user", "Say hello.")]);
    assert_eq!(rewards(&groups[1]), [3.0, 0.0, 3.0]);
    assert_eq!((groups[1].index, groups[1].line), (1, 2));
}

#[test]
fn preferences_without_scores_have_rewards_one_and_zero() {
    let groups = load("preference_text.jsonl", &LoadOptions::default());
    assert_eq!((contents(&groups[0]), rewards(&groups[0])), (vec![" Blue.", " Seven."], vec![1.0, 0.0]));
}

#[test]
fn a_text_prompt_repeated_by_the_conversations_becomes_messages() {
    let groups = load("preference_scored.jsonl", &LoadOptions::default());
    assert_eq!(turns(&groups[0].prompt), [("user", "Name a color.")]);
    assert_eq!((contents(&groups[0]), rewards(&groups[0])), (vec!["Blue.", "Seven."], vec![8.5, 2.0]));
}

#[test]
fn a_chosen_response_with_the_lower_score_is_counted() {
    let mut reader = DataSource::open(fixture("preference_scored.jsonl"), &LoadOptions::default()).unwrap();
    assert_eq!(reader.by_ref().count(), 2);
    assert_eq!(reader.counts().labels.num_contradicted, 1);
}

#[rstest]
#[case("preference_implicit.jsonl", &[("user", "Hi"), ("assistant", "Hello"), ("user", "Name a fruit.")])]
#[case("preference_messages.jsonl", &[("user", "Name a fruit.")])]
fn message_prompts_may_be_implicit_or_omitted(#[case] file: &str, #[case] prompt: &[(&str, &str)]) {
    let groups = load(file, &LoadOptions::default());
    assert_eq!(turns(&groups[0].prompt), prompt);
    assert_eq!(contents(&groups[0]), ["Apple.", "Iron."]);
}

#[test]
fn equal_conversations_keep_one_message_each_as_response() {
    let both = r#"[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]"#;
    let text = format!(r#"{{"chosen": {both}, "rejected": {both}}}"#);
    let group = reader(&text, &LoadOptions::default()).unwrap().next().unwrap().unwrap();
    assert_eq!(contents(&group), ["b", "b"]);
}

#[test]
fn the_published_reward_set_may_have_any_number_of_responses() {
    let groups = load("ranked_set.jsonl", &LoadOptions::default());
    assert_eq!(turns(&groups[0].prompt), [("user", "Name a metal.")]);
    assert_eq!((contents(&groups[0]), rewards(&groups[0])), (vec!["Iron.", "Steel.", "Apple."], vec![9.0, 6.5, 1.0]));
    assert_eq!(rewards(&groups[1]), [8.0, 3.0]);
}

#[rstest]
#[case("field", &[8.5, 3.0])]
#[case("field:fine-grained_score", &[4.5, 2.0])]
#[case("aspects", &[(5.0 + 4.0) / 2.0, (1.0 + 3.0 + 2.0) / 3.0])]
#[case("aspects:helpfulness=2,honesty=0.5", &[2.0 * 5.0 + 0.5 * 4.0, 2.0 * 1.0 + 0.5 * 3.0])]
#[case("rank", &[1.0, 0.0])]
#[case("elo", &[2.0, -2.0])]
fn ultrafeedback_supports_several_reward_rules(#[case] reward_from: &str, #[case] expected: &[f64]) {
    assert_eq!(rewards(&load("ultrafeedback.jsonl", &from(reward_from))[0]), expected);
}

#[test]
fn aspects_are_the_default_if_a_row_has_nothing_else() {
    let group = &load("ultrafeedback_aspects.jsonl", &LoadOptions::default())[0];
    assert_eq!(rewards(group), [5.0, (1.0 + 4.0) / 2.0]);
}

#[test]
fn nectar_keeps_its_dialogue_and_counts_rank_one_as_best() {
    let group = &load("nectar.jsonl", &LoadOptions::default())[0];
    assert_eq!(turns(&group.prompt), [("user", "Name a bird.")]);
    assert_eq!(rewards(group), [1.0 / 2.0, 1.0, 0.0]);
}

#[rstest]
#[case("rank", None, &[0.0, 1.0, 1.0])]
#[case("rank", Some(ScoreDirection::HigherIsBetter), &[1.0, 0.0, 0.0])]
#[case("field", None, &[-3.0, -1.0, -1.0])]
#[case("ndcg", None, &[ndcg_gain(0.0), ndcg_gain(2.0), ndcg_gain(2.0)])]
fn rankings_follow_the_declared_direction(
    #[case] reward_from: &str,
    #[case] direction: Option<ScoreDirection>,
    #[case] expected: &[f64],
) {
    let options = LoadOptions { direction, ..from(reward_from) };
    assert_eq!(rewards(&load("ranking.jsonl", &options)[0]), expected);
}

#[rstest]
#[case("pairs")]
#[case("plackett_luce")]
#[case("elo")]
fn fitted_utilities_put_the_best_rank_first(#[case] reward_from: &str) {
    let found = rewards(&load("nectar.jsonl", &from(reward_from))[0]);
    assert!(found[1] > found[0] && found[0] > found[2], "{found:?}");
}

#[test]
fn a_lower_is_better_score_is_negated() {
    let options = LoadOptions { direction: Some(ScoreDirection::LowerIsBetter), ..LoadOptions::default() };
    assert_eq!(rewards(&load("collimate.jsonl", &options)[1]), [-3.0, 0.0, -3.0]);
    let description = DataSource::open(fixture("collimate.jsonl"), &options).unwrap().describe().to_string();
    assert!(description.contains("(lower is better)"), "{description}");
}

#[test]
fn rewards_are_normalized_per_prompt() {
    let options = LoadOptions { normalize: Some(Normalize::MinMax), ..LoadOptions::default() };
    let groups = load("collimate.jsonl", &options);
    assert_eq!((rewards(&groups[0]), rewards(&groups[1])), (vec![1.0, 0.0], vec![1.0, 0.0, 1.0]));
}

#[test]
fn a_forced_layout_reads_rows_that_look_like_another() {
    let row = r#"{"prompt": "a", "chosen": "b", "rejected": "c", "A0": "d", "A1": "e", "score_A0": 2, "score_A1": 1}"#;
    let group = |layout| {
        let options = LoadOptions { layout, ..LoadOptions::default() };
        reader(row, &options).unwrap().next().unwrap().unwrap()
    };
    assert_eq!(contents(&group(None)), ["d", "e"]);
    assert_eq!(contents(&group(Some(Layout::Preference))), ["b", "c"]);
}

#[test]
fn unusable_rows_are_errors_or_counted() {
    let text = "{\"prompt\": \"a\", \"responses\": [{\"content\": \" \", \"reward\": 1}, {\"content\": \"b\", \"reward\": 0}]}\n\
                {\"prompt\": \"\", \"responses\": [{\"content\": \"c\", \"reward\": 1}, {\"content\": \"b\", \"reward\": 0}]}\n\
                {\"prompt\": \"a\", \"responses\": [{\"content\": \"b\", \"reward\": 0}]}\n\n\
                {\"prompt\": \"a\", \"responses\": [{\"content\": \"c\", \"reward\": 1}, {\"content\": \"b\", \"reward\": 0}]}\n";
    assert_eq!(
        first_error(text, &LoadOptions::default()),
        "data.jsonl:1: the response \"responses[0]\" is empty; --skip-unusable skips such rows"
    );
    let mut skipping = reader(text, &LoadOptions { skip_unusable: true, ..LoadOptions::default() }).unwrap();
    let groups: Vec<_> = skipping.by_ref().map(Result::unwrap).collect();
    assert_eq!(groups.iter().map(|group| (group.index, group.line)).collect::<Vec<_>>(), [(3, 5)]);
    let counts = skipping.counts();
    assert_eq!((counts.num_rows, counts.num_groups, counts.num_skipped()), (4, 1, 3));
    let reasons: Vec<String> = counts.skipped.iter().map(|(reason, count)| format!("{reason}: {count}")).collect();
    assert_eq!(reasons, ["empty prompt: 1", "empty response: 1", "too few responses: 1"]);
}

#[test]
fn a_single_response_is_enough_if_allowed() {
    let text = r#"{"prompt": "a", "responses": [{"content": "b", "reward": 0}]}"#;
    let options = LoadOptions { min_responses: 1, ..LoadOptions::default() };
    assert_eq!(reader(text, &options).unwrap().map(Result::unwrap).count(), 1);
}

#[test]
fn a_missing_reward_is_zero_only_if_rewards_are_not_needed() {
    let text = r#"{"prompt": "a", "responses": [{"content": "b"}, {"content": "c", "reward": 2}]}"#;
    let refused = reader(text, &LoadOptions::default()).unwrap().next().unwrap().unwrap_err();
    assert!(refused.to_string().contains("responses[0].reward"), "{refused}");
    let options = LoadOptions { needs_rewards: false, ..LoadOptions::default() };
    let group = reader(text, &options).unwrap().next().unwrap().unwrap();
    assert_eq!(group.responses.iter().map(|r| r.reward).collect::<Vec<_>>(), [0.0, 2.0]);
}

#[test]
fn reading_stops_at_max_samples() {
    let options = LoadOptions { max_samples: Some(1), ..LoadOptions::default() };
    assert_eq!(load("collimate.jsonl", &options).len(), 1);
}

#[test]
fn reading_continues_after_a_broken_row() {
    let good = r#"{"prompt": "a", "responses": [{"content": "b", "reward": 0}, {"content": "c", "reward": 1}]}"#;
    let text = format!("{good}\n{{\"prompt\": 1}}\n{{\n{good}\n");
    let mut reader = reader(&text, &LoadOptions::default()).unwrap();
    let kinds: Vec<bool> = reader.by_ref().map(|group| group.is_ok()).collect();
    assert_eq!(kinds, [true, false, false, true]);
    assert_eq!((reader.counts().num_rows, reader.counts().num_errors), (4, 2));
}

#[test]
fn a_weighted_aspect_without_a_rating_makes_a_row_unusable() {
    let options = LoadOptions {
        reward_from: Some(RewardFrom::Aspects { weights: BTreeMap::from([("truthfulness".to_owned(), 1.0)]) }),
        ..LoadOptions::default()
    };
    let message = DataSource::open(fixture("ultrafeedback.jsonl"), &options).unwrap().next().unwrap().unwrap_err();
    assert!(
        message.to_string().contains("\"completions[0]\" has no rating of the aspect \"truthfulness\""),
        "{message}"
    );
}
