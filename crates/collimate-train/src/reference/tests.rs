//! Which requests find a number in the cache, and which must not.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use blake3::Hash;
use collimate_cache::ResponseKey;
use collimate_data::DataFiles;
use collimate_store::{StoreFolder, store_of};
use collimate_text::TokenizedResponse;
use rstest::rstest;
use tempfile::TempDir;

use super::resolve::group_keys;
use super::*;
use crate::dataset::DataSet;
use collimate_collective::StopFlag;
use collimate_progress::Silent;

/// A scorer with fake hashes, each one repeated byte.
fn scorer(model: u8, adapter: Option<u8>) -> Scorer<'static> {
    let hash = |byte: u8| Hash::from_bytes([byte; 32]);
    Scorer {
        matmul_precision: "highest",
        model: hash(model),
        adapter: adapter.map(hash),
        dtype: "float32",
        quantization: None,
        backend: "flex",
        share_prompt: true,
        kernel_version: KERNEL_VERSION,
    }
}

fn group(line: usize, prompt_ids: &[u32], responses: &[&[u32]]) -> TokenizedGroup {
    let response = |ids: &&[u32]| TokenizedResponse { ids: ids.to_vec(), reward: 0.0, num_cut: 0 };
    TokenizedGroup {
        index: line - 1,
        line,
        prompt_ids: prompt_ids.to_vec(),
        responses: responses.iter().map(response).collect(),
        ..TokenizedGroup::default()
    }
}

/// Four groups of two responses, all different.
fn groups() -> Vec<TokenizedGroup> {
    let group = |i: u32| group(i as usize + 1, &[i, 7, 8], &[&[10 + i, 2], &[20 + i, 21, 2]]);
    (0..4).map(group).collect()
}

/// A number that depends on all tokens of prompt and response, and on `model`.
fn made_up_logp(model: f64, prompt_ids: &[u32], response_ids: &[u32]) -> f64 {
    let sum = |ids: &[u32]| ids.iter().enumerate().map(|(i, id)| (i + 1) as f64 * f64::from(*id)).sum::<f64>();
    -model - sum(prompt_ids) / 64.0 - sum(response_ids) / 1024.0
}

/// Resolves micro-batches, lists of indices among [`groups`], against the cache in `folder`; returns the log-probs of all of
/// them in that order and how many micro-batches were scored.
fn run(folder: &Path, scorer: &Scorer<'_>, model: f64, micro_batches: &[&[usize]]) -> (Vec<Vec<f64>>, usize) {
    run_on(folder, scorer, model, &groups(), micro_batches)
}

fn run_on(
    folder: &Path,
    scorer: &Scorer<'_>,
    model: f64,
    groups: &[TokenizedGroup],
    micro_batches: &[&[usize]],
) -> (Vec<Vec<f64>>, usize) {
    let id = scorer.id();
    let (mut store, note) = LogpStore::open(folder, id);
    assert_eq!(note, None);
    let mut num_scored = 0;
    let score = &mut |groups: &[TokenizedGroup]| {
        num_scored += 1;
        let logps = |g: &TokenizedGroup| {
            g.responses.iter().map(|r| made_up_logp(model, &g.prompt_ids, &r.ids)).collect::<Vec<f64>>()
        };
        Ok(groups.iter().map(logps).collect())
    };
    let (stop, mut silent) = (StopFlag::default(), Silent);
    let tokens = store_of(groups, &DataFiles::default()).expect("a store");
    let data = DataSet::new(tokens, StoreFolder::new(None));
    let all = || micro_batches.iter().map(|indices| indices.to_vec());
    let mut numbers = data.no_numbers().expect("room");
    let resolver = Resolver { store: &mut store, scorer: &id, data: &data };
    resolver
        .resolve(&|| Box::new(all()), score, &mut numbers, &mut RunContext::new(&stop, &mut silent))
        .expect("log-probs");
    let of = |index: &usize| {
        let head = data.store.head(*index).expect("a group");
        numbers.get(head.first_response, head.responses.len()).expect("numbers")
    };
    (micro_batches.iter().flat_map(|indices| indices.iter().map(of)).collect(), num_scored)
}

#[test]
fn a_subset_in_other_micro_batches_is_found_whole() {
    let folder = TempDir::new().expect("a folder");
    let micro_batches: [&[usize]; 2] = [&[0, 1], &[2, 3]];
    let (cold, num_scored) = run(folder.path(), &scorer(1, None), 1.0, &micro_batches);
    assert_eq!(num_scored, 2);
    let (warm, num_scored) = run(folder.path(), &scorer(1, None), 1.0, &[&[3, 0, 2]]);
    assert_eq!(num_scored, 0);
    assert_eq!(warm, [cold[3].clone(), cold[0].clone(), cold[2].clone()]);
}

