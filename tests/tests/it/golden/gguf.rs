//! Models as GGUF files: read by a small reader, values compared with the model's own.

use std::collections::BTreeMap;
use std::fs;

use collimate_model::{HostTensor, ModelConfig, WeightFiles};
use rstest::rstest;

use super::{golden, golden_arg};
use crate::harness::{Folder, collimate, succeed};

/// A file as its reader sees it.
struct Gguf {
    /// Texts, counts, flags and numbers as text; of a list its length.
    keys: BTreeMap<String, String>,
    /// Type, dimensions with the fastest first, and bytes from the tensor's beginning on.
    tensors: BTreeMap<String, (u32, Vec<usize>, Vec<u8>)>,
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.0.split_at(N);
        self.0 = rest;
        taken.try_into().expect("so many bytes")
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn long(&mut self) -> usize {
        usize::try_from(u64::from_le_bytes(self.take())).expect("a size")
    }

    fn text(&mut self) -> String {
        let len = self.long();
        let (text, rest) = self.0.split_at(len);
        self.0 = rest;
        String::from_utf8(text.to_vec()).expect("text")
    }

    fn value(&mut self, kind: u32) -> String {
        match kind {
            4 => self.word().to_string(),
            5 => i32::from_le_bytes(self.take()).to_string(),
            6 => f32::from_le_bytes(self.take()).to_string(),
            7 => (self.take::<1>()[0] == 1).to_string(),
            8 => self.text(),
            9 => {
                let (kind, len) = (self.word(), self.long());
                (0..len).for_each(|_| drop(self.value(kind)));
                len.to_string()
            }
            other => panic!("a value of type {other}"),
        }
    }
}

fn read(bytes: &[u8]) -> Gguf {
    let mut reader = Reader(bytes);
    assert_eq!(&reader.take::<4>(), b"GGUF");
    assert_eq!(reader.word(), 3);
    let (num_tensors, num_keys) = (reader.long(), reader.long());
    let keys = (0..num_keys).map(|_| {
        let (key, kind) = (reader.text(), reader.word());
        (key, reader.value(kind))
    });
    let keys: BTreeMap<_, _> = keys.collect();
    let infos: Vec<_> = (0..num_tensors)
        .map(|_| {
            let (name, rank) = (reader.text(), reader.word());
            let dims: Vec<usize> = (0..rank).map(|_| reader.long()).collect();
            (name, dims, reader.word(), reader.long())
        })
        .collect();
    let start = (bytes.len() - reader.0.len()).next_multiple_of(32);
    let tensor = |(name, dims, kind, place): (String, Vec<usize>, u32, usize)| {
        assert_eq!(place % 32, 0, "{name}");
        (name, (kind, dims, bytes[start + place..].to_vec()))
    };
    Gguf { keys, tensors: infos.into_iter().map(tensor).collect() }
}

fn export(model: &str, more: &[&str]) -> Gguf {
    let (folder, model) = (Folder::new(), golden_arg(model));
    let output = folder.arg("model.gguf");
    succeed(&[&["export", "--model", &model, "--output", &output][..], more].concat());
    read(&fs::read(output).expect("a file"))
}

fn floats(bytes: &[u8], count: usize) -> Vec<f32> {
    bytes.as_chunks::<4>().0[..count].iter().map(|four| f32::from_le_bytes(*four)).collect()
}

