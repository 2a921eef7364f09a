//! The folders that parsers read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use collimate_hf::{HostTensor, ModelConfig, linear_modules};
use collimate_hub::{Hub, HubOptions};
use collimate_peft::{Adapter, LoraConfig, LoraTargets};
use collimate_weights::{StorageDtype, write_safetensors};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A model so small that reading it costs nothing.
pub(crate) fn model_config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 16, "hidden_size": 4,
        "intermediate_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true,
    })
}

/// A tokenizer of a few characters.
pub(crate) fn tokenizer() -> Value {
    let vocab: serde_json::Map<String, Value> =
        ["<s>", "</s>", "a", "b", " ", "ab", "?"].iter().zip(0..).map(|(t, id)| ((*t).to_owned(), json!(id))).collect();
    let added = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [added(0, "<s>"), added(1, "</s>")],
        "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "Fuse"},
        "model": {"type": "BPE", "dropout": null, "unk_token": "?", "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocab, "merges": ["a b"]}
    })
}

/// Valid folders in which an input replaces one file. Removed on drop.
#[derive(Debug)]
pub struct InputFolders {
    root: TempDir,
    /// The model that adapters belong to.
    pub(crate) model: ModelConfig,
    /// An offline hub with an empty cache, for whatever a recipe names.
    pub(crate) hub: Hub,
}

impl InputFolders {
    /// Creates the folders, in memory if the system has a file system there.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn new() -> io::Result<Self> {
        let memory = Path::new("/dev/shm");
        let root = match memory.is_dir() {
            true => tempfile::tempdir_in(memory)?,
            false => tempfile::tempdir()?,
        };
        let model = ModelConfig::from_json(Path::new("config.json"), model_config()).map_err(io::Error::other)?;
        let mut options = HubOptions::from_env();
        (options.cache, options.offline) = (root.path().join("hub"), true);
        let folders = Self { root, model, hub: Hub::new(options) };
        for folder in ["adapter", "config", "index", "packed", "rows", "run", "tokenizer", "weights", "recipe"] {
            fs::create_dir(folders.folder(folder))?;
        }
        folders.write_shards()?;
        folders.write_adapter()?;
        folders.write_model()?;
        fs::write(folders.folder("tokenizer").join("tokenizer.json"), tokenizer().to_string())?;
        fs::write(folders.folder("tokenizer").join("tokenizer_config.json"), r#"{"eos_token": "</s>"}"#)?;
        fs::write(folders.folder("run").join("metrics.jsonl"), "{\"step\": 1, \"loss\": 0.5}\n")?;
        fs::write(folders.folder("run").join("recipe.yaml"), "seed: 1\n")?;
        Ok(folders)
    }

    /// One of the folders.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Replaces a file by an input, runs `read` on the folder, and restores the file.
    pub(crate) fn with<T>(&self, folder: &str, file: &str, bytes: &[u8], read: impl FnOnce(&Path) -> T) -> T {
        let folder = self.folder(folder);
        let path = folder.join(file);
        let before = fs::read(&path).ok();
        // If the file cannot be written, the parser finds none, which is fine.
        let _ = fs::write(&path, bytes);
        let result = read(&folder);
        let _ = match before {
            Some(before) => fs::write(&path, before),
            None => fs::remove_file(&path),
        };
        result
    }

    fn write_shards(&self) -> io::Result<()> {
        for (number, tensor) in [(1, "a"), (2, "b")] {
            let path = self.folder("index").join(format!("model-0000{number}-of-00002.safetensors"));
            let tensors = [(tensor.to_owned(), HostTensor::new([2], vec![1.0, 2.0]))];
            write_safetensors(&path, tensors, StorageDtype::F32).map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Weights beside the tokenizer, for targets that need both.
    fn write_model(&self) -> io::Result<()> {
        let folder = self.folder("tokenizer");
        let mut config = model_config();
        // A token per byte, and some more.
        config["vocab_size"] = json!(300);
        fs::write(folder.join("config.json"), config.to_string())?;
        let model = ModelConfig::from_json(Path::new("config.json"), config).map_err(io::Error::other)?;
        let tensors = model.tensors().into_iter().map(|spec| (spec.name, HostTensor::zeros(spec.shape)));
        let path = folder.join("model.safetensors");
        write_safetensors(&path, tensors, StorageDtype::F32).map_err(io::Error::other)
    }

    fn write_adapter(&self) -> io::Result<()> {
        let config = LoraConfig::new(2, 4.0, LoraTargets::Names(vec!["q_proj".to_owned()]));
        let linears = linear_modules(&self.model).into_iter().filter(|linear| config.matches(&linear.module));
        let modules = linears.map(|linear| {
            let (a, b) = ([2, linear.in_features], [linear.out_features, 2]);
            (linear.module, (HostTensor::zeros(a), HostTensor::zeros(b)))
        });
        let modules: Vec<_> = modules.collect();
        Adapter::of_factors(config, modules).write(&self.folder("adapter")).map_err(io::Error::other)
    }
}
