//! Compares the command line's results with PyTorch's.

use std::fs;
use std::path::{Path, PathBuf};

use collimate_oracle::golden_name;
use collimate_oracle::tolerances::{
    BF16_LOGPS, COURSE, FINAL_LOGPS, GRAD_NORM, LEARNING_RATE, LOGPS, LOSS, OBJECTIVE, TOKEN_LOGPS, assert_absolute,
    assert_relative,
};
use rstest::rstest;
use serde_json::{Value, json};

use super::{golden, golden_arg};
use crate::harness::{Folder, collimate, succeed};

/// Rows of a golden file of log-probs, by prompt.
pub(super) fn golden_groups(model: &str) -> Vec<Vec<Value>> {
    let rows = read_json(&golden(&format!("logps/{model}.json")));
    let groups = array(&rows).chunk_by(|a, b| a["prompt"] == b["prompt"]);
    groups.map(<[Value]>::to_vec).collect()
}

pub(super) fn read_json(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

pub(super) fn array(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

pub(super) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("expected a number, found {value}"))
}

/// The same groups as a data file; rewards by position, since scoring ignores them.
pub(super) fn write_data(folder: &Folder, groups: &[Vec<Value>]) -> String {
    let response = |(k, row): (usize, &Value)| json!({"content": row["response"], "reward": k});
    let row = |rows: &Vec<Value>| {
        let responses: Vec<Value> = rows.iter().enumerate().map(response).collect();
        json!({"prompt": rows[0]["prompt"], "responses": responses}).to_string() + "\n"
    };
    folder.write("data.jsonl", groups.iter().map(row).collect::<String>())
}

/// The output of `score` for a file under a model.
pub(super) fn score(folder: &Folder, data: &str, model: &[&str]) -> Vec<Value> {
    let output = folder.arg("scores.jsonl");
    let args = ["score", "--data", data, "--output", &output, "--force", "--tokens", "--quiet"];
    succeed(&[&args, model].concat());
    folder.rows("scores.jsonl")
}

/// Golden rows with the responses that `score` wrote for them.
pub(super) fn pairs<'a>(golden: &'a [Vec<Value>], found: &'a [Value]) -> Vec<(&'a Value, &'a Value)> {
    assert_eq!(golden.len(), found.len());
    let pair = |(rows, found): (&'a Vec<Value>, &'a Value)| {
        let responses = array(&found["responses"]);
        assert_eq!(rows.len(), responses.len());
        assert_eq!(rows[0]["prompt_ids"], found["prompt_ids"]);
        rows.iter().zip(responses)
    };
    golden.iter().zip(found).flat_map(pair).collect()
}

#[rstest]
fn scores_are_those_of_pytorch(#[files("golden/*/golden.json")] family: PathBuf) {
    let model = golden_name(&family);
    let folder = Folder::new();
    let groups = golden_groups(model);
    let data = write_data(&folder, &groups);
    let base = golden_arg(&format!("models/{model}"));
    let found = score(&folder, &data, &["--model", &base]);
    for (i, (row, response)) in pairs(&groups, &found).into_iter().enumerate() {
        assert_eq!(response["response_ids"], row["response_ids"], "row {i}");
        let tokens = array(&row["token_logps"]);
        assert_eq!(response["num_tokens"], tokens.len(), "row {i}");
        assert_relative(number(&response["logps"]), number(&row["logps"]), LOGPS, &format!("row {i}"));
        for (t, (found, token)) in array(&response["token_logps"]).iter().zip(tokens).enumerate() {
            assert_relative(number(found), number(token), TOKEN_LOGPS, &format!("row {i}, token {t}"));
        }
    }
    let adapter = golden_arg(&format!("adapters/{model}"));
    let found = score(&folder, &data, &["--model", &base, "--adapter", &adapter]);
    for (i, (row, response)) in pairs(&groups, &found).into_iter().enumerate() {
        assert_relative(number(&response["logps"]), number(&row["logps_with_adapter"]), LOGPS, &format!("row {i}"));
        assert_ne!(row["logps"], row["logps_with_adapter"], "an adapter that changes nothing shows nothing");
    }
}

