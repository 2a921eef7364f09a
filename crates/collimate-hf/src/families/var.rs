//! VAR: token maps of growing sides, each predicted as a whole from the coarser ones and a class. Only names and sizes are here;
//! nothing of it is a decoder's.

use serde_json::{Value, json};

use super::{llama, llamagen};
use crate::config::{Activation, CODEBOOK_FILE, Defaults, Family, ModelConfig, Scales, TensorNames};
use crate::error::HfError;
use crate::fields::Fields;

pub(super) const FAMILY: Family = Family {
    model_type: "var",
    summary: "token maps of a picture from coarse to fine after its class, in plain operations (VAR)",
    defaults: Defaults {
        vocab_size: 4096,
        rms_norm_eps: 1e-6,
        bos_token_id: None,
        eos_token_id: None,
        ..llama::DEFAULTS
    },
    activation: ("hidden_act", Activation::GeluTanh),
    names: TensorNames { embedding: "class_emb", conditions: None, head: "head", ..llamagen::NAMES },
    translate: Some(translate),
    read,
    ..llamagen::FAMILY
};

/// Sides of the published models at 256 pixels.
const SIDES: [usize; 10] = [1, 2, 3, 4, 5, 6, 8, 10, 13, 16];
/// Largest side; more is a typing error.
const LARGEST_SIDE: usize = 1024;

/// Sizes under the names of the published class's arguments.
fn translate(fields: Fields<'_>) -> Result<Value, HfError> {
    let depth = fields.size_or("depth", 16)?;
    let (width, heads) = (fields.size_or("embed_dim", 64 * depth)?, fields.size_or("num_heads", depth)?);
    if !width.is_multiple_of(2 * heads) {
        return Err(fields.wrong("embed_dim", &format!("a multiple of 2 · num_heads, {}", 2 * heads)));
    }
    let ratio = fields.factor("mlp_ratio")?.unwrap_or(4.0);
    Ok(json!({
        "model_type": FAMILY.model_type,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_hidden_layers": depth,
        "intermediate_size": (width as f64 * ratio).round().max(1.0) as usize,
        "vocab_size": fields.size_or("vocab_size", FAMILY.defaults.vocab_size)?,
        "rms_norm_eps": fields.positive("norm_eps")?.unwrap_or(FAMILY.defaults.rms_norm_eps),
        "dtype": fields.text("dtype")?,
        "torch_dtype": fields.text("torch_dtype")?,
    }))
}

fn read(fields: Fields<'_>, config: &mut ModelConfig) -> Result<(), HfError> {
    let sides = fields.counts("patch_nums")?.unwrap_or_else(|| SIDES.to_vec());
    if sides.is_empty() || sides.iter().any(|side| !(1..=LARGEST_SIDE).contains(side)) {
        return Err(fields.wrong("patch_nums", &format!("a list of sides from 1 to {LARGEST_SIDE}")));
    }
    if fields.text("vae")?.is_some_and(|file| file != CODEBOOK_FILE) {
        return Err(fields.unsupported("vae", &format!("only {CODEBOOK_FILE} is, which goes with the model")));
    }
    config.conditions = fields.size_or("num_classes", 1000)? + 1;
    config.max_position_embeddings = sides.iter().map(|side| side * side).sum();
    config.scales = Some(Scales {
        sides,
        codebook_width: fields.size_or("Cvae", 32)?,
        smoothings: fields.size_or("share_quant_resi", 4)?,
        residual: fields.number("quant_resi", "a share from 0 to 1", |x| (0.0..=1.0).contains(&x))?.unwrap_or(0.5),
        shares_modulation: fields.flag_or("shared_aln", false)?,
        normalizes_attention: fields.flag_or("attn_l2_norm", true)?,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;

    use super::*;

    fn read(change: Value) -> Result<ModelConfig, String> {
        let mut value = json!({
            "model_type": "var", "patch_nums": [1, 2, 3], "depth": 2, "embed_dim": 48, "num_heads": 3, "mlp_ratio": 4.0,
            "norm_eps": 1e-6, "shared_aln": false, "attn_l2_norm": true, "cond_drop_rate": 0.1, "num_classes": 7,
            "vocab_size": 64, "Cvae": 8, "share_quant_resi": 4, "quant_resi": 0.5, "vae": "vae.safetensors",
        });
        change.as_object().expect("an object").iter().for_each(|(key, field)| value[key] = field.clone());
        ModelConfig::from_json(Path::new("config.json"), value).map_err(|error| error.to_string())
    }

    #[test]
    fn tensors_have_the_published_names_and_shapes() {
        let shapes = |change: Value| -> std::collections::BTreeMap<String, Vec<usize>> {
            let config = read(change).expect("a sound configuration");
            config.tensors().into_iter().map(|spec| (spec.name, spec.shape)).collect()
        };
        let own = shapes(json!({}));
        assert_eq!((own["class_emb.weight"].as_slice(), own["pos_1LC"].as_slice()), (&[8, 48][..], &[1, 14, 48][..]));
        assert_eq!(own["blocks.1.ada_lin.1.weight"], [288, 48]);
        assert_eq!(own["blocks.0.attn.scale_mul_1H11"], [1, 3, 1, 1]);
        let shared = shapes(json!({"shared_aln": true, "attn_l2_norm": false}));
        assert_eq!(
            (shared["shared_ada_lin.1.bias"].as_slice(), shared["blocks.1.ada_gss"].as_slice()),
            (&[288][..], &[1, 1, 6, 48][..])
        );
        assert!(!shared.contains_key("blocks.0.attn.scale_mul_1H11"));
    }

    #[rstest]
    #[case(json!({"patch_nums": [1, 0]}), "patch_nums")]
    #[case(json!({"embed_dim": 50}), "embed_dim")]
    #[case(json!({"vae": "../secret.safetensors"}), "vae")]
    #[case(json!({"quant_resi": 2}), "quant_resi")]
    fn a_field_that_cannot_be_used_is_named_as_in_the_file(#[case] change: Value, #[case] field: &str) {
        let error = read(change).expect_err("refused");
        assert!(error.contains(&format!("field \"{field}\"")), "{error}");
    }
}
