//! Short forms of the experiments on the task, sharing one set of samples.

use std::sync::OnceLock;

use serde_json::json;

use super::*;
use crate::ablation::{method, nca};

struct Short {
    stages: Stages,
    _folder: tempfile::TempDir,
}

fn stages() -> &'static Stages {
    static SHORT: OnceLock<Short> = OnceLock::new();
    let short = SHORT.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        Short { stages: Stages::new(folder.path(), String::new()).expect("stages"), _folder: folder }
    });
    &short.stages
}

fn size() -> TaskSize {
    TaskSize { num_problems: 96, num_test: 40, num_validation: 8, num_steps: 12, seeds: vec![1], ..TaskSize::quick() }
}

fn trained(method: &Method) -> (Outcome, Outcome) {
    let size = size();
    let task = Task::new(stages(), &size).expect("a task");
    let base = task.base_outcome().expect("figures of the base model");
    (base, task.trained(method, 4e-4, 1, HeldOutPart::Test).expect("a run"))
}

#[test]
fn nca_with_eight_rewards_solves_more_than_the_base_model_and_raises_the_chosen() {
    let (base, after) = trained(&method("NCA", nca(), Selection::First(8)));
    assert!(after.sampled > base.sampled + 0.08 && after.greedy > base.greedy + 0.08, "{base:?} {after:?}");
    assert!(after.chosen_change > after.rejected_change + 0.5, "{after:?}");
}

#[test]
fn rewards_that_hardly_differ_teach_nothing() {
    let flat = json!({"name": "nca", "beta": 1.0, "alpha": 100.0});
    let (base, after) = trained(&method("NCA, α = 100", flat, Selection::First(8)));
    assert!((after.sampled - base.sampled).abs() < 0.08, "{base:?} {after:?}");
}
