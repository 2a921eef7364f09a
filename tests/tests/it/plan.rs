//! `collimate plan` against the runs it forecasts.

use std::fs;
use std::path::Path;
use std::time::Instant;

use collimate_files::ShardSize;
use collimate_hf::{HostTensor, ModelConfig};
use collimate_quickstart::tokenizer::write_tokenizer;
use collimate_weights::{StorageDtype, write_model};
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{Folder, collimate, succeed, train};
use crate::small_model::model_arg;

/// Prompts with four responses each, of 90 to 150 tokens or so.
fn data(folder: &Folder, num_rows: usize) -> String {
    let response = |i: usize, k: usize| {
        let content = format!("{}+{k}={}. ", i + 3, i + 3 + k).repeat(14 + (i + 3 * k) % 8);
        json!({"content": content.trim(), "reward": k as f64 / 3.0})
    };
    let row = |i: usize| {
        let responses: Vec<_> = (0..4).map(|k| response(i, k)).collect();
        json!({"prompt": format!("What are {i} and {i}?"), "responses": responses}).to_string() + "\n"
    };
    folder.write("data.jsonl", (0..num_rows).map(row).collect::<String>())
}

/// The plan of a recipe without a file, as JSON.
fn plan(model: &str, data: &str, extra: &[&str], settings: &[&str]) -> Value {
    let mut args = vec!["plan", "--model", model, "--data", data, "--objective", "nca", "--json", "--quiet"];
    args.extend(extra);
    args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    serde_json::from_str(&succeed(&args).out).expect("JSON")
}

fn number(plan: &Value, part: &str, name: &str) -> u64 {
    plan[part][name].as_u64().unwrap_or_else(|| panic!("{part}.{name} in {plan}"))
}

/// A llama with the quickstart's tokenizer and these sizes: width, inner width, blocks.
fn write_shape(dir: &Path, (width, inner, blocks): (usize, usize, usize), dtype: StorageDtype) {
    fs::create_dir_all(dir).expect("a folder");
    write_tokenizer(dir, 0).expect("a tokenizer");
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 640, "hidden_size": width,
        "intermediate_size": inner, "num_hidden_layers": blocks, "num_attention_heads": width / 32,
        "num_key_value_heads": width / 64, "head_dim": 32, "max_position_embeddings": 1024, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": true, "bos_token_id": null, "eos_token_id": 2, "pad_token_id": 0,
        "dtype": "float32",
    });
    let config = ModelConfig::from_json(&dir.join("config.json"), config).expect("a configuration");
    let tensors = config.tensors().into_iter().map(|spec| {
        let value =
            |i: usize| if spec.shape.len() == 1 { 1.0 } else { ((i * 7919) % 1013) as f32 / 1013.0 * 0.06 - 0.03 };
        let data = (0..spec.num_elements()).map(value).collect();
        (spec.name.clone(), HostTensor::new(spec.shape.clone(), data))
    });
    let tensors: Vec<_> = tensors.collect();
    write_model(dir, &config, tensors, dtype, ShardSize::default()).expect("a model");
}

#[cfg(target_os = "linux")]
#[rstest]
#[case::all_weights((512, 1376, 6), &["per_device_train_batch_size=1"])]
#[case::adapter((384, 1024, 8), &["per_device_train_batch_size=4", "use_peft=true"])]
#[case::in_packs((448, 1152, 5), &["per_device_train_batch_size=4", "memory_budget=380MiB"])]
fn a_run_needs_the_memory_of_its_plan(#[case] shape: (usize, usize, usize), #[case] settings: &[&str]) {
    use crate::process::Process;

    let folder = Folder::new();
    let (model, data) = (folder.arg("model"), data(&folder, 8));
    write_shape(&folder.path("model"), shape, StorageDtype::F32);
    let settings = [settings, &["max_steps=2", "reference_cache=false"]].concat();
    let planned = number(&plan(&model, &data, &[], &settings), "memory", "peak");
    let arguments: Vec<String> = train(&model, &data, "run", &settings).into_iter().map(str::to_owned).collect();
    let measured = Process::start(&folder.path("here"), &arguments).peak_bytes();
    let (planned, measured) = (planned as f64 / f64::from(1 << 20), measured as f64 / f64::from(1 << 20));
    println!("{shape:?} {settings:?}: planned {planned:.1} MiB, measured {measured:.1} MiB");
    assert!((planned / measured - 1.0).abs() < 0.15, "planned {planned:.1} MiB, measured {measured:.1} MiB");
}

