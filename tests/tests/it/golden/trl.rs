//! Recipes of TRL's beside TRL 1.16's own trainer, whose values `tests/python/trl_recipes.py` computes.

use std::fmt::Write;

use rstest::rstest;
use serde_json::{Value, json};

use super::golden_arg;
use crate::harness::{Folder, collimate, succeed};

/// The pairs of `trl_recipes.py`.
fn pairs() -> String {
    let mut lines = String::new();
    for number in 0..64 {
        let (a, b) = (3 + number % 7, 11 + number);
        let (product, sum) = (a * b, a + b);
        let wrong = match number % 3 {
            0 => format!(" {a} plus {b} is {sum}, and nobody knows more than that about it."),
            _ => format!(" It is {sum}."),
        };
        let pair = json!({
            "prompt": format!("Question {number}: what is {a} times {b}?"),
            "chosen": format!(" {a} times {b} is {product}, so the answer is {product}."),
            "rejected": wrong,
        });
        writeln!(lines, "{pair}").expect("a string");
    }
    lines
}

/// The steps of a run: loss, gradient norm and learning rate.
type Steps = [(f64, f64, f64); 6];

const LEFT_OUT: Steps = [
    (0.6931471824645996, 1.0496325492858887, 0.001),
    (0.6456674337387085, 0.9943799376487732, 0.0008333333333333334),
    (0.6180757284164429, 0.9463794231414795, 0.0006666666666666666),
    (0.5989369750022888, 0.8978061079978943, 0.0005),
    (0.5804131031036377, 0.8274461627006531, 0.0003333333333333333),
    (0.5576157569885254, 0.8776161670684814, 0.00016666666666666666),
];

const DECAYED: Steps = [
    (0.6931471824645996, 11.021011352539062, 0.0),
    (0.6931471824645996, 11.424580574035645, 0.0005),
    (0.4756423532962799, 9.23572826385498, 0.001),
    (0.2891685664653778, 5.548004627227783, 0.0005625437499999999),
    (0.22475630044937134, 4.260642051696777, 0.000250075),
    (0.1650656759738922, 2.988294839859009, 6.259375e-05),
];

const APO: Steps = [
    (1.0, 4.1226091384887695, 0.0),
    (1.0, 4.773273944854736, 0.001),
    (0.9488884210586548, 4.059452533721924, 0.0009140576474687263),
    (0.8293668031692505, 4.406585693359375, 0.0006890576474687264),
    (0.7623872756958008, 4.030937671661377, 0.0004109423525312738),
    (0.833244800567627, 3.4526140689849854, 0.00018594235253127373),
];

const SIMPO: Steps = [
    (1.6610801219940186, 26.55319595336914, 0.0),
    (1.148803949356079, 22.334949493408203, 0.001),
    (2.8082921504974365, 31.523183822631836, 0.0009045084971874737),
    (0.620887041091919, 14.629035949707031, 0.0006545084971874737),
    (0.2626446783542633, 10.08778190612793, 0.00034549150281252633),
    (1.55101478099823, 27.10660743713379, 9.549150281252633e-05),
];

