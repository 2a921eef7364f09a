use std::fs;
#[cfg(target_os = "linux")]
use std::path::Path;

use collimate_hf::{HfError, HostTensor, TensorSpec};
use collimate_weights::{StorageDtype, WeightCheck, WeightFiles, write_safetensors};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

/// Two tensors, a [2, 3] and b [2], and the tensors that their model expects.
fn small() -> (Vec<(String, HostTensor)>, Vec<TensorSpec>) {
    let a = HostTensor::new([2, 3], vec![1.0, -2.0, 0.5, 4.0, 0.0, -0.25]);
    let b = HostTensor::new([2], vec![8.0, -16.0]);
    let specs = vec![TensorSpec::new("a", &[2, 3]), TensorSpec::new("b", &[2])];
    (vec![("a".to_owned(), a), ("b".to_owned(), b)], specs)
}

/// A safetensors file with this header and this many zero bytes.
fn raw(header: &str, num_bytes: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + num_bytes, 0);
    bytes
}

fn open_bytes(bytes: &[u8]) -> Result<WeightFiles, HfError> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
    WeightFiles::open(dir.path())
}

#[rstest]
#[case(StorageDtype::F32)]
#[case(StorageDtype::BF16)]
#[case(StorageDtype::F16)]
fn what_is_written_is_read_again(#[case] dtype: StorageDtype) {
    let dir = tempfile::tempdir().unwrap();
    let (tensors, specs) = small();
    write_safetensors(&dir.path().join("model.safetensors"), tensors.clone(), dtype).unwrap();
    let weights = WeightFiles::open(dir.path()).unwrap();
    assert_eq!(weights.check(&specs).unwrap(), WeightCheck { num_tensors: 2, ..WeightCheck::default() });
    assert_eq!(weights.names().collect::<Vec<_>>(), ["a", "b"]);
    for (name, tensor) in &tensors {
        assert_eq!(&weights.read(name).unwrap(), tensor, "all values are exact in every type");
        assert_eq!(weights.dtype(name).and_then(StorageDtype::from_stored), Some(dtype));
    }
    assert_eq!(weights.dtype("c"), None);
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["model.safetensors"], "no temporary file is left");
}

/// Kilobytes of a mapped file that are in memory, according to the kernel.
#[cfg(target_os = "linux")]
fn resident_kilobytes(path: &Path) -> usize {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let (_, mapping) = maps.split_once(path.to_str().unwrap()).expect("the file is mapped");
    let line = mapping.lines().find(|line| line.starts_with("Rss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn what_was_read_leaves_memory_and_can_be_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    // Not aligned to pages; slightly more than 4 MiB.
    let large = HostTensor::new([1 << 20, 1], (0..1 << 20).map(|i| i as f32).collect());
    let tensors = vec![("a".to_owned(), HostTensor::new([3], vec![1.0, 2.0, 3.0])), ("b".to_owned(), large)];
    write_safetensors(&path, tensors.clone(), StorageDtype::F32).unwrap();
    let weights = WeightFiles::open(dir.path()).unwrap();
    for (name, tensor) in tensors.iter().chain(&tensors) {
        assert_eq!(&weights.read(name).unwrap(), tensor);
        let resident = resident_kilobytes(&path);
        assert!(resident < 1024, "{resident} kB of 4 MiB are still in memory after reading {name}");
    }
}

#[test]
fn written_files_are_as_the_format_wants_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    write_safetensors(&path, small().0, StorageDtype::BF16).unwrap();
    let bytes = fs::read(path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("a").unwrap().shape(), [2, 3]);
    let (header_bytes, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header_bytes % 8, 0);
    assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
}

proptest! {
    // Each case writes and syncs a file.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_float_survives_float32(values in prop::collection::vec(any::<f32>(), 1..50)) {
        let dir = tempfile::tempdir().unwrap();
        let tensor = HostTensor::new([values.len()], values.clone());
        write_safetensors(&dir.path().join("model.safetensors"), [("x".to_owned(), tensor)], StorageDtype::F32).unwrap();
        let read = WeightFiles::open(dir.path()).unwrap().read("x").unwrap().data;
        prop_assert!(read.iter().map(|x| x.to_bits()).eq(values.iter().map(|x| x.to_bits())));
    }

    #[test]
    fn broken_bytes_are_an_error_never_a_panic(position in 0_usize..200, byte: u8, cut in 0_usize..200) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        write_safetensors(&path, small().0, StorageDtype::F32).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let position = position % bytes.len();
        bytes[position] = byte;
        bytes.truncate(bytes.len().saturating_sub(cut).max(1));
        fs::write(&path, bytes).unwrap();
        if let Ok(weights) = WeightFiles::open(dir.path()) {
            let names: Vec<_> = weights.names().map(str::to_owned).collect();
            names.iter().for_each(|name| drop(weights.read(name)));
        }
    }
}

