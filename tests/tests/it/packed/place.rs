//! Where weights are kept if nobody says so.

use std::fs;
use std::path::Path;

use collimate_backend::BACKENDS;
use collimate_oracle::golden_dir;
use collimate_recipe::{MemoryBudget, WeightPlace};
use collimate_train::{OVERHEAD, SessionOptions, check_session, open_session};
use collimate_weights::ModelFolder;
use serde_json::{Value, json};

use super::write_both;
use crate::harness::{Folder, collimate, succeed, train};
use crate::small_model::write_model_with;

/// A model most of whose weights are those of linear layers, and a row of data.
fn folder_with_model() -> Folder {
    let folder = Folder::new();
    write_model_with(&folder.path("base"), &json!({"num_hidden_layers": 6, "intermediate_size": 512}));
    let row = json!({"prompt": "What is 3 times 4?", "responses": [
        {"content": "It is twelve.", "reward": 1}, {"content": "It is eleven.", "reward": 0},
    ]});
    folder.write("data.jsonl", format!("{row}\n"));
    folder
}

/// What a plan says of the memory.
fn planned(folder: &Folder, settings: &[&str]) -> Value {
    let (model, data) = (folder.arg("base"), folder.arg("data.jsonl"));
    let args = ["plan", "--model", &model, "--data", &data, "--objective", "nca", "--json"];
    let settings = settings.iter().flat_map(|setting| ["--set", setting]);
    let plan: Value =
        serde_json::from_str(&succeed(&args.into_iter().chain(settings).collect::<Vec<_>>()).out).expect("JSON");
    plan["memory"].clone()
}

fn bytes(memory: &Value, key: &str) -> u64 {
    memory[key].as_u64().unwrap_or_else(|| panic!("{key}: {memory}"))
}

#[test]
fn a_loop_samples_and_trains_over_a_base_that_fits_only_in_its_files() {
    let folder = folder_with_model();
    let adapter = ["use_peft=true", "lora_r=1", "lora_target_modules=q_proj"];
    let resident = planned(&folder, &[&adapter[..], &["weights=resident"]].concat());
    let mapped = planned(&folder, &[&adapter[..], &["weights=mapped"]].concat());
    // Too little even for the weights alone, which is all that sampling holds.
    let (least, weights) = (bytes(&mapped, "smallest_budget"), bytes(&resident, "weights"));
    assert!(least < OVERHEAD + weights, "{least} {weights}");
    let budget = format!("memory_budget={}", (least + OVERHEAD + weights) / 2);
    let prompts: String = (2..4).map(|i| json!({"prompt": format!("What is {i}?")}).to_string() + "\n").collect();
    let prompts = folder.write("prompts.jsonl", &prompts);
    let run = |name: &str, more: &[&str]| {
        let (model, output) = (folder.arg("base"), folder.arg(name));
        let mut args = vec!["loop", "--model", &model, "--prompts", &prompts, "--output", &output, "--rounds", "1"];
        args.extend(["--command", "awk '{print (length($0) % 7) / 8}'", "--num-responses", "2"]);
        args.extend(["--max-new-tokens", "6", "--objective", "nca", "--eval-prompts", &prompts]);
        let settings = ["reference_cache=false", "learning_rate=1e-2", "sample_prompts=0"];
        args.extend(adapter.iter().chain(&settings).chain(more).flat_map(|setting| ["--set", setting]));
        let said = succeed(&args).err;
        let read = |file: &str| fs::read(folder.path(name).join("round-1").join(file)).expect("a file");
        (said, [read("adapter_model.safetensors"), read("samples.jsonl"), read("eval-samples.jsonl")])
    };
    let in_files =
        |said: &str| said.split_whitespace().collect::<Vec<_>>().join(" ").matches("stay in their files: ").count();
    let (said, expected) = run("resident", &["memory_budget=1GiB"]);
    assert_eq!(in_files(&said), 0, "{said}");
    let (said, found) = run("mapped", &[&budget]);
    assert_eq!(in_files(&said), 4, "evaluation, samples, training, evaluation: {said}");
    assert!(found == expected);
}

#[test]
fn a_session_reads_weights_from_files_only_where_its_budget_is_too_small() {
    let folder = folder_with_model();
    let options = |weights| SessionOptions { weights, ..SessionOptions::inference(folder.path("base"), None) };
    let costs = |weights| open_session(&options(weights)).expect("a session").memory_costs();
    let (resident, mapped) = (costs(WeightPlace::Resident), costs(WeightPlace::Mapped));
    assert!(resident.in_files == 0 && mapped.in_files > resident.weights / 2);
    let within = |bytes| costs(WeightPlace::Auto(MemoryBudget::Bytes(bytes)));
    assert_eq!(within(OVERHEAD + resident.resident + 1), resident);
    assert_eq!(within(OVERHEAD + resident.resident), mapped);
    assert_eq!(costs(WeightPlace::Auto(MemoryBudget::Auto)), resident, "this machine has room");
    // What was checked is what is opened: nothing is read twice.
    let checked = check_session(&options(WeightPlace::Mapped)).expect("a sound folder");
    fs::remove_file(folder.path("base").join("config.json")).expect("a file");
    assert_eq!(checked.open().expect("a session").memory_costs(), mapped);
}

#[test]
fn the_files_of_a_packed_base_are_opened_once() {
    let folder = Folder::new();
    let (packed, unpacked) = (folder.path("packed"), folder.path("unpacked"));
    write_both(&golden_dir().join("models/llama.quantized"), "nf4", &packed, &unpacked);
    // Its configuration says which weights are packed, so it has looked into the files.
    let is_open = |model: &Path| {
        let opened = ModelFolder::open(model).expect("a sound folder");
        fs::remove_file(model.join("model.safetensors")).expect("a file");
        opened.into_weights().is_ok()
    };
    assert!(is_open(&packed));
    assert!(!is_open(&unpacked), "nobody has asked for these");
}

#[test]
fn a_gpu_that_is_not_here_is_forecast_with_what_it_takes_to_unpack_a_weight() {
    if BACKENDS.iter().any(|backend| backend.name == "cuda" && backend.compiled) {
        return;
    }
    let folder = folder_with_model();
    let settings = ["use_peft=true", "quantization=nf4", "memory_budget=1GiB"];
    let here = planned(&folder, &[&settings[..], &["backend=flex"]].concat());
    let there = |dtype| planned(&folder, &[&settings[..], &["backend=cuda", dtype]].concat());
    let (float32, bfloat16) = (there("compute_dtype=float32"), there("compute_dtype=bfloat16"));
    // The feed-forward layers' weights are the largest.
    let unpacking = [&here, &float32, &bfloat16].map(|memory| bytes(memory, "unpacking"));
    assert_eq!(unpacking, [0, 4 * 64 * 512, 2 * 64 * 512]);
    assert_eq!(bytes(&float32, "peak") - bytes(&here, "peak"), unpacking[1]);
    assert_eq!(bytes(&here, "weights"), bytes(&float32, "weights"));
    assert!(bytes(&bfloat16, "weights") < bytes(&here, "weights"), "embedding and output layer in half the memory");
    let (model, data, output) = (folder.arg("base"), folder.arg("data.jsonl"), folder.arg("run"));
    let outcome = collimate(&train(&model, &data, &output, &[&settings[..], &["backend=cuda"]].concat()));
    assert!(outcome.code == 2 && outcome.err.contains("is not in this build"), "{}", outcome.err);
}
