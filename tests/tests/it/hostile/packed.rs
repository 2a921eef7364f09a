//! Packed weights whose tensors are missing, of other sizes or not finite.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};

use collimate_oracle::{StoredTensor, golden_dir, safetensors_file};
use rstest::rstest;

use crate::harness::{Folder, Outcome, collimate, train};
use crate::packed::{golden_data, packed_tensors, write_packed};

/// The weight that is spoiled.
const WEIGHT: &str = "model.layers.1.mlp.up_proj.weight";
const MODULE: &str = "model.layers.1.mlp.up_proj";

/// A packed model after something was done to its tensors.
fn write_spoiled(folder: &Folder, format: &str, spoil: impl FnOnce(&mut Vec<StoredTensor>)) -> String {
    let model = golden_dir().join("models/llama.quantized");
    let mut tensors = packed_tensors(&model, format);
    spoil(&mut tensors);
    write_packed(&model, &folder.path("model"), format, &tensors);
    folder.arg("model")
}

/// Runs the verbs that read weights; each must name the model and what is wrong, and write nothing.
fn refused(folder: &Folder, model: &str, message: &str) {
    let data = golden_data();
    let adapter = folder.arg("adapter");
    write_adapter(folder);
    let output = folder.arg("out");
    let settings = ["use_peft=true", "max_steps=1", "sample_prompts=0"];
    let trained = train(model, &data, &output, &settings);
    let verbs: [&[&str]; 5] = [
        &trained,
        &["score", "--model", model, "--data", &data, "--output", &output],
        &["generate", "--model", model, "--prompt", "4", "--weights", "mapped"],
        &["merge", "--model", model, "--adapter", &adapter, "--output", &output],
        &["export", "--model", model, "--output", &output],
    ];
    for args in verbs {
        let Outcome { code, err, .. } = collimate(args);
        let said = err.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(code == 1 || code == 2, "{args:?}: {code} {said}");
        assert!(said.contains(message), "{args:?}: {message:?} is not in {said}");
        assert!(said.contains(model) && !said.contains("this is a bug"), "{args:?}: {said}");
        assert!(said.len() < 2000, "{args:?}: {} bytes", said.len());
        // Codes are read with the weights, when a run has its folder and has not begun.
        let left = fs::read_dir(folder.path("out")).into_iter().flatten().flatten();
        let left: Vec<_> = left.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        let is_expected = |name: &String| name.starts_with('.') || name == "recipe.yaml";
        assert!(left.iter().all(is_expected), "{args:?} wrote {left:?}");
        let _ = fs::remove_dir_all(folder.path("out"));
    }
}

/// An adapter on the spoiled weight.
fn write_adapter(folder: &Folder) {
    use collimate_hf::HostTensor;
    use collimate_peft::{Adapter, LoraConfig, LoraTargets};

    let factors = (HostTensor::new([1, 64], vec![0.01; 64]), HostTensor::new([128, 1], vec![1.0; 128]));
    let targets = LoraTargets::Names(vec!["layers.1.mlp.up_proj".to_owned()]);
    let adapter = Adapter::of_factors(LoraConfig::new(1, 2.0, targets), [(MODULE.to_owned(), factors)]);
    adapter.write(&folder.path("adapter")).expect("an adapter");
}

fn find<'a>(tensors: &'a mut [StoredTensor], name: &str) -> &'a mut StoredTensor {
    tensors.iter_mut().find(|tensor| tensor.name == name).unwrap_or_else(|| panic!("no tensor {name}"))
}

#[rstest]
fn a_tensor_that_is_missing_is_named(
    #[values(
        ("nf4", "weight.absmax"),
        ("nf4", "weight.quant_map"),
        ("nf4", "weight.quant_state.bitsandbytes__nf4"),
        ("nf4-double", "weight.nested_absmax"),
        ("nf4-double", "weight.nested_quant_map"),
        ("int8", "SCB"),
        ("fp8", "weight_scale_inv"),
        ("gptq", "qzeros"),
        ("gptq", "scales"),
        ("awq", "scales")
    )]
    case: (&str, &str),
) {
    let (folder, (format, suffix)) = (Folder::new(), case);
    let name = format!("{MODULE}.{suffix}");
    let model = write_spoiled(&folder, format, |tensors| {
        let before = tensors.len();
        tensors.retain(|tensor| tensor.name != name);
        assert_eq!(tensors.len() + 1, before);
    });
    refused(&folder, &model, &format!("tensor \"{name}\" is missing: \"{WEIGHT}\" is packed as"));
}

