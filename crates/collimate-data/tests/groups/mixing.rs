//! Mixing groups from several files.

use std::fs;
use std::path::{Path, PathBuf};

use collimate_data::{
    DataPart, Duplicates, MixOptions, MixedGroups, Prompt, PromptGroup, Response, hold_out, read_mix,
};
use proptest::prelude::*;
use rstest::rstest;
use tempfile::TempDir;

/// Writes `count` groups with prompts `NAME 0`, `NAME 1`, …. Every fourth has equal rewards; the others have a gap equal to
/// their number. A blank line precedes the last row.
fn file(folder: &TempDir, name: &str, count: usize) -> PathBuf {
    let row = |i: usize| {
        let low = if i.is_multiple_of(4) { 9.0 } else { 9.0 - i as f64 };
        let responses = format!(r#"[{{"content": "a", "reward": 9}}, {{"content": "b", "reward": {low}}}]"#);
        let blank = if i + 1 == count { "\n" } else { "" };
        format!("{blank}{{\"prompt\": \"{name} {i}\", \"responses\": {responses}}}\n")
    };
    let path = folder.path().join(format!("{name}.jsonl"));
    fs::write(&path, (0..count).map(row).collect::<String>()).unwrap();
    path
}

fn mix(parts: &[(&Path, f64)], options: &MixOptions) -> MixedGroups {
    let part = |(path, weight): &(&Path, f64)| DataPart { path: path.to_path_buf(), weight: *weight };
    read_mix(&parts.iter().map(part).collect::<Vec<_>>(), options, &mut |_, _| {}).unwrap()
}

fn prompts(groups: &[PromptGroup]) -> Vec<String> {
    let text = |group: &PromptGroup| match &group.prompt {
        Prompt::Text(text) => text.clone(),
        Prompt::Messages(_) => panic!("a prompt of text"),
    };
    groups.iter().map(text).collect()
}

#[test]
fn whole_files_follow_each_other_and_keep_their_own_lines() {
    let folder = TempDir::new().unwrap();
    let (a, b) = (file(&folder, "a", 3), file(&folder, "b", 2));
    let mixed = mix(&[(&a, 1.0), (&b, 1.0)], &MixOptions::default());
    assert_eq!(prompts(&mixed.groups), ["a 0", "a 1", "a 2", "b 0", "b 1"]);
    let lines: Vec<_> = mixed.groups.iter().map(|group| (group.index, group.line)).collect();
    assert_eq!(lines, [(0, 1), (1, 2), (2, 4), (3, 1), (4, 3)]);
    let last = &mixed.groups[4];
    assert_eq!(mixed.files.place(last.index, last.line), format!("{}:3", b.display()));
    assert_eq!(mixed.files.path(2), a);
}

#[test]
fn a_fraction_depends_only_on_seed_and_file() {
    let folder = TempDir::new().unwrap();
    let (a, b) = (file(&folder, "a", 40), file(&folder, "b", 8));
    let of_a = |parts: &[(&Path, f64)], seed| {
        let groups = mix(parts, &MixOptions { seed, ..MixOptions::default() }).groups;
        prompts(&groups).into_iter().filter(|prompt| prompt.starts_with('a')).collect::<Vec<_>>()
    };
    let share = of_a(&[(&a, 0.25), (&b, 1.0)], 42);
    assert_eq!(share.len(), 10);
    assert_eq!(share, of_a(&[(&b, 0.5), (&a, 0.25)], 42), "the rest of the mix changes nothing");
    assert_ne!(share, of_a(&[(&a, 0.25)], 43));
    let numbers: Vec<usize> = share.iter().map(|prompt| prompt[2..].parse().unwrap()).collect();
    assert!(numbers.is_sorted() && numbers.windows(2).all(|pair| pair[0] != pair[1]), "{numbers:?}");
}

#[rstest]
#[case(0.0, true, 6, (0, 2))]
#[case(2.0, false, 5, (3, 0))]
#[case(3.0, true, 4, (2, 2))]
fn filters_count_what_they_drop(
    #[case] min_reward_gap: f64,
    #[case] drop_ties: bool,
    #[case] num_left: usize,
    #[case] (small, ties): (usize, usize),
) {
    let folder = TempDir::new().unwrap();
    // Gaps 0, 1, 2, 3, 0, 5, 6, 7.
    let a = file(&folder, "a", 8);
    let mixed = mix(&[(&a, 1.0)], &MixOptions { min_reward_gap, drop_ties, ..MixOptions::default() });
    let report = &mixed.reports[0];
    assert_eq!((mixed.groups.len(), report.num_small_gaps, report.num_ties), (num_left, small, ties));
}

#[test]
fn max_samples_limits_all_files_together() {
    let folder = TempDir::new().unwrap();
    let (a, b) = (file(&folder, "a", 30), file(&folder, "b", 30));
    let mixed = mix(&[(&a, 1.0), (&b, 1.0)], &MixOptions { max_samples: Some(20), ..MixOptions::default() });
    assert_eq!((mixed.groups.len(), mixed.num_over_limit), (20, 40));
    let from = |name: char| prompts(&mixed.groups).iter().filter(|prompt| prompt.starts_with(name)).count();
    assert!(from('a') > 0 && from('b') > 0);
}

#[test]
fn a_weight_of_zero_does_not_open_the_file() {
    let folder = TempDir::new().unwrap();
    let a = file(&folder, "a", 2);
    let mixed = mix(&[(Path::new("nowhere.jsonl"), 0.0), (&a, 1.0)], &MixOptions::default());
    assert_eq!((mixed.groups.len(), mixed.files.path(0)), (2, a.as_path()));
}

#[test]
fn an_error_names_its_file() {
    let folder = TempDir::new().unwrap();
    let (a, b) = (file(&folder, "a", 2), folder.path().join("b.jsonl"));
    let good = r#"{"prompt": "p", "responses": [{"content": "a", "reward": 1}, {"content": "b", "reward": 0}]}"#;
    fs::write(&b, format!("{good}\n{}\n", good.replace("\"reward\": 0", "\"reward\": \"n/a\""))).unwrap();
    let error = read_mix(&[DataPart::whole(a), DataPart::whole(&b)], &MixOptions::default(), &mut |_, _| {});
    let message = error.unwrap_err().to_string();
    assert!(message.starts_with(&format!("{}:2: field \"responses[1].reward\"", b.display())), "{message}");
}

fn group(index: usize, prompt: &str, contents: &[&str], reward: f64) -> PromptGroup {
    let response = |content: &&str| Response { content: (*content).to_owned(), reward, ..Response::default() };
    let responses = contents.iter().map(response).collect();
    PromptGroup { index, line: index + 1, prompt: Prompt::Text(prompt.to_owned()), responses, ..PromptGroup::default() }
}

#[test]
fn duplicates_have_the_same_prompt_and_responses_whatever_the_rewards() {
    let groups = [
        group(0, "p", &["a", "b"], 1.0),
        group(1, "p", &["b", "a"], 1.0),
        group(2, "q", &["a", "b"], 1.0),
        group(3, "p", &["a", "b"], 0.0),
        group(4, "p", &["ab"], 1.0),
        group(5, "q", &["a", "b"], 1.0),
    ];
    assert_eq!(Duplicates::find(&groups), Duplicates { count: 2, first: Some((3, 0)) });
    assert_eq!(Duplicates::find(&groups[..3]), Duplicates::default());
}

proptest! {
    #[test]
    fn a_prompt_is_never_on_both_sides(
        numbers in prop::collection::vec(0usize..30, 1..80), fraction in 0.01f64..0.9, seed in 0u64..8,
    ) {
        let groups: Vec<_> =
            numbers.iter().enumerate().map(|(i, number)| group(i, &format!("p{number}"), &["a", "b"], 0.0)).collect();
        let (kept, held_out) = hold_out(groups.clone(), fraction, seed);
        prop_assert_eq!(&(kept.clone(), held_out.clone()), &hold_out(groups.clone(), fraction, seed));
        prop_assert_eq!(kept.len() + held_out.len(), groups.len());
        let wanted = ((fraction * groups.len() as f64).round() as usize).max(1);
        prop_assert!(held_out.len() >= wanted, "{} of {wanted}", held_out.len());
        prop_assert!(held_out.iter().all(|held| kept.iter().all(|kept| kept.prompt != held.prompt)));
        for side in [kept, held_out] {
            prop_assert!(side.is_sorted_by(|a, b| a.index < b.index));
        }
    }
}
