//! Compares whole runs with PyTorch's, step by step.

mod packed;
mod shared;

use std::path::{Path, PathBuf};

use collimate_model::MemoryCosts;
use collimate_objectives as _;
use collimate_oracle::tolerances::{COURSE, GRAD_NORM, LEARNING_RATE, LOSS};
use collimate_oracle::{golden_dir, golden_name};
use collimate_peft::{LoraConfig, LoraTargets};
use collimate_recipe::{MemoryBudget, Recipe};
use collimate_report::metrics::CLOCKED;
use collimate_report::{MetricsRow, read_metrics};
use rstest::rstest;
use serde_json::Value;

use crate::harness::backend;
use collimate_train::OVERHEAD;
use collimate_train::progress::Silent;
use collimate_train::{
    InputsIn, PlanOptions, RunControl, SessionOptions, Training, load_recipe, open_session, plan, quantization, train,
};

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).expect("a golden file")).expect("JSON")
}

/// The recipe that a `case.json` implies.
pub(crate) fn recipe(case: &str, output: &Path) -> Recipe {
    recipe_in(&golden_dir(), case, output)
}

/// The same for a case of another folder that is laid out like the golden one.
pub(super) fn recipe_in(root: &Path, case: &str, output: &Path) -> Recipe {
    let dir = root.join("train").join(case);
    let values = json(&dir.join("case.json"));
    let number = |key: &str| values[key].as_f64().expect("a number");
    let count = |key: &str| values[key].as_u64().expect("a count");
    let mut settings: Vec<(String, String)> = vec![
        ("model_name_or_path".into(), root.join(values["model"].as_str().expect("a path")).display().to_string()),
        ("data".into(), dir.join("data.jsonl").display().to_string()),
        ("output_dir".into(), output.display().to_string()),
        ("objective".into(), values["objective"].as_str().expect("a name").into()),
        ("max_steps".into(), count("steps").to_string()),
        ("per_device_train_batch_size".into(), count("batch_groups").to_string()),
        ("gradient_accumulation_steps".into(), count("gradient_accumulation_steps").to_string()),
        ("learning_rate".into(), number("learning_rate").to_string()),
        ("warmup_steps".into(), count("warmup_steps").to_string()),
        ("lr_scheduler_type".into(), values["lr_scheduler_type"].as_str().expect("a name").into()),
        ("max_grad_norm".into(), number("max_grad_norm").to_string()),
        ("weight_decay".into(), number("weight_decay").to_string()),
        ("shuffle".into(), "false".into()),
        ("lora_dropout".into(), "0".into()),
        ("reference_cache".into(), "false".into()),
        ("backend".into(), backend()),
    ];
    for (name, value) in values["params"].as_object().expect("parameters") {
        settings.push((format!("objective.{name}"), value.to_string()));
    }
    if let Some(quantization) = values["quantization"].as_str() {
        settings.push(("quantization".into(), quantization.into()));
    }
    if let Some(lora) = values["lora"].as_object() {
        settings.push(("use_peft".into(), "true".into()));
        settings.push(("lora_r".into(), lora["r"].to_string()));
        settings.push(("lora_alpha".into(), lora["alpha"].to_string()));
        settings.push(("adapter".into(), dir.join("initial_adapter").display().to_string()));
    }
    load_recipe(None, &settings).expect("a sound recipe")
}

fn close(found: f64, expected: f64, relative: f64) -> bool {
    (found - expected).abs() <= relative * expected.abs().max(1.0)
}

#[rstest]
fn every_step_agrees_with_pytorch(
    #[files("golden/*/train/*/case.json")]
    #[files("golden/quantized/*/train/*/case.json")]
    case: PathBuf,
    #[values("", "gradient_checkpointing", "separate_prompts", "several_packs", "several_separate_packs", "blockwise")]
    variant: &str,
) {
    let case = golden_name(&case);
    let out = tempfile::tempdir().expect("a folder");
    let mut recipe = recipe(case, out.path());
    if vary(&mut recipe, variant) {
        check_run(&golden_dir().join("train").join(case), &recipe);
    }
}

