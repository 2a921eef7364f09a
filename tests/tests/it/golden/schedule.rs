//! The learning rates of the golden runs.

use std::fs;

use collimate_recipe::{Schedule, ScheduleKind};
use rstest::rstest;
use serde_json::Value;

use super::golden;

#[rstest]
#[case("nca_llama_full")]
#[case("nca_qwen2_lora_accum")]
#[case("dpo_mistral_lora")]
#[case("infonca_smollm3_full")]
fn learning_rates_equal_those_of_transformers(#[case] case: &str) {
    let read = |name: &str| fs::read_to_string(golden("train").join(case).join(name)).expect("a golden file");
    let parameters: Value = serde_json::from_str(&read("case.json")).expect("JSON");
    let count = |key: &str| parameters[key].as_u64().expect("a count") as usize;
    let kind = ScheduleKind::from_name(parameters["lr_scheduler_type"].as_str().expect("a name")).expect("a kind");
    let base = parameters["learning_rate"].as_f64().expect("a rate");
    let schedule = Schedule::new(kind, base, count("warmup_steps"), count("steps"));
    let mut num_steps = 0;
    for (step, line) in read("expected.jsonl").lines().enumerate() {
        let row: Value = serde_json::from_str(line).expect("a row");
        let expected = row["learning_rate"].as_f64().expect("a rate");
        assert!((schedule.lr(step) - expected).abs() < 1e-9, "step {step}: {} {expected}", schedule.lr(step));
        num_steps += 1;
    }
    assert_eq!(num_steps, count("steps"));
}
