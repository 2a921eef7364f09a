//! What the verbs do with a model whose weights are packed.

use std::fs;
use std::path::PathBuf;

use collimate_oracle::golden_dir;
use collimate_weights::WeightFiles;
use rstest::rstest;
use serde_json::{Value, json};

use super::{FORMATS, golden_data, write_both};
use crate::generation::{PROMPTS, generate};
use crate::harness::{Folder, collimate, succeed, train};

/// A folder with a packed model, the same unpacked, and an adapter for both.
struct Models {
    folder: Folder,
    plain: PathBuf,
    data: String,
}

impl Models {
    fn new(family: &str, format: &str) -> Self {
        let plain = golden_dir().join(format!("models/{family}.quantized"));
        let folder = Folder::new();
        write_both(&plain, format, &folder.path("packed"), &folder.path("unpacked"));
        let data = golden_data();
        Self { folder, plain, data }
    }

    fn plain(&self) -> String {
        self.plain.display().to_string()
    }

    /// An adapter that changes log-probs, trained on the packed model.
    fn adapter(&self) -> String {
        let (model, output) = (self.folder.arg("packed"), self.folder.arg("adapter"));
        let settings = ["use_peft=true", "lora_r=4", "max_steps=2", "learning_rate=0.05", "sample_prompts=0"];
        succeed(&train(&model, &self.data, &output, &settings));
        output
    }

    /// What `score` writes for the first rows.
    fn scores(&self, model: &[&str]) -> Vec<Value> {
        let output = self.folder.arg("scores.jsonl");
        let args = ["score", "--data", &self.data, "--max-samples", "3", "--force", "--tokens", "--output", &output];
        succeed(&[&args, model].concat());
        self.folder.rows("scores.jsonl")
    }

    /// A GGUF file of a model.
    fn export(&self, model: &[&str]) -> Vec<u8> {
        let output = self.folder.arg("model.gguf");
        let args = ["export", "--outtype", "f32", "--name", "x", "--output", &output, "--force"];
        succeed(&[&args, model].concat());
        fs::read(output).expect("a file")
    }

    fn config(&self, model: &str) -> Value {
        serde_json::from_str(&self.folder.read(&format!("{model}/config.json"))).expect("JSON")
    }
}

#[rstest]
fn scores_and_text_are_those_of_the_unpacked_weights(
    #[values("llama", "mixtral")] family: &str,
    #[values(0, 1, 2, 3, 4, 5, 6)] format: usize,
) {
    let models = Models::new(family, FORMATS[format]);
    let (packed, unpacked) = (models.folder.arg("packed"), models.folder.arg("unpacked"));
    let expected = models.scores(&["--model", &unpacked]);
    let length = ["--max-new-tokens", "8"];
    let text = generate(&["--model", &unpacked], &PROMPTS, &length);
    for weights in ["resident", "mapped"] {
        let model = ["--model", &packed, "--weights", weights];
        assert_eq!(models.scores(&model), expected, "{weights}");
        assert_eq!(generate(&model, &PROMPTS, &length), text, "{weights}");
    }
    assert_ne!(models.scores(&["--model", &models.plain()]), expected, "packing changed nothing");
}

#[rstest]
fn samples_of_a_packed_model_are_those_of_the_unpacked_one(#[values("nf4-double", "gptq")] format: &str) {
    let models = Models::new("llama", format);
    let sample = |model: &str| {
        let prompts = models.folder.write("prompts.jsonl", "{\"prompt\": \"How many eggs?\"}\n");
        let output = models.folder.arg("samples.jsonl");
        let model = models.folder.arg(model);
        let args = ["sample", "--model", &model, "--data", &prompts, "--output", &output, "--force"];
        succeed(&[&args[..], &["-n", "3", "--max-new-tokens", "8", "--seed", "3"]].concat());
        models.folder.read("samples.jsonl")
    };
    assert_eq!(sample("packed"), sample("unpacked"));
}

