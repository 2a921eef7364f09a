//! Mixing groups from several files.

use std::fs;
use std::path::{Path, PathBuf};

use collimate_data::{DataError, DataPart, LoadOptions, Prompt, PromptGroup};
use collimate_files::SpoolFolder;
use collimate_store::{Duplicates, MixOptions, Part, Selection};
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

pub(crate) fn select(parts: &[(&Path, f64)], options: &MixOptions) -> Selection {
    let part = |(path, weight): &(&Path, f64)| DataPart { path: path.to_path_buf(), weight: *weight };
    let parts: Vec<_> = parts.iter().map(part).collect();
    Selection::read(&parts, options, &SpoolFolder::default(), &mut |_, _| {}).unwrap()
}

pub(crate) fn groups(selection: &Selection) -> Vec<PromptGroup> {
    selection.groups().map(|group| group.unwrap().1).collect()
}

pub(crate) fn of_part(selection: &Selection, part: Part) -> Vec<PromptGroup> {
    let groups = selection.groups().map(Result::unwrap).filter(|(of, _)| *of == part);
    let groups: Vec<_> = groups.map(|(_, group)| group).collect();
    assert_eq!(groups.len(), selection.num_groups(part));
    groups
}

pub(crate) fn prompts(groups: &[PromptGroup]) -> Vec<String> {
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
    let selection = select(&[(&a, 1.0), (&b, 1.0)], &MixOptions::default());
    let groups = groups(&selection);
    assert_eq!(prompts(&groups), ["a 0", "a 1", "a 2", "b 0", "b 1"]);
    let lines: Vec<_> = groups.iter().map(|group| (group.index, group.line)).collect();
    assert_eq!(lines, [(0, 1), (1, 2), (2, 4), (3, 1), (4, 3)]);
    let last = &groups[4];
    assert_eq!(selection.files().location(last.index, last.line), format!("{}:3", b.display()));
    assert_eq!(selection.files().path(2), a);
}

#[test]
fn a_fraction_depends_only_on_seed_and_file() {
    let folder = TempDir::new().unwrap();
    let (a, b) = (file(&folder, "a", 40), file(&folder, "b", 8));
    let of_a = |parts: &[(&Path, f64)], seed| {
        let groups = groups(&select(parts, &MixOptions { seed, ..MixOptions::default() }));
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
    let selection = select(&[(&a, 1.0)], &MixOptions { min_reward_gap, drop_ties, ..MixOptions::default() });
    let report = &selection.reports()[0];
    assert_eq!((groups(&selection).len(), report.num_small_gaps, report.num_ties), (num_left, small, ties));
}

#[test]
fn max_samples_limits_all_files_together() {
    let folder = TempDir::new().unwrap();
    let (a, b) = (file(&folder, "a", 30), file(&folder, "b", 30));
    let selection = select(&[(&a, 1.0), (&b, 1.0)], &MixOptions { max_samples: Some(20), ..MixOptions::default() });
    let groups = groups(&selection);
    assert_eq!((groups.len(), selection.num_used(), selection.num_over_limit()), (20, 20, 40));
    let from = |name: char| prompts(&groups).iter().filter(|prompt| prompt.starts_with(name)).count();
    assert!(from('a') > 0 && from('b') > 0);
}

#[test]
fn a_weight_of_zero_does_not_open_the_file() {
    let folder = TempDir::new().unwrap();
    let a = file(&folder, "a", 2);
    let selection = select(&[(Path::new("nowhere.jsonl"), 0.0), (&a, 1.0)], &MixOptions::default());
    assert_eq!((groups(&selection).len(), selection.files().path(0)), (2, a.as_path()));
}

#[test]
fn an_error_names_its_file() {
    let folder = TempDir::new().unwrap();
    let (a, b) = (file(&folder, "a", 2), folder.path().join("b.jsonl"));
    let good = r#"{"prompt": "p", "responses": [{"content": "a", "reward": 1}, {"content": "b", "reward": 0}]}"#;
    fs::write(&b, format!("{good}\n{}\n", good.replace("\"reward\": 0", "\"reward\": \"n/a\""))).unwrap();
    let parts = [DataPart::whole(a), DataPart::whole(&b)];
    let error = Selection::read(&parts, &MixOptions::default(), &SpoolFolder::default(), &mut |_, _| {});
    let message = error.unwrap_err().to_string();
    assert!(message.starts_with(&format!("{}:2: field \"responses[1].reward\"", b.display())), "{message}");
}

/// A file with these prompts and responses; the reward of a response is its number, plus `first`.
pub(crate) fn rows(folder: &TempDir, rows: &[(&str, &[&str])], first: usize) -> PathBuf {
    let row = |(prompt, contents): &(&str, &[&str])| {
        let response = |(k, content): (usize, &&str)| serde_json::json!({"content": content, "reward": first + k});
        let responses: Vec<_> = contents.iter().enumerate().map(response).collect();
        format!("{}\n", serde_json::json!({"prompt": prompt, "responses": responses}))
    };
    let path = folder.path().join("rows.jsonl");
    fs::write(&path, rows.iter().map(row).collect::<String>()).unwrap();
    path
}

#[test]
fn duplicates_have_the_same_prompt_and_responses_whatever_the_rewards() {
    let folder = TempDir::new().unwrap();
    let all: [(&str, &[&str]); 6] = [
        ("p", &["a", "b"]),
        ("p", &["b", "a"]),
        ("q", &["a", "b"]),
        ("p", &["a", "b"]),
        ("p", &["ab", "c"]),
        ("q", &["a", "b"]),
    ];
    let path = rows(&folder, &all, 0);
    let duplicates = |options: &MixOptions| select(&[(&path, 1.0)], options).duplicates().unwrap();
    let expected = Duplicates { count: 2, first: Some(((3, 4), (0, 1))) };
    assert_eq!(duplicates(&MixOptions::default()), expected);
    let first = LoadOptions { max_samples: Some(3), ..LoadOptions::default() };
    assert_eq!(duplicates(&MixOptions { load: first, ..MixOptions::default() }), Duplicates::default());
}

#[test]
fn what_is_not_used_repeats_nothing() {
    let folder = TempDir::new().unwrap();
    let all: Vec<(&str, &[&str])> = vec![("p", &["a", "b"]); 40];
    let path = rows(&folder, &all, 0);
    let selection = select(&[(&path, 0.25)], &MixOptions::default());
    let used: Vec<usize> = groups(&selection).iter().map(|group| group.line).collect();
    let row = |line: usize| (line - 1, line);
    let expected = Duplicates { count: 9, first: Some((row(used[1]), row(used[0]))) };
    assert_eq!(selection.duplicates().unwrap(), expected);
}

#[test]
fn prompts_of_text_are_counted_by_part() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("mixed.jsonl");
    let responses = r#"[{"content": "a", "reward": 1}, {"content": "b", "reward": 0}]"#;
    let chat = r#"[{"role": "user", "content": "hello"}]"#;
    let line = |i: usize| {
        let prompt = if i.is_multiple_of(3) { format!("\"text {i}\"") } else { chat.to_owned() };
        format!("{{\"prompt\": {prompt}, \"responses\": {responses}}}\n")
    };
    fs::write(&path, (1..10).map(line).collect::<String>()).unwrap();
    let selection = select(&[(&path, 1.0)], &MixOptions::default());
    assert_eq!(selection.text_prompts(Part::Training).unwrap(), Some((3, format!("{}:3", path.display()))));
    assert_eq!(selection.text_prompts(Part::HeldOut).unwrap(), None);
}