#[rstest]
#[case::empty(vec![], "0 bytes are too few for a header")]
#[case::short(vec![1, 2, 3], "3 bytes are too few for a header")]
#[case::header_beyond_the_end(u64::MAX.to_le_bytes().to_vec(), "cut short?")]
#[case::not_json(raw("{nonsense", 0), "header: ")]
#[case::data_cut(
    raw(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 4),
    "tells of 8 bytes of data and there are 4: cut short?"
)]
#[case::data_left_over(
    raw(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 12),
    "tells of 8 bytes of data and there are 12"
)]
#[case::shape_lies(raw(r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8), "header: ")]
#[case::hole(raw(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8), "invalid offset for tensor `a`")]
#[case::overlap(raw(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 4), "invalid offset")]
#[case::huge(
    raw(r#"{"a":{"dtype":"U8","shape":[18446744073709551610],"data_offsets":[0,18446744073709551610]}}"#, 4),
    "header: "
)]
#[case::nearly_huge(
    raw(r#"{"a":{"dtype":"U8","shape":[2305843009213693951],"data_offsets":[0,2305843009213693951]}}"#, 4),
    "cut short?"
)]
#[case::unknown_dtype(raw(r#"{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}"#, 4), "header: ")]
#[case::lfs(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n".to_vec(), "Git LFS pointer")]
fn an_unsound_file_is_refused(#[case] bytes: Vec<u8>, #[case] expected: &str) {
    let error = open_bytes(&bytes).unwrap_err();
    assert!(matches!(error, HfError::BadWeightFile { .. }), "{error}");
    let error = error.to_string();
    assert!(error.contains("model.safetensors: not a sound safetensors file: ") && error.contains(expected), "{error}");
}

/// A header of so many tensors without elements.
fn empty_tensors(count: usize) -> Vec<u8> {
    let tensors = (0..count).map(|i| format!("\"a.{i}\":{{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}"));
    raw(&format!("{{{}}}", tensors.collect::<Vec<_>>().join(",")), 0)
}

#[test]
fn more_tensors_than_any_model_has_are_refused() {
    assert_eq!(open_bytes(&empty_tensors(1000)).unwrap().names().count(), 1000);
    let error = open_bytes(&empty_tensors(400_001)).unwrap_err().to_string();
    assert!(error.contains("more than 400000 tensors, as many as are read"), "{error}");
}

