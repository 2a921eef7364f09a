//! Models of token maps in several scales (VAR): the memory that their runs need, and what they do not train.

use std::fs;
use std::path::Path;

use collimate_files::ShardSize;
use collimate_hf::{HostTensor, ModelConfig};
use collimate_weights::{StorageDtype, write_model, write_safetensors};
use serde_json::{Value, json};

use crate::harness::{Folder, collimate, succeed};

/// Numbers without meaning, small.
fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919) % 1013) as f32 / 1013.0 * 0.06 - 0.03).collect()
}

/// A model with these fields of its configuration, its codebook, and rows of it.
fn write_var(folder: &Folder, fields: &Value, rows: usize) {
    let dir = folder.path("var");
    fs::create_dir_all(&dir).expect("a folder");
    let mut config = json!({"model_type": "var", "num_classes": 3, "vocab_size": 128, "Cvae": 8});
    fields.as_object().expect("fields").iter().for_each(|(key, value)| config[key] = value.clone());
    let config = ModelConfig::from_json(&dir.join("config.json"), config).expect("a configuration");
    let tensors = config.tensors().into_iter().map(|spec| {
        let value = HostTensor::new(spec.shape.clone(), values(spec.num_elements()));
        (spec.name, value)
    });
    let tensors: Vec<_> = tensors.collect();
    write_model(&dir, &config, tensors, StorageDtype::F32, ShardSize::default()).expect("a model");
    let tensor = |name: &str, shape: &[usize]| {
        (format!("quantize.{name}"), HostTensor::new(shape.to_vec(), values(shape.iter().product())))
    };
    let mut codebook = vec![tensor("embedding.weight", &[128, 8])];
    for number in 0..4 {
        codebook.push(tensor(&format!("quant_resi.qresi_ls.{number}.weight"), &[8, 8, 3, 3]));
        codebook.push(tensor(&format!("quant_resi.qresi_ls.{number}.bias"), &[8]));
    }
    write_safetensors(&dir.join("vae.safetensors"), codebook, StorageDtype::F32).expect("a codebook");
    let length = config.scales.expect("scales").num_tokens();
    let row = |row: usize| {
        let tokens: Vec<usize> = (0..length).map(|place| (place * 37 + row * 11) % 128).collect();
        format!("{}\n", json!({"condition": row % 3, "tokens": tokens}))
    };
    folder.write("rows.jsonl", (0..rows).map(row).collect::<String>());
}

/// The arguments of a verb that reads a recipe.
fn arguments(folder: &Folder, verb: &str, settings: &[&str]) -> Vec<String> {
    let mut args = vec![verb.to_owned()];
    for (key, value) in [("--model", folder.arg("var")), ("--data", folder.arg("rows.jsonl"))] {
        args.extend([key.to_owned(), value]);
    }
    args.extend(["--objective".to_owned(), "cca".to_owned()]);
    let fixed = ["sample_prompts=0", "reference_cache=false", "max_steps=2"];
    args.extend(fixed.iter().chain(settings).flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()]));
    args
}

#[cfg(target_os = "linux")]
#[rstest::rstest]
#[case::long_pictures(json!({"patch_nums": [1, 2, 3, 4, 6, 8, 10, 13], "depth": 5, "embed_dim": 96, "num_heads": 6}))]
#[case::wide_blocks(json!({"patch_nums": [1, 2, 3, 4, 6], "depth": 6, "embed_dim": 256, "num_heads": 4}))]
fn a_run_over_token_maps_needs_the_memory_of_its_plan(#[case] fields: Value, #[values("2", "6")] batch: &str) {
    use crate::process::Process;

    let folder = Folder::new();
    write_var(&folder, &fields, 12);
    let batch = format!("per_device_train_batch_size={batch}");
    let mut asked = arguments(&folder, "plan", &[&batch]);
    asked.extend(["--json".to_owned(), "--quiet".to_owned()]);
    let plan: Value = serde_json::from_str(&succeed(&asked).out).expect("JSON");
    let planned = plan["memory"]["peak"].as_u64().expect("bytes") as f64 / f64::from(1 << 20);
    let mut run = arguments(&folder, "train", &[&batch]);
    run.extend(["--output".to_owned(), "run".to_owned()]);
    fs::create_dir_all(folder.path("here")).expect("a folder");
    let measured = Process::start(&folder.path("here"), &run).peak_bytes() as f64 / f64::from(1 << 20);
    println!("{fields} {batch}: planned {planned:.1} MiB, measured {measured:.1} MiB");
    assert!((planned / measured - 1.0).abs() < 0.15, "planned {planned:.1} MiB, measured {measured:.1} MiB");
}

#[test]
fn adapters_of_models_over_scales_are_refused() {
    let folder = Folder::new();
    write_var(&folder, &json!({"patch_nums": [1, 2, 3], "depth": 1, "embed_dim": 32, "num_heads": 2}), 4);
    let mut args = arguments(&folder, "train", &["use_peft=true", "per_device_train_batch_size=2"]);
    args.extend(["--output".to_owned(), folder.arg("run")]);
    let outcome = collimate(&args);
    assert_eq!(outcome.code, 2, "{}", outcome.err);
    assert!(outcome.err.contains("use_peft"), "{}", outcome.err);
    assert!(!Path::new(&folder.arg("run")).join("metrics.jsonl").exists());
}

#[test]
fn published_drop_path_changes_the_steps_of_a_run_and_repeats_itself() {
    let folder = Folder::new();
    // A rate of 0.1 · 12 / 24 in the last block.
    write_var(&folder, &json!({"patch_nums": [1, 2, 3], "depth": 12, "embed_dim": 16, "num_heads": 2}), 16);
    let losses = |output: &str, setting: &str| -> Vec<f64> {
        let settings = [
            setting,
            "per_device_train_batch_size=8",
            "objective.uncond_ratio=0",
            "shuffle=false",
            "learning_rate=1e-2",
        ];
        let mut args = arguments(&folder, "train", &settings);
        args.extend(["--output".to_owned(), folder.arg(output)]);
        succeed(&args);
        let rows = folder.rows(&format!("{output}/metrics.jsonl"));
        rows.iter().map(|row| row["loss"].as_f64().expect("a loss")).collect()
    };
    let (none, published) = (losses("none", "model_dropout=none"), losses("published", "model_dropout=published"));
    assert_ne!(none, published);
    assert_eq!(published, losses("again", "model_dropout=published"));
}
