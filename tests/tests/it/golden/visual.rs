//! Images in prompts: everything of `../shared/parity/visual` about Qwen2-VL and Qwen2.5-VL, where that is beside the checkout.

use std::path::{Path, PathBuf};

use collimate_oracle::tolerances::{
    FAMILY_LOGPS, FAMILY_TOKEN_LOGPS, GRAD_NORM, JPEG_LOGPS, LOSS, VISUAL_FINAL_LOGPS, assert_absolute, assert_relative,
};
use collimate_report::read_metrics;
use collimate_train::progress::Silent;
use collimate_train::{RunControl, train};
use rstest::rstest;
use serde_json::Value;

use super::parity::{array, number, read_json, score};
use super::training::{recipe_in, vary};
use crate::harness::Folder;

/// The folder of values about pictures; says so where it is not.
pub(super) fn visual() -> Option<PathBuf> {
    // Values of another seed, which have other shapes.
    let other = std::env::var_os("COLLIMATE_PARITY_VISUAL").map(PathBuf::from);
    let folder = other.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/parity/visual"));
    let found = folder.exists();
    if !found {
        println!("left out: {} is not there", folder.display());
    }
    found.then_some(folder)
}

fn arg(root: &Path, name: &str) -> String {
    root.join(name).display().to_string()
}

/// Whether a prompt has an image whose pixels depend on the decoder.
fn has_jpeg(group: &Value) -> bool {
    let images = group["images"].as_array().into_iter().flatten();
    images.into_iter().any(|image| image["image"].as_str().is_some_and(|name| name.ends_with(".jpg")))
}

#[rstest]
fn scores_are_those_of_transformers(
    #[values("qwen2_vl", "qwen2_5_vl")] model: &str,
    #[values("", "--separate", "--batch-size=1")] layout: &str,
) {
    let Some(root) = visual() else { return };
    let groups = read_json(&root.join(format!("logps/{model}.json")));
    let folder = Folder::new();
    let base = arg(&root, &format!("models/{model}"));
    let layout: &[&str] = if layout.is_empty() { &[] } else { &[layout] };
    let found = score(&folder, &arg(&root, "data/qwen_vl/data.jsonl"), &[&["--model", &base], layout].concat());
    assert_eq!(found.len(), array(&groups).len());
    for (i, (found, group)) in found.iter().zip(array(&groups)).enumerate() {
        assert_eq!(found["prompt_ids"], group["prompt_ids"], "{model}, group {i}");
        for (k, (found, expected)) in array(&found["responses"]).iter().zip(array(&group["responses"])).enumerate() {
            let what = format!("{model}, group {i}, response {k}");
            assert_eq!(found["response_ids"], expected["response_ids"], "{what}");
            let (sum, golden) = (number(&found["logps"]), number(&expected["logps_float64"]));
            println!("{what}: {:e}", sum / golden - 1.0);
            assert_relative(sum, golden, if has_jpeg(group) { JPEG_LOGPS } else { FAMILY_LOGPS }, &what);
            let tokens = array(&found["token_logps"]).iter().zip(array(&expected["token_logps"]));
            for (t, (found, token)) in tokens.enumerate().filter(|_| !has_jpeg(group)) {
                let what = format!("{what}, token {t}");
                assert_absolute(number(found), number(token), FAMILY_TOKEN_LOGPS, &what);
            }
        }
    }
}

/// Of both generations of names, and one that also has matrices on the tower's feed-forward layers.
#[rstest]
#[case("qwen2_vl", "qwen2_vl", "logps_with_adapter")]
#[case("qwen2_5_vl", "qwen2_5_vl", "logps_with_adapter")]
#[case("qwen2_5_vl", "qwen2_5_vl_list", "logps_with_adapter_list")]
fn adapters_of_both_generations_of_names_are_applied(#[case] model: &str, #[case] adapter: &str, #[case] field: &str) {
    let Some(root) = visual() else { return };
    let groups = read_json(&root.join(format!("logps/{model}.json")));
    let (base, adapter) = (arg(&root, &format!("models/{model}")), arg(&root, &format!("adapters/{adapter}")));
    let folder = Folder::new();
    let data = arg(&root, "data/qwen_vl/data.jsonl");
    let found = score(&folder, &data, &["--model", &base, "--adapter", &adapter]);
    for (i, (found, group)) in found.iter().zip(array(&groups)).enumerate() {
        for (k, (found, expected)) in array(&found["responses"]).iter().zip(array(&group["responses"])).enumerate() {
            let what = format!("{adapter}, group {i}, response {k}");
            let (plain, expected) = (number(&expected["logps"]), number(&expected[field]));
            let tolerance = if has_jpeg(group) { JPEG_LOGPS } else { FAMILY_LOGPS };
            assert_relative(number(&found["logps"]), expected, tolerance, &what);
            assert!(
                (plain / expected - 1.0).abs() > 10.0 * FAMILY_LOGPS,
                "an adapter that changes nothing shows nothing"
            );
        }
    }
}