#[test]
fn bfloat16_shards_score_as_the_model_that_was_rounded() {
    let folder = Folder::new();
    let groups = golden_groups("llama");
    let data = write_data(&folder, &groups);
    let found = score(&folder, &data, &["--model", &golden_arg("models/llama.sharded")]);
    let mut worst = 0f64;
    for (i, (row, response)) in pairs(&groups, &found).into_iter().enumerate() {
        let (found, golden) = (number(&response["logps"]), number(&row["logps"]));
        assert_relative(found, golden, BF16_LOGPS, &format!("row {i}"));
        worst = worst.max((found / golden - 1.0).abs());
    }
    assert!(worst > LOGPS, "weights that were not rounded show nothing");

    // The same rounding by our own writer: a run of one step, whose learning rate is still 0.
    let (base, run) = (golden_arg("models/llama"), folder.arg("run"));
    let args = ["train", "--model", &base, "--data", &data, "--output", &run, "--objective", "nca", "--quiet"];
    let settings = ["--set", "max_steps=1", "--set", "warmup_steps=1", "--set", "torch_dtype=bfloat16"];
    succeed(&[&args[..], &settings].concat());
    assert_eq!(score(&folder, &data, &["--model", &run]), found);
}

#[test]
fn objective_values_are_those_of_pytorch() {
    let golden = read_json(&golden("objectives.json"));
    let found: Value =
        serde_json::from_str(&succeed(&["objective-values", &golden_arg("objectives.json")]).out).expect("JSON");
    assert_eq!(array(&found).len(), array(&golden).len());
    for (i, (found, golden)) in array(&found).iter().zip(array(&golden)).enumerate() {
        assert_eq!((&found["objective"], &found["params"]), (&golden["objective"], &golden["params"]));
        for field in ["loss", "grad_of_mean"] {
            let (found, golden) = (flat(&found[field]), flat(&golden[field]));
            assert_eq!(found.len(), golden.len());
            for (found, golden) in found.into_iter().zip(golden) {
                assert_absolute(found, golden, OBJECTIVE, &format!("row {i}, {field}"));
            }
        }
    }
}

fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(flat).collect(),
        value => vec![number(value)],
    }
}

#[test]
fn training_is_that_of_pytorch_step_by_step() {
    let mut checked = Vec::new();
    for entry in fs::read_dir(golden("train")).expect("the golden runs") {
        let case = entry.expect("an entry").file_name().into_string().expect("a name");
        Case::open(&case).check();
        checked.push(case);
    }
    for case in
        ["dpo_mistral_lora", "infonca_smollm3_full", "nca_llama_full", "nca_llama_nf4-double", "nca_qwen2_lora_accum"]
    {
        assert!(checked.iter().any(|checked| checked == case), "{case} was not run, only {checked:?}");
    }
}

/// A golden run.
struct Case {
    name: String,
    values: Value,
    folder: Folder,
}

impl Case {
    fn open(name: &str) -> Self {
        let values = read_json(&golden(&format!("train/{name}/case.json")));
        Self { name: name.to_owned(), values, folder: Folder::new() }
    }

    fn file(&self, name: &str) -> String {
        golden_arg(&format!("train/{}/{name}", self.name))
    }

    fn model(&self) -> String {
        golden_arg(self.values["model"].as_str().expect("a path"))
    }

    /// The format that the base is packed into.
    fn quantization(&self) -> &str {
        self.values["quantization"].as_str().unwrap_or("none")
    }