/// Of bytes, whose number no type rounds.
#[rstest]
#[case::codes("nf4", "weight", "expected 4096 bytes, found 4095")]
#[case::double_scales("nf4-double", "weight.absmax", "expected 128 bytes, found 127")]
#[case::other_type("nf4", "weight.absmax", "expected 128 bytes, found 511")]
#[case::table_of_other_type("nf4", "weight.quant_map", "expected F32, found U8")]
#[case::rows_of_other_type("int8", "SCB", "expected F32, found U8")]
fn a_tensor_of_another_size_or_type_is_named(#[case] format: &str, #[case] suffix: &str, #[case] message: &str) {
    let folder = Folder::new();
    let name = format!("{MODULE}.{suffix}");
    let model = write_spoiled(&folder, format, |tensors| {
        let tensor = find(tensors, &name);
        tensor.bytes.pop();
        (tensor.dtype, tensor.shape) = ("U8".to_owned(), vec![tensor.bytes.len()]);
    });
    refused(&folder, &model, &format!("tensor \"{name}\": {message}"));
}

#[rstest]
#[case::short_nested("nf4-double", "weight.nested_absmax", 0, "expected 4 bytes, found 0")]
#[case::long_nested("nf4-double", "weight.nested_absmax", 3, "expected 4 bytes, found 12")]
#[case::short_table("nf4", "weight.quant_map", 15, "expected 64 bytes, found 60")]
#[case::short_rows("int8", "SCB", 127, "expected 512 bytes, found 508")]
#[case::no_rows("int8", "SCB", 0, "expected 512 bytes, found 0")]
#[case::short_scales("nf4", "weight.absmax", 127, "expected 512 bytes, found 508")]
fn too_few_numbers_are_named(#[case] format: &str, #[case] suffix: &str, #[case] count: usize, #[case] message: &str) {
    let folder = Folder::new();
    let name = format!("{MODULE}.{suffix}");
    let model = write_spoiled(&folder, format, |tensors| {
        let tensor = find(tensors, &name);
        tensor.bytes.resize(4 * count, 0);
        tensor.shape = vec![count];
    });
    refused(&folder, &model, &format!("tensor \"{name}\": {message}"));
}

#[rstest]
fn a_number_that_is_not_finite_is_named(
    #[values(
        ("nf4", "weight.absmax"),
        ("nf4", "weight.quant_map"),
        ("nf4-double", "weight.nested_absmax"),
        ("nf4-double", "weight.nested_quant_map"),
        ("int8", "SCB"),
        ("fp8", "weight_scale_inv")
    )]
    case: (&str, &str),
    #[values(f32::NAN, f32::INFINITY, f32::MAX)] value: f32,
) {
    let (folder, (format, suffix)) = (Folder::new(), case);
    if suffix.ends_with("quant_map") && value.is_finite() {
        // With small scales, weights may still be finite.
        return;
    }
    let name = format!("{MODULE}.{suffix}");
    let model = write_spoiled(&folder, format, |tensors| {
        find(tensors, &name).bytes[..4].copy_from_slice(&value.to_le_bytes());
    });
    refused(&folder, &model, &format!("tensor \"{name}\"[0] is {value}: "));
}

/// Codes that say "not a number" are found when they are read.
#[test]
fn a_code_that_is_no_number_is_named() {
    let folder = Folder::new();
    let model = write_spoiled(&folder, "fp8", |tensors| find(tensors, WEIGHT).bytes[65] = 0x7f);
    refused(&folder, &model, &format!("tensor \"{WEIGHT}\": value 65 is NaN"));
}

#[rstest]
#[case::no_json("{", "not a quant_state")]
#[case::python(
    "{\"quant_type\": \"nf4\", \"blocksize\": NaN, \"dtype\": \"float32\", \"shape\": [128, 64]}",
    "not a quant_state"
)]
#[case::no_shape("{\"quant_type\": \"nf4\", \"blocksize\": 64, \"dtype\": \"float32\"}", "missing field `shape`")]
#[case::kind(
    "{\"quant_type\": \"fp4\", \"blocksize\": 64, \"dtype\": \"float32\", \"shape\": [128, 64]}",
    "quant_type \"fp4\""
)]
#[case::block(
    "{\"quant_type\": \"nf4\", \"blocksize\": 0, \"dtype\": \"float32\", \"shape\": [128, 64]}",
    "blocksize 0"
)]
#[case::other_shape(
    "{\"quant_type\": \"nf4\", \"blocksize\": 64, \"dtype\": \"float32\", \"shape\": [64, 128]}",
    "expected shape [128, 64], found [64, 128]"
)]
#[case::overflow(
    "{\"quant_type\": \"nf4\", \"blocksize\": 64, \"dtype\": \"float32\", \"shape\": [18446744073709551615, 18446744073709551615]}",
    "shape [18446744073709551615, 18446744073709551615] has no numbers, or too many"
)]
#[case::large(
    "{\"quant_type\": \"nf4\", \"blocksize\": 64, \"dtype\": \"float32\", \"shape\": [4611686018427387904, 2]}",
    "bytes, found 4096"
)]
fn a_state_that_is_not_its_weights_is_named(#[case] state: &str, #[case] message: &str) {
    let folder = Folder::new();
    let name = format!("{WEIGHT}.quant_state.bitsandbytes__nf4");
    let model = write_spoiled(&folder, "nf4", |tensors| {
        let tensor = find(tensors, &name);
        (tensor.shape, tensor.bytes) = (vec![state.len()], state.as_bytes().to_vec());
    });
    refused(&folder, &model, message);
}