#[test]
fn passing_over_many_tensors_takes_time_in_proportion() {
    let weights = open_bytes(&empty_tensors(30_000)).unwrap();
    // As many that the model has, all missing but one.
    let specs: Vec<_> = (0..30_000).map(|i| TensorSpec::new(format!("a.{i}"), &[0])).collect();
    assert_eq!(weights.check(&specs).unwrap().num_tensors, 30_000);
    let begun = std::time::Instant::now();
    let error = weights.check(&specs[..15_000]).unwrap_err().to_string();
    assert!(error.contains("unexpected tensor \"a.15000\" (and 14999 other"), "{error}");
    // Comparing each with each would take minutes.
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

#[rstest]
#[case(&[("a", vec![2, 3])], "unexpected tensor \"b\"")]
#[case(&[("a", vec![2, 3]), ("b", vec![2]), ("c", vec![1]), ("d", vec![1])], "missing tensor \"c\" (and 1 other missing)")]
#[case(&[("a", vec![3, 2]), ("b", vec![2])], "tensor \"a\": expected shape [3, 2], found [2, 3]")]
fn the_check_names_the_tensor(#[case] expected: &[(&str, Vec<usize>)], #[case] message: &str) {
    let dir = tempfile::tempdir().unwrap();
    write_safetensors(&dir.path().join("model.safetensors"), small().0, StorageDtype::F32).unwrap();
    let specs: Vec<_> = expected.iter().map(|(name, shape)| TensorSpec::new(*name, shape)).collect();
    let error = WeightFiles::open(dir.path()).unwrap().check(&specs).unwrap_err().to_string();
    assert!(error.ends_with(message), "{error}");
}

#[test]
fn rotary_buffers_and_the_head_of_a_tied_model_are_passed_over_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (mut tensors, mut specs) = small();
    for name in ["lm_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"] {
        tensors.push((name.to_owned(), HostTensor::zeros([1])));
    }
    write_safetensors(&dir.path().join("model.safetensors"), tensors, StorageDtype::F32).unwrap();
    let weights = WeightFiles::open(dir.path()).unwrap();
    assert_eq!(weights.check(&specs).unwrap(), WeightCheck { num_tensors: 2, num_ignored: 2, notes: Vec::new() });
    specs.push(TensorSpec::new("lm_head.weight", &[1]));
    assert_eq!(weights.check(&specs).unwrap(), WeightCheck { num_tensors: 3, num_ignored: 1, notes: Vec::new() });
}

#[test]
fn heads_and_buffers_are_passed_over_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut tensors = vec![("model.norm.weight".to_owned(), HostTensor::zeros([2]))];
    for name in ["model.layers.0.self_attn.masked_bias", "v_head.summary.weight"] {
        tensors.push((name.to_owned(), HostTensor::zeros([1])));
    }
    write_safetensors(&dir.path().join("model.safetensors"), tensors, StorageDtype::F32).unwrap();
    let weights = WeightFiles::open(dir.path()).unwrap();
    let check = weights.check(&[TensorSpec::new("model.norm.weight", &[2])]).unwrap();
    assert_eq!((check.num_tensors, check.num_ignored, check.notes.len()), (1, 2, 1));
    let named = "model.layers.0.self_attn.masked_bias, v_head.summary.weight";
    assert!(check.notes[0].ends_with(named), "{}", check.notes[0]);
}