/// Whether a model, or a run named after it, has recurrent layers.
pub(super) fn is_recurrent(name: &str) -> bool {
    name.contains("qwen3_5")
}

/// Changes how a run computes what it computes; false for a model that cannot be run so.
pub(super) fn vary(recipe: &mut Recipe, variant: &str) -> bool {
    recipe.gradient_checkpointing = variant == "gradient_checkpointing";
    recipe.share_prompt = !variant.contains("separate");
    if variant.starts_with("several") {
        recipe.memory_budget = tight_budget(recipe);
    }
    if variant == "blockwise" {
        let Some(budget) = blockwise_budget(recipe) else { return false };
        recipe.memory_budget = budget;
    }
    true
}

/// Runs a recipe and compares every step with those of a case's folder.
fn check_run(case: &Path, recipe: &Recipe) {
    train(recipe, &mut Silent, &RunControl::default()).expect("a finished run");
    let rows = read_metrics(&recipe.output_dir.join("metrics.jsonl")).expect("metrics");
    let text = std::fs::read_to_string(case.join("expected.jsonl")).expect("golden");
    let expected: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect();
    assert_eq!(rows.len(), expected.len());
    // The reference is scored by the same operations in the same packs, so the two are bit-identical.
    let rank = |row: &MetricsRow, k: usize| row.get(&format!("rewards/rank_{k}"));
    assert!((0..4).all(|k| rank(&rows[0], k) == Some(0.0)), "implicit rewards do not begin at exactly zero");
    let data = golden_rewards(case);
    for (row, expected) in rows.iter().zip(&expected) {
        let figure = |name: &str| row.get(name).unwrap_or(f64::NAN);
        let number = |name: &str| expected[name].as_f64().expect("a number");
        let step = number("step");
        assert!(close(figure("loss"), number("loss"), LOSS), "{step}: {} {}", figure("loss"), number("loss"));
        let (norm, golden) = (figure("grad_norm"), number("grad_norm"));
        assert!((norm - golden).abs() <= GRAD_NORM * golden, "{step}: gradient norm {norm} against {golden}");
        assert!((figure("learning_rate") - number("learning_rate")).abs() <= LEARNING_RATE);
        check_ranks(row, expected, &data, "rewards", "implicit_rewards");
        check_ranks(row, expected, &data, "logps", "policy_logps");
    }
}

/// Memory for about two sequences at a time, so that groups are divided.
fn tight_budget(recipe: &Recipe) -> MemoryBudget {
    let costs = memory_costs(recipe);
    MemoryBudget::Bytes(OVERHEAD + costs.resident + 260 * costs.per_token)
}

/// The least memory with which every micro-batch has several packs that wait for their backward pass together; `None` for a
/// model whose packs never do.
fn blockwise_budget(recipe: &Recipe) -> Option<MemoryBudget> {
    let costs = memory_costs(recipe);
    let micro_batches = recipe.max_steps as usize * recipe.gradient_accumulation_steps;
    let budget = |tokens: u64| MemoryBudget::Bytes(OVERHEAD + costs.resident + tokens * costs.per_token);
    let is_blockwise = |budget: &MemoryBudget| {
        let recipe = Recipe { memory_budget: *budget, ..recipe.clone() };
        let planned =
            plan(&recipe, &PlanOptions { measure: false, num_responses: 4, ranks: 1 }, &mut Silent).expect("a plan");
        planned.steps.num_blockwise == micro_batches as u64
            && planned.steps.inputs.iter().all(|inputs| inputs.place == InputsIn::Device)
    };
    let found = (260..2000).step_by(40).map(budget).find(is_blockwise);
    assert_eq!(found.is_none(), costs.shares_embedding, "no budget divides the micro-batches");
    found
}