#[rstest]
fn merging_unpacks_adds_and_says_so(#[values(0, 1, 2, 3, 4, 5, 6)] format: usize) {
    let format = FORMATS[format];
    let models = Models::new("llama", format);
    let (packed, unpacked, adapter) = (models.folder.arg("packed"), models.folder.arg("unpacked"), models.adapter());
    let merge = |model: &str, output: &str, more: &[&str]| {
        let output = models.folder.arg(output);
        succeed(&[&["merge", "--model", model, "--adapter", &adapter, "--output", &output][..], more].concat())
    };
    let said = merge(&packed, "merged", &[]).err;
    let note = format!("{packed}: 14 weights in {format} were unpacked, and the merged model is in bfloat16");
    assert!(said.split_whitespace().collect::<Vec<_>>().join(" ").contains(&note), "{said}");
    let config = models.config("merged");
    assert_eq!(config.get("quantization_config"), None);
    assert_eq!(config["dtype"], "bfloat16");
    let merged = WeightFiles::open(&models.folder.path("merged")).expect("weights");
    let of_unpacked = merge(&unpacked, "other", &["--dtype", "bfloat16"]);
    assert!(!of_unpacked.err.contains("unpacked, and"), "{}", of_unpacked.err);
    let other = WeightFiles::open(&models.folder.path("other")).expect("weights");
    assert_eq!(merged.names().collect::<Vec<_>>(), other.names().collect::<Vec<_>>());
    for name in other.names() {
        assert_eq!(merged.read(name).expect("a tensor"), other.read(name).expect("a tensor"), "{name}");
    }
    // Merged without rounding, it is the packed model with its adapter.
    merge(&packed, "exact", &["--dtype", "float32"]);
    let expected = models.scores(&["--model", &packed, "--adapter", &adapter]);
    let found = models.scores(&["--model", &models.folder.arg("exact")]);
    let sums = |rows: &[Value]| -> Vec<f64> {
        let responses = rows.iter().flat_map(|row| row["responses"].as_array().expect("responses"));
        responses.map(|response| response["logps"].as_f64().expect("a sum")).collect()
    };
    for (found, expected) in sums(&found).into_iter().zip(sums(&expected)) {
        assert!((found / expected - 1.0).abs() < 1e-5, "{found} {expected}");
    }
}

#[rstest]
fn an_exported_file_has_the_unpacked_weights(
    #[values("llama", "mixtral")] family: &str,
    #[values("nf4-double", "int8", "fp8", "awq")] format: &str,
) {
    let models = Models::new(family, format);
    let (packed, unpacked) = (models.folder.arg("packed"), models.folder.arg("unpacked"));
    let exported = models.export(&["--model", &packed]);
    assert!(exported == models.export(&["--model", &unpacked]));
    assert!(exported != models.export(&["--model", &models.plain()]), "packing changed nothing");
    let adapter = models.adapter();
    let adapted = models.export(&["--model", &packed, "--adapter", &adapter]);
    assert!(adapted == models.export(&["--model", &unpacked, "--adapter", &adapter]) && adapted != exported);
}

#[test]
fn a_plan_counts_packed_weights() {
    let models = Models::new("llama", "nf4");
    let resident = |model: &str, settings: &[&str]| {
        let mut args = vec!["plan", "--model", model, "--data", &models.data, "--objective", "nca", "--json"];
        args.extend(["--set", "use_peft=true"]);
        args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        let plan: Value = serde_json::from_str(&succeed(&args).out).expect("JSON");
        plan["memory"]["weights"].as_u64().unwrap_or_else(|| panic!("{}", plan["memory"]))
    };
    let (packed, unpacked, plain) = (models.folder.arg("packed"), models.folder.arg("unpacked"), models.plain());
    let (few, many) = (resident(&packed, &[]), resident(&unpacked, &[]));
    assert!(few < many, "{few} {many}");
    assert_eq!(resident(&plain, &["quantization=nf4"]), few);
    assert!(resident(&packed, &["weights=mapped"]) < few);
}

#[test]
fn a_loop_trains_adapters_over_a_packed_base() {
    let models = Models::new("llama", "nf4");
    let prompt = |i: usize| json!({"prompt": format!("What is 3 times {i}?")}).to_string() + "\n";
    let prompts = models.folder.write("prompts.jsonl", (2..6).map(prompt).collect::<String>());
    let run = |name: &str, model: &str, more: &[&str]| {
        let output = models.folder.arg(name);
        let mut args = vec!["loop", "--model", model, "--prompts", &prompts, "--output", &output, "--rounds", "2"];
        args.extend(["--command", "awk '{print (length($0) % 7) / 8}'", "--num-responses", "3"]);
        args.extend(["--max-new-tokens", "6", "--objective", "nca"]);
        let settings = ["use_peft=true", "lora_r=4", "reference_cache=false", "learning_rate=1e-2"];
        args.extend(settings.iter().chain(more).flat_map(|setting| ["--set", setting]));
        succeed(&args);
        let read = |file: &str| fs::read(models.folder.path(name).join(file)).expect("a file");
        (read("round-2/adapter_model.safetensors"), read("round-2/samples.jsonl"))
    };
    let expected = run("expected", &models.folder.arg("unpacked"), &[]);
    assert!(run("over-packed", &models.folder.arg("packed"), &[]) == expected);
    assert!(run("at-load", &models.plain(), &["quantization=nf4"]) == expected);
}

#[rstest]
#[case::all_weights(&[], "packed weights are not trained: train an adapter (use_peft: true)")]
#[case::other(&["use_peft=true", "quantization=int8"], "is int8, and the weights in")]
fn what_packed_weights_cannot_do_is_refused_by_name(#[case] settings: &[&str], #[case] message: &str) {
    let models = Models::new("llama", "nf4");
    let output = models.folder.arg("run");
    let outcome = collimate(&train(&models.folder.arg("packed"), &models.data, &output, settings));
    assert_eq!(outcome.code, 2, "{}", outcome.err);
    let said = outcome.err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("quantization") && said.contains(message), "{said}");
    assert!(!models.folder.path("run").exists(), "nothing was begun");
}