#[test]
fn only_micro_batches_with_something_new_are_scored() {
    let folder = TempDir::new().expect("a folder");
    run(folder.path(), &scorer(1, None), 1.0, &[&[0], &[1]]);
    let micro_batches: [&[usize]; 4] = [&[0, 1], &[1, 2], &[3], &[3]];
    let (logps, num_scored) = run(folder.path(), &scorer(1, None), 1.0, &micro_batches);
    assert_eq!(num_scored, 2, "the first is known, and the last once the one before it was scored");
    let (cold, _) = run(TempDir::new().expect("a folder").path(), &scorer(1, None), 1.0, &micro_batches);
    assert_eq!(logps, cold);
}

#[rstest]
#[case::model(scorer(2, None))]
#[case::adapter(scorer(1, Some(3)))]
#[case::dtype(Scorer { dtype: "bfloat16", ..scorer(1, None) })]
#[case::precision(Scorer { matmul_precision: "high", ..scorer(1, None) })]
#[case::quantization(Scorer { quantization: Some("nf4"), ..scorer(1, None) })]
#[case::backend(Scorer { backend: "cuda", ..scorer(1, None) })]
#[case::prompts(Scorer { share_prompt: false, ..scorer(1, None) })]
#[case::kernels(Scorer { kernel_version: KERNEL_VERSION + 1, ..scorer(1, None) })]
fn a_different_scorer_finds_nothing(#[case] other: Scorer<'static>) {
    let folder = TempDir::new().expect("a folder");
    let groups = groups();
    let micro_batches: [&[usize]; 1] = [&[0, 1, 2, 3]];
    let (first, _) = run(folder.path(), &scorer(1, None), 1.0, &micro_batches);
    let (second, num_scored) = run(folder.path(), &other, 2.0, &micro_batches);
    assert_eq!(num_scored, 1);
    assert!(first.iter().flatten().zip(second.iter().flatten()).all(|(a, b)| a - b == 1.0));

    // Not even in a renamed file: checksums are keyed by the scorer.
    let file = |scorer: &Scorer<'_>| folder.path().join(format!("{}.logps", &scorer.id().to_hex()[..32]));
    fs::copy(file(&scorer(1, None)), file(&other)).expect("a copy");
    let (mut store, note) = LogpStore::open(folder.path(), other.id());
    assert!(note.is_some_and(|note| note.contains("damaged")));
    let keys = || groups.iter().flat_map(|g| group_keys(&scorer(1, None).id(), g));
    store.load(keys()).expect("keys");
    let found = keys().filter_map(|key| store.get(key));
    assert_eq!(found.count(), 0);
}

#[test]
fn adapters_differ_from_each_other_and_from_none() {
    let scorers = [scorer(1, None), scorer(1, Some(1)), scorer(1, Some(2)), scorer(2, Some(1))];
    assert_eq!(scorers.iter().map(Scorer::id).collect::<HashSet<_>>().len(), 4);
}

/// Another template changes the prompt's tokens or the response's end, truncation the prompt's start or the response's end.
#[rstest]
#[case::same(&[1, 2, 3], &[4, 5, 6], true)]
#[case::template_prompt(&[9, 1, 2, 3], &[4, 5, 6], false)]
#[case::template_end(&[1, 2, 3], &[4, 5, 7], false)]
#[case::truncated_prompt(&[2, 3], &[4, 5, 6], false)]
#[case::truncated_response(&[1, 2, 3], &[4, 5], false)]
#[case::boundary(&[1, 2, 3, 4], &[5, 6], false)]
fn different_tokens_find_nothing(#[case] prompt: &[u32], #[case] response: &[u32], #[case] found: bool) {
    let folder = TempDir::new().expect("a folder");
    let (first, second) = (group(1, &[1, 2, 3], &[&[4, 5, 6]]), group(1, prompt, &[response]));
    run_on(folder.path(), &scorer(1, None), 1.0, &[first], &[&[0]]);
    let (_, num_scored) = run_on(folder.path(), &scorer(1, None), 1.0, &[second], &[&[0]]);
    assert_eq!(num_scored == 0, found);
}

/// Bytes of a cache's only file after all groups have been scored into it.
fn filled(folder: &Path) -> (std::path::PathBuf, Vec<u8>) {
    run(folder, &scorer(1, None), 1.0, &[&[0, 1, 2, 3]]);
    let entries: Vec<_> = fs::read_dir(folder).expect("a folder").collect();
    assert_eq!(entries.len(), 1);
    let path = entries[0].as_ref().expect("an entry").path();
    let bytes = fs::read(&path).expect("a file");
    assert_eq!(bytes.len(), 4 * 2 * 32);
    (path, bytes)
}

