//! Mixtral: Mistral with several feed-forward layers, some of which a router picks for each token.

use super::{llama, mistral};
use crate::config::{Defaults, Family, TensorNames};
use crate::experts::{self, ExpertDefaults};

pub(super) const FAMILY: Family = Family {
    model_type: "mixtral",
    summary: "`mistral` with experts",
    defaults: Defaults { rms_norm_eps: 1e-5, rope_theta: 1_000_000.0, sliding_window: None, ..mistral::DEFAULTS },
    names: TensorNames {
        router: "block_sparse_moe.gate",
        experts: "block_sparse_moe.experts",
        expert: ["w1", "w3", "w2"],
        ..llama::NAMES
    },
    read: |fields, config| {
        // Newer files have the second name.
        let count_key = fields.first_of(["num_local_experts", "num_experts"]);
        let defaults = ExpertDefaults {
            count_key,
            count: 8,
            per_token: 2,
            balance_weight: 0.001,
            intermediate_size: config.intermediate_size,
        };
        config.experts = Some(experts::read(fields, config.num_hidden_layers, defaults)?);
        Ok(())
    },
    ..mistral::FAMILY
};