/// Each learning rate is a thousand times the recipe's, or the weights would stay as they are.
#[rstest]
#[case::left_out("beta: 0.01\n", &LEFT_OUT)]
#[case::decayed(
    "weight_decay: 0.1\nlr_scheduler_type: polynomial\nlr_scheduler_kwargs: {power: 2.0}\nwarmup_steps: 0.2\n\
     per_device_train_batch_size: 6\ndataloader_drop_last: true\n",
    &DECAYED
)]
#[case::smollm3(
    "bf16: true\ngradient_accumulation_steps: 2\nlr_scheduler_type: cosine_with_min_lr\n\
     lr_scheduler_kwargs: {min_lr_rate: 0.1}\nmax_grad_norm: 0.2\nbeta: 0.05\nloss_type: apo_zero\nmax_length: 24576\n\
     per_device_train_batch_size: 1\npadding_free: true\nsave_steps: 0.5\nuse_liger_kernel: true\nwarmup_ratio: 0.1\n",
    &APO
)]
#[case::simpo(
    "beta: 2.5\ngamma_beta_ratio: 0.55\nlr_scheduler_type: cosine\nwarmup_ratio: 0.1\nmax_length: 2048\n\
     max_prompt_length: 1800\nper_device_train_batch_size: 2\ngradient_accumulation_steps: 2\n",
    &SIMPO
)]
fn recipes_of_trls_train_as_with_trl(#[case] keys: &str, #[case] expected: &Steps) {
    let folder = Folder::new();
    let (data, model, run) = (folder.write("pairs.jsonl", pairs()), golden_arg("models/llama"), folder.arg("run"));
    let start = format!("model_name_or_path: {model}\ndataset_name: {data}\noutput_dir: {run}\nreport_to: none\n");
    let recipe = folder.write("recipe.yaml", start + keys);
    let arguments = "--learning_rate 1e-3 --max_steps 6 --logging_steps=1 --train_sampling_strategy sequential \
                     --sample_prompts 0 --reference_cache false --compute_dtype float32 --quiet";
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    succeed(&[&["train", "--config", &recipe], arguments.as_slice()].concat());
    let rows = folder.rows("run/metrics.jsonl");
    let rows: Vec<&Value> = rows.iter().filter(|row| row.get("grad_norm").is_some()).collect();
    assert_eq!(rows.len(), expected.len());
    for (step, (row, (loss, norm, rate))) in rows.into_iter().zip(expected).enumerate() {
        let number = |key: &str| row[key].as_f64().expect("a number");
        assert!((number("loss") - loss).abs() < 1e-4, "step {step}: loss {} and {loss}", number("loss"));
        assert!(
            (number("grad_norm") / norm - 1.0).abs() < 1e-4,
            "step {step}: norm {} and {norm}",
            number("grad_norm")
        );
        assert!(
            (number("learning_rate") - rate).abs() < 1e-9,
            "step {step}: rate {} and {rate}",
            number("learning_rate")
        );
    }
}

/// Case 04: the handbook's recipes name no loss.
#[test]
fn a_recipe_that_names_no_loss_is_trained_with_trls_and_the_log_says_why() {
    let folder = Folder::new();
    let (data, model, run) = (folder.write("pairs.jsonl", pairs()), golden_arg("models/llama"), folder.arg("run"));
    let text =
        format!("model_name_or_path: {model}\ndataset_name: {data}\nbeta: 0.01\nuse_peft: true\noutput_dir: {run}\n");
    let recipe = folder.write("recipe.yaml", text);
    let err = succeed(&["dpo", &recipe, "--max_steps", "1", "--sample_prompts", "0"]).err;
    assert!(
        err.contains("TRL 1.16's defaults for what the recipe leaves out, since it has TRL's key `dataset_name`"),
        "{err}"
    );
    let resolved = folder.read("run/recipe.yaml");
    for line in ["num_train_epochs: 3.0", "per_device_train_batch_size: 8", "learning_rate: 1e-6", "lora_alpha: 32.0"] {
        assert!(resolved.contains(line), "{line}: {resolved}");
    }
    let adapter: Value = serde_json::from_str(&folder.read("run/adapter_config.json")).expect("JSON");
    assert_eq!(adapter["target_modules"], json!(["q_proj", "v_proj"]));
    assert!(resolved.contains("name: dpo\n") && resolved.contains("beta: 0.01\n"), "{resolved}");
}

/// Case 15: forms of TRL's that were refused.
#[rstest]
#[case("warmup_steps: 0.1\n")]
#[case("max_length: 256\n")]
#[case("max_length: null\n")]
#[case("eval_steps: 0.25\n")]
#[case("lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr_rate: 0.1}\n")]
#[case("lr_scheduler_type: inverse_sqrt\n")]
#[case("hub_model_revision: v1\n")]
#[case("gamma_beta_ratio: 0.3\nbeta: 10\n")]
#[case("use_peft: true\nlora_target_modules: '.*(q_proj|v_proj)$'\n")]
fn forms_of_trl_are_planned(#[case] keys: &str) {
    let folder = Folder::new();
    let (data, model) = (folder.write("pairs.jsonl", pairs()), golden_arg("models/llama"));
    let recipe = folder.write("r.yaml", format!("model_name_or_path: {model}\ndataset_name: {data}\n{keys}"));
    succeed(&["plan", &recipe]);
}

#[test]
fn what_is_not_done_is_refused_with_its_remedy() {
    let folder = Folder::new();
    let recipe = folder.write("r.yaml", "optim: rmsprop\n");
    let refused = collimate(&["train", &recipe]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("optim: adamw_torch"), "{}", refused.err);
    let unknown = collimate(&["train", "--learning_rat", "1e-5"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.err.contains("did you mean \"learning_rate\"?"), "{}", unknown.err);
}
