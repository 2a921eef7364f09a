//! Statistics of groups, and counts in messages.

use std::collections::BTreeMap;
use std::f64::consts::LN_2;

use collimate_data::{Prompt, PromptGroup, Response, counted, either, noun_for};
use collimate_stats::{DataStats, StatsSummary};

fn group(responses: &[(usize, f64)]) -> PromptGroup {
    let response =
        |&(length, reward): &(usize, f64)| Response { content: "é".repeat(length), reward, ..Response::default() };
    PromptGroup {
        index: 0,
        line: 1,
        prompt: Prompt::Text("four".to_owned()),
        responses: responses.iter().map(response).collect(),
        ..PromptGroup::default()
    }
}

fn stats(alpha: Option<f64>, groups: &[&[(usize, f64)]]) -> StatsSummary {
    let mut stats = DataStats::new(alpha);
    groups.iter().for_each(|responses| stats.add(&group(responses)));
    stats.summary()
}

#[test]
fn groups_ties_and_best_responses_are_counted() {
    let summary = stats(None, &[&[(1, 0.0), (2, 1.0)], &[(1, 1.0), (2, 1.0), (3, 0.0)], &[(1, 2.0), (1, 2.0)]]);
    assert_eq!(summary.groups_by_num_responses, BTreeMap::from([(2, 2), (3, 1)]));
    assert_eq!((summary.num_groups, summary.num_responses), (3, 2 + 3 + 2));
    assert_eq!((summary.num_all_tied, summary.num_best_tied), (1, 2));
    assert_eq!(summary.best_index, BTreeMap::from([(0, 2), (1, 1)]));
    assert_eq!(summary.mean_entropy, None);
}

#[test]
fn lengths_are_in_characters_not_bytes() {
    let summary = stats(None, &[&[(1, 0.0), (3, 1.0)]]);
    let lengths = summary.response_chars.unwrap();
    assert_eq!((lengths.min, lengths.mean, lengths.max), (1, (1.0 + 3.0) / 2.0, 3));
    assert_eq!(summary.prompt_chars.unwrap().max, 4);
}

#[test]
fn correlation_within_prompts_can_have_the_other_sign() {
    // Within each prompt the longer response is worse; across prompts the longer ones are better.
    let summary = stats(None, &[&[(1, 1.0), (2, 0.0)], &[(11, 11.0), (12, 10.0)]]);
    // Deviations from the common means 6.5 and 5.5: x (−5.5, −4.5, 4.5, 5.5), y (−4.5, −5.5, 5.5, 4.5).
    let (products, squares) = (4.0 * 4.5 * 5.5, 2.0 * (4.5 * 4.5 + 5.5 * 5.5));
    assert!((summary.length_reward_correlation.unwrap() - products / squares).abs() < 1e-12);
    assert!((summary.length_reward_correlation_within_prompts.unwrap() + 1.0).abs() < 1e-12);
}

#[test]
fn correlation_without_variation_is_undefined() {
    assert_eq!(stats(None, &[&[(5, 0.0), (5, 1.0)]]).length_reward_correlation, None);
}

#[test]
fn entropy_is_the_mean_over_groups() {
    let summary = stats(Some(1e-3), &[&[(1, 0.0), (2, 1.0)], &[(1, 1.0), (2, 1.0)]]);
    assert!((summary.mean_entropy.unwrap() - (0.0 + LN_2) / 2.0).abs() < 1e-12);
    assert!((summary.mean_effective_responses.unwrap() - (1.0 + 2.0) / 2.0).abs() < 1e-12);
}

#[test]
fn the_correlation_uses_tokens_if_given() {
    let mut stats = DataStats::new(None);
    stats.add_with_tokens(&group(&[(9, 0.0), (1, 1.0)]), 7, &[1, 2]);
    let summary = stats.summary();
    assert!((summary.length_reward_correlation.unwrap() - 1.0).abs() < 1e-12);
    assert_eq!(summary.response_tokens.unwrap().max, 2);
    assert_eq!(summary.prompt_tokens.unwrap().max, 7);
}

#[test]
fn the_table_shows_everything_and_fits_a_terminal() {
    let mut stats = DataStats::new(Some(0.5));
    stats.add(&group(&[(10, 0.0), (20, 1.0)]));
    stats.add(&group(&[(10, 1.0), (20, 1.0), (30, 0.0)]));
    stats.num_responses_cut = 3;
    stats.unusable.insert("empty response".to_owned(), 2);
    insta::assert_snapshot!(stats.summary().to_string(), @"
    groups               2
    responses            5
    groups by K          2: 1, 3: 1
    all rewards equal    0 (0.0 %)
    best reward shared   1 (50.0 %)
    position of the best 0: 1, 1: 1
    reward               mean 0.6000, deviation 0.4899
    prompt characters    min 4, mean 4.0, p50 4, p95 4, p99 4, max 4
    response characters  min 10, mean 18.0, p50 20, p95 30, p99 30, max 30
    length and reward    correlation -0.218 overall, -0.293 within prompts
    weights at α 0.5     entropy 0.6254 nats, 1.93 effective responses (means)
    cut                  0 prompts, 3 responses
    unusable             empty response: 2
    ");
}

#[test]
fn an_empty_data_set_has_a_table() {
    assert!(stats(Some(1.0), &[]).to_string().contains("groups               0"));
}

#[test]
fn one_is_no_plural() {
    let found: Vec<String> = [0, 1, 2].into_iter().map(|count| counted(count, "row")).collect();
    assert_eq!(found, ["0 rows", "1 row", "2 rows"]);
    assert_eq!((noun_for(1, "step").as_str(), noun_for(1200, "step").as_str()), ("step", "steps"));
    assert_eq!((either(1, "was", "were"), either(0, "was", "were")), ("was", "were"));
}