/// The peak includes what is read from files, so a tensor that went through float32 on its way would show.
#[cfg(target_os = "linux")]
#[rstest]
#[case::as_it_is_stored(StorageDtype::BF16)]
#[case::rounded_when_it_is_loaded(StorageDtype::F32)]
fn a_frozen_base_in_bfloat16_takes_half_of_float32_at_the_peak(#[case] stored: StorageDtype) {
    use crate::process::Process;

    let folder = Folder::new();
    let (model, data) = (folder.arg("model"), data(&folder, 1));
    let (width, inner, blocks) = (1024, 4096, 3);
    write_shape(&folder.path("model"), (width, inner, blocks), stored);
    let numbers = blocks * (3 * width * width + 3 * width * inner) + 640 * width;
    let peak = |dtype: &str| {
        let output = folder.arg(dtype);
        let args = ["score", "--model", &model, "--data", &data, "--output", &output, "--compute-dtype", dtype];
        Process::start(&folder.path("."), &args.map(str::to_owned)).peak_bytes() as f64
    };
    let (float32, bfloat16) = (peak("float32"), peak("bfloat16"));
    let saved = (float32 - bfloat16) / (2 * numbers) as f64;
    println!("{float32:.3e} and {bfloat16:.3e} bytes: {saved:.2} of two bytes a number");
    assert!(saved > 0.95, "{float32:.3e} and {bfloat16:.3e} bytes, of which {numbers} numbers");
}

#[rstest]
#[case::all_weights(&[])]
#[case::adapter(&["use_peft=true", "lora_r=4"])]
fn a_run_has_the_steps_the_tokens_and_the_files_of_its_plan(#[case] settings: &[&str]) {
    let folder = Folder::new();
    let (data, output) = (data(&folder, 10), folder.arg("run"));
    let settings = [
        settings,
        &[
            "per_device_train_batch_size=2",
            "gradient_accumulation_steps=2",
            "num_train_epochs=2",
            "max_length=80",
            "max_prompt_length=8",
            "save_steps=2",
            "save_total_limit=2",
            "memory_budget=100MiB",
            "share_prompt=false",
        ],
    ]
    .concat();
    let plan = plan(model_arg(), &data, &[], &settings);
    let outcome = succeed(&train(model_arg(), &data, &output, &settings));
    let rows = folder.rows("run/metrics.jsonl");
    assert_eq!(number(&plan, "steps", "total"), rows.len() as u64);
    assert_eq!(Some(number(&plan, "steps", "tokens")), rows[rows.len() - 1]["num_tokens"].as_u64());
    assert!(number(&plan, "steps", "most_packs") > 2, "two batches of several packs: {plan}");
    let cut = (number(&plan, "data", "cut_prompts"), number(&plan, "data", "cut_responses"));
    assert!(cut.0 > 0 && cut.1 > 0, "{plan}");
    assert!(outcome.err.contains(&format!("cut: {} prompts, {} responses", cut.0, cut.1)), "{}", outcome.err);

    let size = |name: &str| {
        let entries = fs::read_dir(folder.path(name)).expect("a folder").flatten();
        let of_ending = entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "safetensors"));
        of_ending.map(|entry| entry.metadata().expect("a size").len()).sum::<u64>() as f64
    };
    // The files' headers are not planned.
    let close = |planned: u64, found: f64| (0.0..16_384.0).contains(&(found - planned as f64));
    assert!(close(number(&plan, "disk", "checkpoint"), size("run/checkpoint-6")), "{plan}");
    assert!(close(number(&plan, "disk", "model"), size("run")), "{plan}");
    let checkpoints = fs::read_dir(folder.path("run")).expect("a folder").flatten();
    let count = checkpoints.filter(|entry| entry.file_name().display().to_string().starts_with("checkpoint-")).count();
    assert_eq!(number(&plan, "disk", "num_checkpoints"), count as u64);
}