#[test]
fn a_file_that_changes_between_the_passes_is_refused() {
    let folder = TempDir::new().unwrap();
    let a = file(&folder, "a", 5);
    let selection = select(&[(&a, 1.0)], &MixOptions::default());
    // Clocks of file systems tick slowly.
    std::thread::sleep(std::time::Duration::from_millis(30));
    fs::write(&a, fs::read_to_string(&a).unwrap().replace("a 3", "A 3")).unwrap();
    let error = selection.groups().find_map(Result::err).expect("another file");
    assert!(
        error.to_string().ends_with("it was changed while it was read; start again once it is complete"),
        "{error}"
    );
    assert_eq!(selection.groups().count(), 1, "nothing follows an error");
}

/// A pipe can be read only once.
#[cfg(unix)]
#[test]
fn a_pipe_is_read_like_a_file() {
    let folder = TempDir::new().unwrap();
    let (a, pipe) = (file(&folder, "a", 40), folder.path().join("pipe"));
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let writer = std::thread::spawn({
        let (text, pipe) = (fs::read(&a).unwrap(), pipe.clone());
        move || fs::write(pipe, text).unwrap()
    });
    let options = MixOptions { max_samples: Some(7), ..MixOptions::default() };
    let found = groups(&select(&[(&pipe, 1.0)], &options));
    writer.join().unwrap();
    assert_eq!(found, groups(&select(&[(&a, 1.0)], &options)));
}

#[test]
fn reading_stops_after_the_last_group_that_is_used() {
    let folder = TempDir::new().unwrap();
    let a = file(&folder, "a", 2000);
    let limit = LoadOptions { max_samples: Some(2000), ..LoadOptions::default() };
    let selection = select(&[(&a, 1.0)], &MixOptions { max_samples: Some(3), load: limit, ..MixOptions::default() });
    let lines: Vec<usize> = groups(&selection).iter().map(|group| group.line).collect();
    assert_eq!(lines.len(), 3);
    let mut iterator = selection.groups();
    assert_eq!(iterator.by_ref().count(), 3);
    // Half a row at the end would be an error if it were read.
    let error = |result: Result<_, DataError>| result.err().map(|error| error.to_string());
    assert_eq!(iterator.next().and_then(error), None);
}