#[test]
fn a_single_file_is_taken_before_an_index_and_prefixes_are_put_right() {
    let dir = tempfile::tempdir().unwrap();
    let tensor = |value: f32| [("module.embed_tokens.weight".to_owned(), HostTensor::new([1, 1], vec![value]))];
    write_safetensors(&dir.path().join("model.safetensors"), tensor(1.0), StorageDtype::F32).unwrap();
    let shard = "model-00001-of-00001.safetensors";
    write_safetensors(&dir.path().join(shard), tensor(2.0), StorageDtype::F32).unwrap();
    let index = json!({ "weight_map": { "module.embed_tokens.weight": shard } });
    fs::write(dir.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    let weights = WeightFiles::open(dir.path()).unwrap();
    assert_eq!(weights.read("model.embed_tokens.weight").unwrap().data, [1.0]);
    let check = weights.check(&[TensorSpec::new("model.embed_tokens.weight", &[1, 1])]).unwrap();
    assert!(check.notes[0].contains("model.safetensors is read"), "{:?}", check.notes);
}

#[test]
fn other_types_are_refused() {
    let weights = open_bytes(&raw(r#"{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#, 8)).unwrap();
    let expected = "tensor \"a\": dtype I64 is not supported; supported: F32, BF16, F16";
    assert!(weights.read("a").unwrap_err().to_string().ends_with(expected));
    assert!(weights.check(&[TensorSpec::new("a", &[1])]).unwrap_err().to_string().ends_with(expected));
}

#[rstest]
#[case(&[], "no weights: expected model.safetensors or model.safetensors.index.json")]
#[case(&["pytorch_model.bin"], "pytorch_model.bin: pickled weights are not read")]
#[case(&["pytorch_model.bin.index.json"], "save_pretrained(folder)")]
#[case(&["adapter_model.safetensors"], "; this is an adapter: give its base model")]
#[case(&["model-00001-of-00002.safetensors"], "; there are shards without their index")]
fn a_folder_without_readable_weights_says_what_to_do(#[case] files: &[&str], #[case] expected: &str) {
    let dir = tempfile::tempdir().unwrap();
    files.iter().for_each(|file| fs::write(dir.path().join(file), "{}").unwrap());
    let error = WeightFiles::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
    let gone = WeightFiles::open(&dir.path().join("nowhere")).unwrap_err();
    assert!(matches!(gone, HfError::MissingFile { .. }));
}

/// A folder of two shards, a in the first and b in the second, and this `weight_map`.
fn sharded(weight_map: serde_json::Value) -> Result<WeightFiles, HfError> {
    let dir = tempfile::tempdir().unwrap();
    for (number, tensor) in small().0.into_iter().enumerate() {
        let name = format!("model-{:05}-of-00002.safetensors", number + 1);
        write_safetensors(&dir.path().join(name), [tensor], StorageDtype::F32).unwrap();
    }
    let index = json!({ "weight_map": weight_map });
    fs::write(dir.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    WeightFiles::open(dir.path())
}

const FIRST: &str = "model-00001-of-00002.safetensors";
const SECOND: &str = "model-00002-of-00002.safetensors";

#[test]
fn shards_are_read_through_their_index() {
    let weights = sharded(json!({ "b": SECOND, "a": FIRST })).unwrap();
    assert_eq!(weights.paths().count(), 2);
    for (name, tensor) in small().0 {
        assert_eq!(weights.read(&name).unwrap(), tensor);
    }
}

#[rstest]
#[case(json!({ "a": FIRST, "b": "model-3.safetensors" }), "shard \"model-3.safetensors\" is missing (it should hold \"b\")")]
#[case(json!({ "a": FIRST, "b": FIRST }), "tensor \"b\" is not in \"model-00001-of-00002.safetensors\"")]
#[case(json!({ "a": FIRST, "b": SECOND, "c": SECOND }), "tensor \"c\" is not in")]
#[case(json!({ "a": FIRST, "c": SECOND }), "holds tensor \"b\", which the index does not list")]
#[case(json!({ "a": SECOND, "b": SECOND, "x": FIRST }), "holds tensor \"a\", which the index puts in")]
#[case(json!({ "a": "../model.safetensors" }), "is not a plain file name")]
#[case(json!({ "a": "/etc/passwd" }), "is not a plain file name")]
#[case(json!({ "a": "c:\\x.safetensors" }), "is not a plain file name")]
#[case(json!({ "a": "weights.bin" }), "is not a plain file name ending in .safetensors")]
#[case(json!({ "a": 1 }), "field \"weight_map\": expected an object of tensor and file names, found 1")]
#[case(json!({}), "field \"weight_map\"")]
#[case(json!(null), "field \"weight_map\"")]
fn an_index_that_is_not_true_is_refused(#[case] weight_map: serde_json::Value, #[case] expected: &str) {
    let error = sharded(weight_map).unwrap_err().to_string();
    assert!(error.contains("model.safetensors.index.json: ") && error.contains(expected), "{error}");
}