    /// The command line that `case.json` implies.
    fn command(&self) -> Vec<String> {
        let mut settings = vec![("shuffle", json!(false)), ("lora_dropout", self.values["dropout"].clone())];
        for (key, name) in [
            ("max_steps", "steps"),
            ("per_device_train_batch_size", "batch_groups"),
            ("gradient_accumulation_steps", "gradient_accumulation_steps"),
            ("learning_rate", "learning_rate"),
            ("warmup_steps", "warmup_steps"),
            ("lr_scheduler_type", "lr_scheduler_type"),
            ("max_grad_norm", "max_grad_norm"),
            ("weight_decay", "weight_decay"),
            ("adam_epsilon", "adam_epsilon"),
        ] {
            settings.push((key, self.values[name].clone()));
        }
        if self.values["lora"].is_object() {
            settings.push(("use_peft", json!(true)));
            settings.push(("lora_r", self.values["lora"]["r"].clone()));
            settings.push(("lora_alpha", self.values["lora"]["alpha"].clone()));
            settings.push(("adapter", json!(self.file("initial_adapter"))));
        }
        settings.push(("quantization", json!(self.quantization())));
        let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let mut args = ["train", "--quiet", "--objective"].map(str::to_owned).to_vec();
        args.push(plain(&self.values["objective"]));
        for (option, value) in
            [("--model", self.model()), ("--data", self.file("data.jsonl")), ("--output", self.folder.arg("run"))]
        {
            args.extend([option.to_owned(), value]);
        }
        let params = self.values["params"].as_object().expect("parameters");
        let params = params.iter().map(|(name, value)| (format!("objective.{name}"), value));
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), value));
        for (name, value) in settings.chain(params) {
            args.extend(["--set".to_owned(), format!("{name}={}", plain(value))]);
        }
        args
    }

    /// Runs it and compares every step and the final model.
    fn check(&self) {
        let outcome = collimate(&self.command());
        assert_eq!(outcome.code, 0, "{}: {}", self.name, outcome.err);
        let found = self.folder.rows("run/metrics.jsonl");
        let text = fs::read_to_string(self.file("expected.jsonl")).expect("the golden steps");
        let expected: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect();
        assert_eq!(found.len(), expected.len(), "{}", self.name);
        for (found, expected) in found.iter().zip(&expected) {
            self.check_step(found, expected);
        }
        self.check_final();
    }

    fn check_step(&self, found: &Value, expected: &Value) {
        assert_eq!(found["step"], expected["step"]);
        let at = |figure: &str| format!("{}, step {}, {figure}", self.name, expected["step"]);
        let figure = |name: &str| (number(&found[name]), number(&expected[name]), at(name));
        let (loss, golden, what) = figure("loss");
        assert_relative(loss, golden, LOSS, &what);
        let (norm, golden, what) = figure("grad_norm");
        assert_relative(norm, golden, GRAD_NORM, &what);
        let (rate, golden, what) = figure("learning_rate");
        assert_absolute(rate, golden, LEARNING_RATE, &what);
        for (series, field) in [("rewards", "implicit_rewards"), ("logps", "policy_logps")] {
            for (rank, golden) in self.means_by_rank(expected, field).into_iter().enumerate() {
                let name = format!("{series}/rank_{rank}");
                let tolerance = COURSE * golden.abs().max(1.0);
                assert_absolute(number(&found[&name]), golden, tolerance, &at(&name));
            }
        }
    }

    /// Means over a step's groups of a field of their responses, best reward first.
    fn means_by_rank(&self, expected: &Value, field: &str) -> Vec<f64> {
        let data = fs::read_to_string(self.file("data.jsonl")).expect("the golden data");
        let data: Vec<Value> = data.lines().map(|line| serde_json::from_str(line).expect("a row")).collect();
        let groups = array(&expected[field]);
        let first = (expected["step"].as_u64().expect("a step") as usize - 1) * groups.len();
        let mut means = vec![0.0; array(&groups[0]).len()];
        for (i, group) in groups.iter().enumerate() {
            let responses = array(&data[(first + i) % data.len()]["responses"]);
            let mut order: Vec<usize> = (0..responses.len()).collect();
            order.sort_by(|&a, &b| number(&responses[b]["reward"]).total_cmp(&number(&responses[a]["reward"])));
            for (mean, k) in means.iter_mut().zip(order) {
                *mean += number(&group[k]) / groups.len() as f64;
            }
        }
        means
    }

    /// The final model or adapter of the run, loaded again.
    fn check_final(&self) {
        let run = self.folder.arg("run");
        let base = self.model();
        let trained: &[&str] = if self.values["lora"].is_object() {
            &["--model", &base, "--adapter", &run, "--quantization", self.quantization(), "--max-samples", "4"]
        } else {
            &["--model", &run, "--max-samples", "4"]
        };
        let found = score(&self.folder, &self.file("data.jsonl"), trained);
        let expected = read_json(Path::new(&self.file("final.json")));
        let expected = array(&expected["final_policy_logps_of_first_4_groups"]);
        assert_eq!(found.len(), expected.len());
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            for (found, expected) in array(&found["responses"]).iter().zip(array(expected)) {
                let what = format!("{}, group {i} at the end", self.name);
                assert_relative(number(&found["logps"]), number(expected), FINAL_LOGPS, &what);
            }
        }
    }
}