/// The same model in the layout that its folder does not have: the hub's is flat and its names have no prefixes.
fn in_other_layout(root: &Path, model: &str, folder: &Folder) -> String {
    let from = root.join("models").join(model);
    let other = folder.path("other");
    std::fs::create_dir(&other).expect("a folder");
    let mut config = read_json(&from.join("config.json"));
    let is_flat = config.get("text_config").is_none();
    let json = |name: &str, value: &Value| std::fs::write(other.join(name), value.to_string()).expect("a file");
    let fields = config.as_object_mut().expect("an object");
    if is_flat {
        let outer = ["architectures", "model_type", "image_token_id", "vision_config", "tie_word_embeddings"];
        let mut text: serde_json::Map<String, Value> = fields
            .iter()
            .filter(|(name, _)| !outer.contains(&name.as_str()))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        let theta = text.remove("rope_theta").expect("a base");
        let sections = text.remove("rope_scaling").expect("sections")["mrope_section"].clone();
        let rope = serde_json::json!({"rope_type": "default", "rope_theta": theta, "mrope_section": sections});
        text.insert("rope_parameters".to_owned(), rope);
        text.insert("model_type".to_owned(), format!("{model}_text").into());
        fields.retain(|name, _| outer.contains(&name.as_str()));
        fields.insert("text_config".to_owned(), Value::Object(text));
        let old = read_json(&from.join("preprocessor_config.json"));
        let size = serde_json::json!({"shortest_edge": old["min_pixels"], "longest_edge": old["max_pixels"]});
        json("processor_config.json", &serde_json::json!({"image_processor": {"size": size}}));
    } else {
        let mut text = fields.remove("text_config").expect("a text model").as_object().expect("an object").clone();
        let rope = text.remove("rope_parameters").expect("a rotation");
        text.insert("rope_theta".to_owned(), rope["rope_theta"].clone());
        let scaling = serde_json::json!({"type": "mrope", "mrope_section": rope["mrope_section"]});
        text.insert("rope_scaling".to_owned(), scaling);
        text.remove("model_type");
        fields.extend(text);
        let size = read_json(&from.join("processor_config.json"))["image_processor"]["size"].clone();
        let old = serde_json::json!({"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]});
        json("preprocessor_config.json", &old);
    }
    json("config.json", &config);
    write_renamed(&from, &other, is_flat);
    for name in [
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.json",
        "chat_template.jinja",
        "generation_config.json",
    ] {
        if from.join(name).exists() {
            std::fs::copy(from.join(name), other.join(name)).expect("a file");
        }
    }
    other.display().to_string()
}

/// The weights of a folder under the names of the other layout.
fn write_renamed(from: &Path, other: &Path, is_flat: bool) {
    let renamed = |name: &str| match (is_flat, name.strip_prefix("visual."), name.strip_prefix("model.")) {
        (true, Some(rest), _) => format!("model.visual.{rest}"),
        (true, None, Some(rest)) => format!("model.language_model.{rest}"),
        (false, _, Some(rest)) => match rest.strip_prefix("language_model.") {
            Some(rest) => format!("model.{rest}"),
            None => rest.to_owned(),
        },
        _ => name.to_owned(),
    };
    let bytes = std::fs::read(from.join("model.safetensors")).expect("weights");
    let (length, rest) = bytes.split_first_chunk().expect("a header");
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let header: Value = serde_json::from_slice(header).expect("a header");
    let header: serde_json::Map<String, Value> =
        header.as_object().expect("names").iter().map(|(name, info)| (renamed(name), info.clone())).collect();
    let header = Value::Object(header).to_string();
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat();
    std::fs::write(other.join("model.safetensors"), file).expect("weights");
}

#[rstest]
fn both_layouts_of_a_folder_are_the_same_model(#[values("qwen2_vl", "qwen2_5_vl")] model: &str) {
    let Some(root) = visual() else { return };
    let folder = Folder::new();
    let data = arg(&root, "data/qwen_vl/data.jsonl");
    let expected = score(&folder, &data, &["--model", &arg(&root, &format!("models/{model}"))]);
    let other = in_other_layout(&root, model, &folder);
    assert_eq!(score(&folder, &data, &["--model", &other]), expected);
}

#[rstest]
fn every_step_is_that_of_pytorch(
    #[values(
        "nca_qwen2_vl_lora",
        "nca_qwen2_vl_full",
        "dpo_qwen2_vl_text",
        "infonca_qwen2_5_vl_lora",
        "nca_qwen2_5_vl_full"
    )]
    case: &str,
    #[values("", "gradient_checkpointing", "separate_prompts", "several_packs")] variant: &str,
) {
    let Some(root) = visual() else { return };
    let out = tempfile::tempdir().expect("a folder");
    let mut recipe = recipe_in(&root, case, out.path());
    let dir = root.join("train").join(case);
    let values = read_json(&dir.join("case.json"));
    let folder = Folder::new();
    recipe.data = Some(PathBuf::from(visited(&dir, &values, &folder)).into());
    recipe.freeze.visual = array(&values["frozen"]).contains(&"visual".into());
    if !vary(&mut recipe, variant) {
        return;
    }
    train(&recipe, &mut Silent, &RunControl::default()).expect("a finished run");
    let rows = read_metrics(&out.path().join("metrics.jsonl")).expect("metrics");
    let text = std::fs::read_to_string(dir.join("expected.jsonl")).expect("the steps of a run");
    let expected: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect();
    assert_eq!(rows.len(), expected.len(), "{case}");
    for (row, expected) in rows.iter().zip(&expected) {
        for (figure, tolerance) in [("loss", LOSS), ("grad_norm", GRAD_NORM)] {
            let (found, golden) = (row.get(figure).unwrap_or(f64::NAN), number(&expected[figure]));
            let what = format!("{case}, {variant}, step {}, {figure}", expected["step"]);
            println!("{what}: {:e}", found / golden - 1.0);
            assert_relative(found, golden, tolerance, &what);
        }
    }
    check_final(&root, case, &values, out.path());
}

