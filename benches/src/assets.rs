//! Models and adapters with random weights, written to a folder once.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::{Value, json};

use crate::files::write_json;
use crate::tokenizer::write_tokenizer;
use crate::work::{LORA_RANK, Shape, Stored};

/// Written last, so that a folder without it is incomplete.
const COMPLETE: &str = "complete";

/// The folders of a shape's model and adapter.
#[derive(Debug, Clone)]
pub struct Assets {
    /// Model and tokenizer, as a Hugging Face folder.
    pub model: PathBuf,
    /// Freshly initialized PEFT adapter.
    pub adapter: PathBuf,
}

/// Writes the model and the adapter of a shape, unless that was done before.
///
/// # Errors
/// `data` lacks the text the tokenizer is trained on, or a file cannot be written.
pub fn prepare(shape: &Shape, data: &Path, folder: &Path) -> Result<Assets> {
    let assets = Assets { model: folder.join("model"), adapter: folder.join("adapter") };
    if !folder.join(COMPLETE).is_file() {
        eprintln!("writing a model of random weights into {}", folder.display());
        let text = data.join("gsm8k_rewards.jsonl");
        let text = fs::read_to_string(&text).with_context(|| format!("cannot read {}", text.display()))?;
        for folder in [&assets.model, &assets.adapter] {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        write_tokenizer(&assets.model, &text)?;
        write_json(&assets.model.join("config.json"), &shape.config())?;
        write_tensors(&assets.model.join("model.safetensors"), &model_tensors(shape), shape.stored, 1)?;
        write_json(&assets.adapter.join("adapter_config.json"), &adapter_config(shape, &assets.model))?;
        write_tensors(&assets.adapter.join("adapter_model.safetensors"), &adapter_tensors(shape), Stored::F32, 2)?;
        fs::write(folder.join(COMPLETE), "")?;
    }
    Ok(assets)
}

/// Numbers drawn for a tensor before they repeat: drawing eight billion would take a minute.
const MAX_DRAWS: usize = 1 << 26;

/// Values of a tensor.
#[derive(Debug, Clone, Copy)]
enum Fill {
    Constant(f32),
    /// Uniform within ± this.
    Uniform(f32),
}

type Tensor = (String, Vec<usize>, Fill);

fn model_tensors(shape: &Shape) -> Vec<Tensor> {
    // The variance of transformers' normal initialization, 0.02².
    let random = Fill::Uniform(0.02 * 3_f32.sqrt());
    let norm = |name: String| (format!("model.{name}.weight"), vec![shape.hidden], Fill::Constant(1.0));
    let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![shape.vocab, shape.hidden], random)];
    for layer in 0..shape.layers {
        for (name, inputs, outputs) in shape.linears() {
            tensors.push((format!("model.layers.{layer}.{name}.weight"), vec![outputs, inputs], random));
        }
        tensors.push(norm(format!("layers.{layer}.input_layernorm")));
        tensors.push(norm(format!("layers.{layer}.post_attention_layernorm")));
    }
    tensors.push(norm("norm".to_owned()));
    if !shape.tied {
        tensors.push(("lm_head.weight".to_owned(), vec![shape.vocab, shape.hidden], random));
    }
    tensors
}

/// PEFT's names and initialization: A as a linear layer's weight, B zero.
fn adapter_tensors(shape: &Shape) -> Vec<Tensor> {
    let mut tensors = Vec::new();
    for layer in 0..shape.layers {
        for (name, inputs, outputs) in shape.linears() {
            let name = format!("base_model.model.model.layers.{layer}.{name}");
            let random = Fill::Uniform((inputs as f32).sqrt().recip());
            tensors.push((format!("{name}.lora_A.weight"), vec![LORA_RANK, inputs], random));
            tensors.push((format!("{name}.lora_B.weight"), vec![outputs, LORA_RANK], Fill::Constant(0.0)));
        }
    }
    tensors
}

fn adapter_config(shape: &Shape, model: &Path) -> Value {
    let short = |name: &'static str| name.rsplit('.').next().unwrap_or(name);
    let targets: Vec<&str> = shape.linears().into_iter().map(|(name, ..)| short(name)).collect();
    json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": model, "bias": "none",
        "r": LORA_RANK, "lora_alpha": LORA_RANK, "lora_dropout": 0.0, "target_modules": targets,
        "fan_in_fan_out": false, "inference_mode": false, "init_lora_weights": true,
    })
}

fn write_tensors(path: &Path, tensors: &[Tensor], stored: Stored, seed: u64) -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let dtype = match stored {
        Stored::F32 => Dtype::F32,
        Stored::BF16 => Dtype::BF16,
    };
    let mut bytes = Vec::with_capacity(tensors.len());
    for (_, shape, fill) in tensors {
        let width = dtype.bitsize() / 8;
        let len: usize = shape.iter().product();
        let mut tensor = Vec::with_capacity(width * len);
        for _ in 0..len.min(MAX_DRAWS) {
            let value = match *fill {
                Fill::Constant(value) => value,
                Fill::Uniform(most) => rng.random_range(-most..most),
            };
            // The upper half of a float32 is a bfloat16; random weights need no rounding.
            tensor.extend_from_slice(&value.to_le_bytes()[4 - width..]);
        }
        while tensor.len() < width * len {
            tensor.extend_from_within(..(width * len - tensor.len()).min(tensor.len()));
        }
        bytes.push(tensor);
    }
    let mut views = Vec::with_capacity(tensors.len());
    for ((name, shape, _), bytes) in tensors.iter().zip(&bytes) {
        views.push((name.clone(), TensorView::new(dtype, shape.clone(), bytes)?));
    }
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    if let Err(error) = serialize_to_file(views, Some(metadata), path) {
        bail!("cannot write {}: {error}", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::SHAPES;

    #[test]
    fn shapes_have_the_parameters_their_names_promise() {
        let count = |shape| -> usize { model_tensors(shape).iter().map(|(_, s, _)| s.iter().product::<usize>()).sum() };
        // SmolLM2-135M, as its authors count.
        assert_eq!(count(&SHAPES[0]), 134_515_008);
        let (embedding, attention, mlp) = (16_384 * 256, 2 * 256 * 256 + 2 * 256 * 128, 3 * 256 * 1024);
        assert_eq!(count(&SHAPES[1]), embedding + 8 * (attention + mlp + 2 * 256) + 256);
        // Llama-3.2-1B and Llama-3.1-8B, likewise.
        assert_eq!(count(&SHAPES[2]), 1_235_814_400);
        assert_eq!(count(&SHAPES[3]), 8_030_261_248);
    }

    #[test]
    fn an_adapter_has_two_matrices_per_linear_layer() {
        assert_eq!(adapter_tensors(&SHAPES[1]).len(), 2 * 7 * 8);
    }
}
