//! Which weights of a model are packed, and in which format.

use collimate_quantized::{Format, QuantizationConfig, QuantizationMethod};

use crate::blocks::{FeedForward, LinearSpec};
use crate::config::{Family, ModelConfig, Stacking};
use crate::error::HfError;
use crate::fields::Fields;

/// Columns of a group where a file says that there are no groups: the format's usual number, for forecasts only.
const USUAL_GROUP: usize = 128;

/// What a configuration says of its packed weights.
///
/// # Errors
/// A method that is not read, by name.
pub(crate) fn read(
    fields: Fields<'_>,
    text: Fields<'_>,
    family: &Family,
) -> Result<Option<QuantizationConfig>, HfError> {
    let has_stacks = family.names.stacking == Stacking::Interleaved;
    const MXFP4: &str = "MXFP4 is read in files of gpt_oss, whose experts it packs";
    let refused = |reason: &str| fields.unsupported("quantization_config", reason);
    if fields.get("quantization_config").is_none() && text.get("quantization_config").is_some() {
        return Err(
            text.unsupported("quantization_config", "it is read beside the text model's fields, not among them")
        );
    }
    let config = fields.get("quantization_config").map(QuantizationConfig::from_json).transpose();
    match config.map_err(|error| refused(&error.to_string()))? {
        Some(QuantizationConfig { method: QuantizationMethod::Mxfp4, .. }) if !has_stacks => Err(refused(MXFP4)),
        config => Ok(config),
    }
}

impl ModelConfig {
    /// The weights that may be packed: those of the blocks' linear layers but routers, whose choices rounding would change.
    /// Embeddings, the output layer and norms are not among them.
    pub fn packable_weights(&self) -> Vec<String> {
        let weight = |linear: &LinearSpec| format!("{}.weight", linear.module);
        let mut weights = Vec::new();
        for layer in 0..self.num_hidden_layers {
            let block = self.block(layer);
            let router = match &block.feed_forward {
                FeedForward::Experts { router, .. } => Some(&router.module),
                FeedForward::Dense(_) => None,
            };
            weights.extend(block.linears().into_iter().filter(|linear| Some(&linear.module) != router).map(weight));
        }
        weights
    }

    /// The format of a weight that may be packed; `None` if it is not.
    pub fn packed_format(&self, weight: &str) -> Option<Format> {
        let quantization = self.quantization.as_ref().filter(|_| !self.unpacked_weights.contains(weight))?;
        let is_expert = weight.contains(&format!(".{}.", self.family.names.experts));
        if quantization.method == QuantizationMethod::Mxfp4 && !is_expert {
            return None;
        }
        Some(match quantization.method {
            QuantizationMethod::FourBit { kind, double, .. } => Format::FourBit { kind, block: 64, double },
            QuantizationMethod::Int8 => Format::Int8,
            QuantizationMethod::Fp8 { block } => Format::Fp8 { block },
            QuantizationMethod::Mxfp4 => Format::Mxfp4,
            QuantizationMethod::Gptq { bits, group, .. } => {
                Format::Gptq { bits, group: group.unwrap_or(USUAL_GROUP), act_order: false }
            }
            QuantizationMethod::Awq { group } => Format::Awq { group: group.unwrap_or(USUAL_GROUP) },
        })
    }

    /// The format of the weights that are packed, if any is.
    pub fn packing(&self) -> Option<Format> {
        self.quantization.as_ref()?;
        self.packable_weights().iter().find_map(|weight| self.packed_format(weight))
    }

    /// The same model with all weights that may be packed in this format, into which they are packed when they are read.
    /// `None` if the format is one that is only read.
    #[must_use]
    pub fn packed_into(&self, format: Format) -> Option<Self> {
        let method = match format {
            Format::FourBit { kind, block: 64, double } => {
                QuantizationMethod::FourBit { kind, double, compute_dtype: None }
            }
            Format::Int8 => QuantizationMethod::Int8,
            _ => return None,
        };
        let quantization = Some(QuantizationConfig { method, skipped_modules: Vec::new() });
        Some(Self { quantization, unpacked_weights: Default::default(), ..self.clone() })
    }

    /// The same model with all its weights unpacked, as its files say, too.
    #[must_use]
    pub fn unpacked(&self) -> Self {
        let mut config = Self { quantization: None, unpacked_weights: Default::default(), ..self.clone() };
        if let Some(object) = config.raw.as_object_mut() {
            object.remove("quantization_config");
        }
        config
    }
}