#[rstest]
#[case::key(3, 1)]
#[case::logp(32 + 20, 1)]
#[case::checksum(32 * 7 + 31, 1)]
#[case::every_record(0, 8)]
fn a_flipped_bit_is_detected_and_computed_again(#[case] at: usize, #[case] times: usize) {
    let folder = TempDir::new().expect("a folder");
    let (path, sound) = filled(folder.path());
    let mut bytes = sound.clone();
    (0..times).for_each(|i| bytes[at + 32 * i] ^= 0x10);
    fs::write(&path, &bytes).expect("a file");

    let (mut store, note) = LogpStore::open(folder.path(), scorer(1, None).id());
    assert!(note.is_some_and(|note| note.contains("damaged")));
    let (groups, id) = (groups(), scorer(1, None).id());
    store.load(groups.iter().flat_map(|group| group_keys(&id, group))).expect("keys");
    let known = |group: &TokenizedGroup| group_keys(&id, group).into_iter().filter(|key| store.get(*key).is_some());
    assert_eq!(groups.iter().flat_map(known).count(), 8 - times);
    let (logps, num_scored) = run(folder.path(), &scorer(1, None), 1.0, &[&[0, 1, 2, 3]]);
    assert_eq!(num_scored, 1);
    assert_eq!(logps[3][1], made_up_logp(1.0, &[3, 7, 8], &[23, 21, 2]));
    // Complete again, in some order.
    let records = |bytes: &[u8]| bytes.chunks(32).map(<[u8]>::to_vec).collect::<HashSet<_>>();
    assert_eq!(records(&fs::read(&path).expect("a file")), records(&sound));
}

#[rstest]
fn a_torn_tail_is_truncated(#[values(1, 31, 33)] lost: usize) {
    let folder = TempDir::new().expect("a folder");
    let (path, bytes) = filled(folder.path());
    fs::write(&path, &bytes[..bytes.len() - lost]).expect("a file");
    let (_, note) = LogpStore::open(folder.path(), scorer(1, None).id());
    assert!(note.is_some_and(|note| note.contains("damaged")));
    assert_eq!(fs::read(&path).expect("a file"), &bytes[..bytes.len() - lost.div_ceil(32) * 32]);
    assert_eq!(LogpStore::open(folder.path(), scorer(1, None).id()).1, None);
}

#[test]
fn a_tail_torn_while_the_store_is_open_is_overwritten() {
    let folder = TempDir::new().expect("a folder");
    let (path, bytes) = filled(folder.path());
    let (mut store, _) = LogpStore::open(folder.path(), scorer(1, None).id());
    fs::write(&path, [&bytes[..], &[1, 2, 3]].concat()).expect("a file");
    assert_eq!(store.insert([(ResponseKey::from([9; 16]), -1.5)].into_iter()).expect("room"), None);
    assert_eq!(fs::read(&path).expect("a file").len(), bytes.len() + 32);
    let (mut store, _) = LogpStore::open(folder.path(), scorer(1, None).id());
    store.load([ResponseKey::from([9; 16])].into_iter()).expect("a key");
    assert_eq!(store.get(ResponseKey::from([9; 16])), Some(-1.5));
}

/// Scoring may be ended between two packs of a micro-batch; what was scored before is kept, and the error says so.
#[test]
fn a_stop_inside_a_micro_batch_says_what_is_kept() {
    let folder = TempDir::new().expect("a folder");
    let id = scorer(1, None).id();
    let (mut store, _) = LogpStore::open(folder.path(), id);
    let mut num_scored = 0;
    let score = &mut |groups: &[TokenizedGroup]| {
        num_scored += 1;
        match num_scored {
            1 => Ok(groups.iter().map(|group| vec![-1.0; group.responses.len()]).collect()),
            _ => Err(TrainError::Interrupted { signal: 15, saved: String::new() }),
        }
    };
    let (stop, mut silent) = (StopFlag::default(), Silent);
    let tokens = store_of(&groups(), &DataFiles::default()).expect("a store");
    let data = DataSet::new(tokens, StoreFolder::new(None));
    let all = || [vec![0, 1], vec![2, 3]].into_iter();
    let mut numbers = data.no_numbers().expect("room");
    let resolver = Resolver { store: &mut store, scorer: &id, data: &data };
    let mut context = RunContext::new(&stop, &mut silent);
    let error = resolver.resolve(&|| Box::new(all()), score, &mut numbers, &mut context).expect_err("a stop");
    let expected = "while the reference was scored; its log-probs so far are in the cache, and no step was taken";
    assert!(matches!(&error, TrainError::Interrupted { signal: 15, saved } if saved == expected), "{error}");
    drop(store);
    let (scored, _) = run(folder.path(), &scorer(1, None), 1.0, &[&[0, 1]]);
    assert_eq!(scored, [vec![-1.0, -1.0], vec![-1.0, -1.0]]);
}