/// The groups in the order in which the run visits them: on from the first after the last, in the middle of a step.
fn visited(dir: &Path, values: &Value, folder: &Folder) -> String {
    std::fs::create_dir(folder.path("images")).expect("a folder");
    for image in dir.join("images").read_dir().expect("images") {
        let image = image.expect("an image");
        std::fs::copy(image.path(), folder.path("images").join(image.file_name())).expect("an image");
    }
    let text = std::fs::read_to_string(dir.join("data.jsonl")).expect("groups");
    let count = (number(&values["steps"]) * number(&values["batch_groups"])) as usize;
    let lines: Vec<&str> = text.lines().cycle().take(count).collect();
    folder.write("data.jsonl", lines.join("\n") + "\n")
}

/// What a run saved, loaded again.
fn check_final(root: &Path, case: &str, values: &Value, run: &Path) {
    let expected = read_json(&root.join("train").join(case).join("final.json"));
    let base = arg(root, values["model"].as_str().expect("a path"));
    let run = run.display().to_string();
    let folder = Folder::new();
    let model: &[&str] =
        if values["lora"].is_object() { &["--model", &base, "--adapter", &run] } else { &["--model", &run] };
    let found = score(&folder, &arg(root, &format!("train/{case}/data.jsonl")), model);
    for (i, (found, expected)) in found.iter().zip(array(&expected["final_policy_logps"])).enumerate() {
        for (k, (found, expected)) in array(&found["responses"]).iter().zip(array(expected)).enumerate() {
            let what = format!("{case}, group {i}, response {k} at the end");
            assert_relative(number(&found["logps"]), number(expected), VISUAL_FINAL_LOGPS, &what);
        }
    }
}
