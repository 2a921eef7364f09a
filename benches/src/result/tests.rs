use super::*;

pub(crate) fn entrant(label: &str, reference: &[f64], seconds: &[f64], peak: u64) -> EntrantResult {
    let step = |&seconds: &f64| Step {
        seconds,
        loss: 1.0,
        grad_norm: 1.0,
        tokens: 10.0,
        cpu_seconds: None,
        other_cpu_seconds: None,
    };
    EntrantResult {
        label: label.to_owned(),
        unique_tokens: vec![12; seconds.len()],
        ready: Ready { reference_seconds: reference.to_vec(), ..Ready::default() },
        steps: seconds.iter().map(step).collect(),
        peak_rss_bytes: peak,
        peak_gpu_bytes: None,
    }
}

/// Two sides of one work.
pub(crate) fn result() -> WorkResult {
    WorkResult {
        work: "w".to_owned(),
        title: "a work".to_owned(),
        shape: "10m".to_owned(),
        commit: "c".to_owned(),
        machine: Machine::default(),
        threads: 2,
        backend: flex(),
        dtype: float32(),
        precision: highest(),
        flops_per_token: 1e9,
        num_warmup: 1,
        groups_per_step: 2,
        entrants: vec![
            entrant(OURS, &[9.0, 1.0, 2.0, 1.0], &[9.0, 2.0, 2.0, 3.0], 25),
            entrant(PEER, &[], &[99.0, 12.0, 8.0, 16.0], 100),
        ],
        figures: BTreeMap::new(),
    }
    .with_figures()
}

#[test]
fn the_warm_up_does_not_count_and_cold_steps_score_their_reference() {
    // Cold steps of ours take 3, 4 and 4 seconds, warm ones 2, 2 and 3; PyTorch's 12, 8 and 16.
    let ratios = result().ratios().expect("both took part");
    let expected = Ratios { cold: 16.0 / 4.0, cold_range: (8.0 / 4.0, 12.0 / 3.0), warm: 16.0 / 3.0, memory: 0.25 };
    assert_eq!(ratios, expected);
    let ours = result().figures[OURS];
    assert_eq!((ours.groups_per_second, ours.tokens_per_second), (2.0 / 4.0, 12.0 / 4.0));
}

#[test]
fn the_part_of_the_peak_is_of_cold_steps() {
    let mut result = result();
    assert_eq!(result.fraction_of_peak(&result.entrants[0]), None, "a processor");
    result.backend = "cuda".to_owned();
    result.machine.gpus = vec!["NVIDIA A100-SXM4-80GB".to_owned()];
    // Ten tokens of 10⁹ operations in 4 s, of 312·10¹².
    let part = result.fraction_of_peak(&result.entrants[0]).expect("a known GPU");
    assert!((part / (10.0 * 1e9 / 4.0 / 312e12) - 1.0).abs() < 1e-12, "{part}");
}

#[test]
fn a_reference_in_other_packs_is_spread_over_the_steps() {
    assert_eq!(entrant(OURS, &[3.0, 3.0, 2.0], &[1.0, 2.0], 1).cold(), [1.0 + 8.0 / 2.0, 2.0 + 8.0 / 2.0]);
}

#[test]
fn results_of_other_types_stay_in_the_file() {
    let folder = std::env::temp_dir().join(format!("benches-results-{}", std::process::id()));
    let path = folder.join("results.json");
    let bfloat16 = WorkResult { dtype: "bfloat16".to_owned(), ..result() };
    let high = WorkResult { precision: "high".to_owned(), ..result() };
    let again = WorkResult { commit: "later".to_owned(), ..result() };
    store(&path, &[result(), bfloat16.clone(), high.clone()]).expect("written");
    let all = store(&path, std::slice::from_ref(&again)).expect("written");
    std::fs::remove_dir_all(&folder).expect("a temporary folder");
    assert_eq!(all, [bfloat16, high, again]);
}

#[test]
fn results_of_older_files_are_in_float32_at_highest() {
    let mut json = serde_json::to_value(result()).expect("JSON");
    for field in ["dtype", "precision"] {
        json.as_object_mut().expect("an object").remove(field);
    }
    let read: WorkResult = serde_json::from_value(json).expect("a result");
    assert_eq!(read, result());
    assert_eq!(read.number_type(), "float32");
}