#[rstest]
fn every_weight_is_there_as_it_is(
    #[values("llama", "llama3", "mistral", "mixtral", "qwen2", "qwen3", "gemma2", "phi3", "olmo2", "smollm3")]
    model: &str,
) {
    let folder = Folder::new();
    let dir = folder.path("model");
    folder.copy(&golden(&format!("models/{model}")), "model");
    if model == "smollm3" {
        // llama.cpp leaves every fourth layer unrotated, and the tiny model every second: it is refused as it is.
        let config = folder.read("model/config.json");
        let refused = collimate(&["export", "--model", &folder.arg("model"), "--output", &folder.arg("model.gguf")]);
        assert!(refused.code == 2 && refused.err.contains("no_rope_layers"), "{}", refused.err);
        let mut config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
        config["no_rope_layers"] = serde_json::json!([1, 1]);
        folder.write("model/config.json", config.to_string());
    }
    let output = folder.arg("model.gguf");
    succeed(&["export", "--model", &folder.arg("model"), "--output", &output, "--outtype", "f32"]);
    let file = read(&fs::read(output).expect("a file"));
    let config = ModelConfig::from_dir(&dir).expect("a configuration");
    let weights = WeightFiles::open(&dir).expect("weights");
    let architecture = &file.keys["general.architecture"];
    let key = |name: &str| file.keys[&format!("{architecture}.{name}")].parse::<usize>().expect("a count");
    assert_eq!(key("block_count"), config.num_hidden_layers);
    assert_eq!(key("attention.head_count_kv"), config.num_key_value_heads);
    assert_eq!(file.keys["tokenizer.ggml.tokens"], config.vocab_size.to_string());
    assert!(file.keys.contains_key("tokenizer.chat_template"));

    let embeddings = weights.read("model.embed_tokens.weight").expect("embeddings");
    let (kind, dims, bytes) = &file.tensors["token_embd.weight"];
    assert_eq!((*kind, dims.as_slice()), (0, &[config.hidden_size, config.vocab_size][..]));
    assert_eq!(floats(bytes, embeddings.data.len()), embeddings.data);
    // The sum over all tensors is that of the weights: rows change their order, experts are stacked, nothing is lost.
    let sum = |tensor: &HostTensor| tensor.data.iter().map(|value| f64::from(*value)).sum::<f64>();
    let expected: f64 = config.tensors().iter().map(|spec| sum(&weights.read(&spec.name).expect("a weight"))).sum();
    let doubled = config.tie_word_embeddings && model == "olmo2";
    let ones = if config.norm_offset { config.hidden_size * (4 * config.num_hidden_layers + 1) } else { 0 };
    let expected = expected + ones as f64 + if doubled { sum(&embeddings) } else { 0.0 };
    let found: f64 = file
        .tensors
        .iter()
        .filter(|(name, _)| !name.starts_with("rope_f"))
        .flat_map(|(_, (_, dims, bytes))| floats(bytes, dims.iter().product()))
        .map(f64::from)
        .sum();
    assert!((found - expected).abs() < 1e-6 * expected.abs().max(1.0), "{found} {expected}");
}

#[test]
fn an_adapter_is_exported_as_the_model_it_is_merged_into() {
    let folder = Folder::new();
    let (model, adapter) = (golden_arg("models/qwen2"), golden_arg("adapters/qwen2"));
    let merged = folder.arg("merged");
    succeed(&["merge", "--model", &model, "--adapter", &adapter, "--output", &merged]);
    let bytes = |args: &[&str]| {
        let output = folder.arg("model.gguf");
        succeed(&[&["export", "--outtype", "f16", "--name", "x", "--output", &output][..], args].concat());
        fs::read(&output).expect("a file")
    };
    let direct = bytes(&["--model", &model, "--adapter", &adapter]);
    assert!(direct == bytes(&["--model", &merged]));
    assert!(direct != bytes(&["--model", &model]), "an adapter that changes nothing shows nothing");
}

#[rstest]
#[case("f16", 1)]
#[case("bf16", 30)]
#[case("q8_0", 8)]
#[case("q4_0", 2)]
fn matrices_have_the_type_asked_for_and_norms_do_not(#[case] outtype: &str, #[case] number: u32) {
    let file = export("models/llama", &["--outtype", outtype]);
    let kind = |name: &str| file.tensors[name].0;
    assert_eq!(kind("blk.0.attn_q.weight"), number);
    assert_eq!(kind("blk.0.attn_norm.weight"), 0);
    assert_eq!(kind("token_embd.weight"), if outtype == "q4_0" { 8 } else { number });
}

#[test]
fn what_llama_cpp_cannot_be_told_is_refused_before_anything_is_written() {
    let folder = Folder::new();
    let model = folder.copy(&golden("models/llama"), "model");
    let config = folder.read("model/config.json").replace("\"silu\"", "\"gelu\"");
    folder.write("model/config.json", config);
    let output = folder.arg("out/model.gguf");
    let outcome = collimate(&["export", "--model", &model, "--output", &output]);
    assert_eq!(outcome.code, 2, "{}", outcome.err);
    assert!(outcome.err.contains("hidden_act"), "{}", outcome.err);
    assert!(!folder.path("out").exists());
    let unknown = collimate(&["export", "--model", &model, "--output", &output, "--outtype", "q9"]);
    assert!(unknown.code == 2 && unknown.err.contains("q8_0"), "{}", unknown.err);
}

/// A link to a private file would be published in the file.
#[cfg(unix)]
#[test]
fn a_link_out_of_the_folder_is_not_exported() {
    let folder = Folder::new();
    let model = folder.copy(&golden("models/llama"), "model");
    let secret = folder.write("secret", "private");
    fs::remove_file(folder.path("model/chat_template.jinja")).expect("a template");
    std::os::unix::fs::symlink(&secret, folder.path("model/chat_template.jinja")).expect("a link");
    let outcome = collimate(&["export", "--model", &model, "--output", &folder.arg("model.gguf")]);
    assert_ne!(outcome.code, 0);
    assert!(outcome.err.contains("link out of the folder"), "{}", outcome.err);
    assert!(!folder.path("model.gguf").exists());
}