#[test]
fn two_billion_steps_are_planned_at_once() {
    let folder = Folder::new();
    let data = data(&folder, 4);
    let of_steps = |steps: u64| {
        let settings = ["per_device_train_batch_size=2", "memory_budget=1GiB", &format!("max_steps={steps}")];
        plan(model_arg(), &data, &[], &settings)
    };
    let epoch = number(&of_steps(2), "steps", "tokens");
    let (steps, begun) = (2_147_483_647, Instant::now());
    let plan = of_steps(steps);
    // A few thousand epochs are divided into packs, in a program without optimization.
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
    assert_eq!(number(&plan, "steps", "total"), steps);
    assert_eq!(number(&plan, "steps", "tokens") / epoch, steps / 2, "two steps an epoch: {plan}");
    assert_eq!(plan["steps"]["packs_per_step"], 1.0);
    let metrics = number(&plan, "disk", "metrics");
    assert!(metrics > 100 * steps, "a row a step: {plan}");
}

#[test]
fn a_model_of_seventy_billion_parameters_is_planned_on_paper() {
    let folder = Folder::new();
    let config = json!({
        "model_type": "llama", "vocab_size": 32000, "hidden_size": 8192, "intermediate_size": 28672,
        "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "max_position_embeddings": 4096,
        "tie_word_embeddings": false, "torch_dtype": "bfloat16",
    });
    folder.write("paper/config.json", config.to_string());
    let (model, data) = (folder.arg("paper"), data(&folder, 4));
    let plan = plan(&model, &data, &[], &["use_peft=true", "memory_budget=64GiB", "weights=resident"]);
    let parameters = 2 * 32000 * 8192 + 8192 + 80 * (2 * 8192 * 8192 + 2 * 8192 * 1024 + 3 * 8192 * 28672 + 2 * 8192);
    let adapter = 80 * 16 * (2 * (8192 + 8192) + 2 * (8192 + 1024) + 3 * (8192 + 28672));
    assert_eq!(number(&plan, "model", "num_parameters"), parameters + adapter);
    let products = 32000 * 8192 + 80 * (2 * 8192 * 8192 + 2 * 8192 * 1024 + 3 * 8192 * 28672);
    assert_eq!(number(&plan, "model", "operations_per_token"), 2 * products);
    assert_eq!(number(&plan, "memory", "moments"), 8 * adapter);
    assert_eq!(plan["memory"]["fits"], false);
    assert!(number(&plan, "memory", "smallest_budget") > 4 * parameters);
    assert_eq!(plan["data"]["basis"], "characters");

    // By itself the run leaves in the files what does not fit into memory.
    let plan = self::plan(&model, &data, &[], &["use_peft=true", "memory_budget=64GiB"]);
    assert_eq!(plan["memory"]["fits"], true);
    assert_eq!(number(&plan, "memory", "in_files"), 2 * products - 2 * 32000 * 8192 + products * 2 - 2 * 32000 * 8192);

    // Full fine-tuning, no data: the longest step that the recipe allows.
    let args = ["plan", "--model", &model, "--set", "memory_budget=2TiB", "--num-responses", "8"];
    let text = succeed(&args).out;
    for part in ["it fits", "4 prompts, 32 responses", "as many as the data gives", "model         257.0 GiB"] {
        let part = part.replace("model         257.0 GiB", "  model       257.0 GiB");
        assert!(text.contains(&part), "{part:?} is not in {text}");
    }
}

