//! Qwen 3.5 with experts: every block has them, and a gated layer beside them that all tokens go through.

use super::qwen3_5_text;
use crate::config::{Defaults, Family, ModelConfig, SharedExpert, TensorNames};
use crate::error::HfError;
use crate::experts::{self, ExpertDefaults};
use crate::fields::Fields;

pub(super) const FAMILY: Family = Family {
    model_type: "qwen3_5_moe_text",
    summary: "`qwen3_5_text` with experts and a gated layer beside them",
    defaults: Defaults {
        hidden_size: 2048,
        num_hidden_layers: 40,
        num_key_value_heads: Some(2),
        ..qwen3_5_text::FAMILY.defaults
    },
    names: TensorNames { shared: "mlp.shared_expert", adapts_experts: false, ..qwen3_5_text::FAMILY.names },
    read,
    ..qwen3_5_text::FAMILY
};

fn read(fields: Fields<'_>, config: &mut ModelConfig) -> Result<(), HfError> {
    qwen3_5_text::read(fields, config)?;
    let defaults = ExpertDefaults {
        count_key: fields.first_of(["num_experts", "num_local_experts"]),
        count: 256,
        per_token: 8,
        balance_weight: 0.001,
        intermediate_size: fields.size_or("moe_intermediate_size", 512)?,
    };
    let mut experts = experts::read(fields, config.num_hidden_layers, defaults)?;
    let intermediate_size = fields.size_or("shared_expert_intermediate_size", 512)?;
    experts.shared = Some(SharedExpert { intermediate_size, is_gated: true });
    config.experts = Some(experts);
    Ok(())
}