fn memory_costs(recipe: &Recipe) -> MemoryCosts {
    let mut options = SessionOptions::inference(recipe.model_name_or_path.clone().expect("a model"), None);
    options.adapter = recipe.adapter.clone();
    options.quantization = quantization(recipe);
    let lora = recipe.use_peft.then(|| LoraConfig::new(recipe.lora_r, recipe.lora_alpha, LoraTargets::AllLinear));
    options.training = lora.map_or(Training::Full, |lora| Training::Lora(Box::new(lora)));
    open_session(&options).expect("a session").memory_costs()
}

/// Rewards of every group of a case's data.
fn golden_rewards(case: &Path) -> Vec<Vec<f64>> {
    let text = std::fs::read_to_string(case.join("data.jsonl")).expect("data");
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).expect("a row");
        row["responses"]
            .as_array()
            .expect("responses")
            .iter()
            .map(|r| r["reward"].as_f64().expect("a reward"))
            .collect()
    };
    text.lines().map(row).collect()
}

/// The series by rank of a step are the means of the golden groups' values, best reward first.
fn check_ranks(row: &MetricsRow, expected: &Value, rewards: &[Vec<f64>], series: &str, key: &str) {
    let groups = expected[key].as_array().expect("groups");
    let step = expected["step"].as_u64().expect("a step") as usize;
    let first = (step - 1) * groups.len();
    for rank in 0..4 {
        let value = |(i, group): (usize, &Value)| {
            let rewards = &rewards[(first + i) % rewards.len()];
            let mut order: Vec<usize> = (0..rewards.len()).collect();
            order.sort_by(|&a, &b| rewards[b].total_cmp(&rewards[a]));
            group[order[rank]].as_f64().expect("a number")
        };
        let mean = groups.iter().enumerate().map(value).sum::<f64>() / groups.len() as f64;
        let found = row.get(&format!("{series}/rank_{rank}")).unwrap_or(f64::NAN);
        assert!(close(found, mean, COURSE), "step {step}, {series}/rank_{rank}: {found} against {mean}");
    }
}

#[rstest]
fn a_run_resumed_from_a_checkpoint_ends_with_the_same_bytes(
    #[values("nca_llama_full", "nca_qwen2_lora_accum")] case: &str,
) {
    let out = tempfile::tempdir().expect("a folder");
    let (whole, broken) = (out.path().join("whole"), out.path().join("broken"));
    let run = |folder: &Path, stop_at: Option<usize>, resume: bool| {
        let mut recipe = recipe(case, folder);
        recipe.save_steps = 3.into();
        recipe.shuffle = true;
        recipe.lora_dropout = 0.1;
        let mut observer = StopAfter { left: stop_at };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            train(&recipe, &mut observer, &RunControl { resume, ..RunControl::default() })
        }))
    };
    run(&whole, None, false).expect("no panic").expect("a finished run");
    assert!(run(&broken, Some(5), false).is_err(), "the first run must be cut off");
    run(&broken, None, true).expect("no panic").expect("a finished run");
    for file in ["model.safetensors", "adapter_model.safetensors"] {
        let read = |folder: &Path| std::fs::read(folder.join(file)).ok();
        assert!(read(&whole) == read(&broken), "{file} differs");
    }
    let figures = |folder: &Path| -> Vec<Vec<Option<f64>>> {
        let rows = read_metrics(&folder.join("metrics.jsonl")).expect("metrics");
        let timeless = |row: &MetricsRow| {
            row.names().filter(|name| !CLOCKED.contains(name)).map(|name| row.get(name)).collect::<Vec<_>>()
        };
        rows.iter().map(timeless).collect()
    };
    assert_eq!(figures(&whole), figures(&broken));
}

/// Panics after some steps, like a process that is killed.
struct StopAfter {
    left: Option<usize>,
}

impl collimate_train::Observer for StopAfter {
    fn stage(&mut self, _: &str, _: Option<u64>) {}
    fn advance(&mut self, _: u64) {}
    fn note(&mut self, _: &str) {}
    fn finish(&mut self) {}
    fn step(&mut self, _: &MetricsRow) {
        if let Some(left) = &mut self.left {
            *left -= 1;
            assert!(*left > 0, "cut off here, as the test wants");
        }
    }
}