#[test]
fn measuring_tells_the_time_and_writes_nothing() {
    let folder = Folder::new();
    let data = data(&folder, 9);
    let output = format!("output_dir={}", folder.arg("run"));
    let settings = ["per_device_train_batch_size=2", "max_steps=40", &output];
    let plan = plan(model_arg(), &data, &["--measure"], &settings);
    let seconds = |name: &str| plan["time"][name].as_f64().expect("seconds");
    assert_eq!(plan["time"]["measured_steps"], 3);
    assert!(seconds("step_seconds") > 0.0 && seconds("reference_seconds") > 0.0);
    let expected = seconds("reference_seconds") + 40.0 * seconds("step_seconds");
    assert!((seconds("total_seconds") / expected - 1.0).abs() < 1e-9);
    assert_eq!(fs::read_dir(folder.path("")).expect("the folder").count(), 1, "only the data");
}

#[test]
fn several_processes_divide_steps_and_moments_and_say_what_they_exchange() {
    let folder = Folder::new();
    let data = data(&folder, 24);
    let settings = ["use_peft=true", "per_device_train_batch_size=2", "memory_budget=1GiB"];
    let one = plan(model_arg(), &data, &[], &settings);
    let four = plan(model_arg(), &data, &["--ranks", "4"], &settings);
    assert!(one.get("ranks").is_none(), "{one}");
    let of = |part: &str, name: &str| (number(&one, part, name), number(&four, part, name));
    assert_eq!(of("steps", "total"), (12, 3));
    let (moments, quarter) = of("memory", "moments");
    assert_eq!(moments, 4 * quarter);
    let (peak, smaller) = of("memory", "peak");
    assert_eq!(peak - smaller, 3 * quarter);
    // Four bytes a number out and four back, but for the quarter that stays.
    let trained = number(&one, "model", "num_trained");
    assert_eq!(number(&four, "ranks", "traffic"), 2 * 4 * trained * 3 / 4);
    let measured = plan(model_arg(), &data, &["--ranks", "4", "--measure"], &settings);
    assert!(measured["ranks"]["bandwidth"].as_f64().is_some_and(|rate| rate > 0.0), "{measured}");
}

#[test]
fn a_plan_of_what_a_run_would_refuse_is_refused() {
    let folder = Folder::new();
    let data = folder.write("data.jsonl", "{\"prompt\": \"a\"}\n");
    let outcome = collimate(&["plan", "--model", model_arg(), "--data", &data]);
    assert_eq!(outcome.code, 2, "{}", outcome.err);
    let outcome = collimate(&["plan", "--model", model_arg(), "--measure", "--set", "memory_budget=1MiB"]);
    assert_eq!(outcome.code, 2, "{}", outcome.err);
    assert!(outcome.err.contains("nothing to measure"), "{}", outcome.err);
}

#[rstest]
#[case::fits("1GiB", true)]
#[case::does_not_fit("8MiB", false)]
fn a_plan_gives_one_figure_of_memory(#[case] budget: &str, #[case] fits: bool) {
    let folder = Folder::new();
    let data = data(&folder, 4);
    let budget = format!("memory_budget={budget}");
    let json = plan(model_arg(), &data, &[], &[&budget]);
    let text = succeed(&["plan", "--model", model_arg(), "--data", &data, "--quiet", "--set", &budget]).out;
    let figure = |name: &str| format!("{:.1} MiB", number(&json, "memory", name) as f64 / f64::from(1 << 20));
    let (peak, smallest) = (figure("peak"), figure("smallest_budget"));
    let (shown, hidden) = if fits { (peak, smallest) } else { (smallest, peak) };
    assert!(text.contains(&format!("memory        {shown} at ")) && !text.contains(&hidden), "{text}");
    assert_eq!(text.contains("it fits"), fits, "{text}");
    assert_eq!(text.contains("does NOT fit"), !fits, "{text}");
    let free = number(&json, "disk", "free");
    assert!(free > 0 && text.contains(" are free"), "{text}");
}
