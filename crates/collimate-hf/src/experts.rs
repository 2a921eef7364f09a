//! Reads the fields of experts.

use crate::config::Experts;
use crate::error::HfError;
use crate::fields::Fields;

/// Limit on the experts of all layers together: more are a typing error, and their list of names would exhaust memory.
const MAX_EXPERTS: usize = 100_000;

/// The field with a family's number of experts, the values of absent fields, and the inner width of an expert.
pub(crate) struct ExpertDefaults {
    pub(crate) count_key: &'static str,
    pub(crate) count: usize,
    pub(crate) per_token: usize,
    pub(crate) balance_weight: f64,
    pub(crate) intermediate_size: usize,
}

/// Reads the number of experts and how tokens use them; weights are normalized. As in transformers, the balance loss is on by
/// default only with `output_router_logits`.
pub(crate) fn read(fields: Fields<'_>, num_layers: usize, defaults: ExpertDefaults) -> Result<Experts, HfError> {
    let key = defaults.count_key;
    let count = fields.size_or(key, defaults.count)?;
    if count.saturating_mul(num_layers) > MAX_EXPERTS {
        return Err(fields.wrong(key, &format!("at most {MAX_EXPERTS} in all layers together")));
    }
    let per_token = fields.size_or("num_experts_per_tok", defaults.per_token)?;
    if per_token > count {
        return Err(fields.wrong("num_experts_per_tok", &format!("at most {key}, {count}")));
    }
    let weight = fields.number("router_aux_loss_coef", "a number of at least 0", |x| x >= 0.0)?;
    let balance_weight = weight.unwrap_or(defaults.balance_weight);
    let balances_by_default = fields.flag_or("output_router_logits", false)?;
    Ok(Experts { balance_weight, balances_by_default, ..Experts::plain(count, per_token, defaults.intermediate_size) })
}