#[rstest]
#[case("1e999")]
#[case("1e38")]
#[case("null")]
fn an_offset_that_makes_weights_infinite_is_named(#[case] offset: &str) {
    let folder = Folder::new();
    let state = format!(
        "{{\"quant_type\": \"nf4\", \"blocksize\": 64, \"dtype\": \"float16\", \"shape\": [128, 64], \
         \"nested_blocksize\": 256, \"nested_dtype\": \"float32\", \"nested_offset\": {offset}}}"
    );
    let name = format!("{WEIGHT}.quant_state.bitsandbytes__nf4");
    let model = write_spoiled(&folder, "nf4-double", |tensors| {
        let tensor = find(tensors, &name);
        (tensor.shape, tensor.bytes) = (vec![state.len()], state.into_bytes());
    });
    refused(&folder, &model, &format!("tensor \"{name}\": "));
}

/// A group that is not there, and a code without a table.
#[test]
fn an_index_of_no_group_is_named() {
    let folder = Folder::new();
    let name = format!("{MODULE}.g_idx");
    let model =
        write_spoiled(&folder, "gptq", |tensors| find(tensors, &name).bytes[4..8].copy_from_slice(&2u32.to_le_bytes()));
    refused(&folder, &model, &format!("tensor \"{name}\"[1] is 2: there is no such group"));
}

/// Of a quant_state of a gigabyte nothing is read.
#[cfg(target_os = "linux")]
#[test]
fn a_state_of_a_gigabyte_is_refused_without_reading_it() {
    use crate::process::Process;

    const SIZE: u64 = 1 << 30;
    let folder = Folder::new();
    let model = write_spoiled(&folder, "nf4", |_| {});
    let tensors = packed_tensors(&golden_dir().join("models/llama.quantized"), "nf4");
    let name = format!("{WEIGHT}.quant_state.bitsandbytes__nf4");
    // Its place is at the end, where a file may have a hole.
    let (last, mut others): (Vec<_>, Vec<_>) = tensors.into_iter().partition(|tensor| tensor.name == name);
    assert_eq!(last.len(), 1);
    let data: usize = others.iter().map(|tensor| tensor.bytes.len()).sum();
    let hole = StoredTensor { name: name.clone(), dtype: "U8".to_owned(), shape: vec![1 << 30], bytes: Vec::new() };
    others.push(hole);
    let written = safetensors_file(&others);
    let header = String::from_utf8(written[8..written.len() - data].to_vec()).expect("a header");
    let end = format!("[{data},{data}]}}}}");
    assert!(header.ends_with(&end), "{header}");
    let header = header.replace(&end, &format!("[{data},{}]}}}}", data as u64 + SIZE));
    let path = folder.path("model/model.safetensors");
    fs::write(&path, (header.len() as u64).to_le_bytes()).expect("a file");
    let mut file = OpenOptions::new().write(true).open(&path).expect("a file");
    file.seek(SeekFrom::End(0)).expect("an end");
    file.write_all(header.as_bytes()).expect("a header");
    file.write_all(&written[written.len() - data..]).expect("data");
    file.set_len(8 + header.len() as u64 + data as u64 + SIZE).expect("a hole");
    let message = format!("tensor \"{name}\": {SIZE} bytes of JSON: expected at most 65536");
    refused(&folder, &model, &message);
    let data = golden_data();
    let args = ["score", "--model", &model, "--data", &data, "--output", "out.jsonl"].map(str::to_owned);
    let mut process = Process::start(&folder.path("here"), &args);
    let peak = process.peak_until_its_end();
    assert!(peak < 256 << 20, "{} MiB", peak >> 20);
}
