//! Parameters that an objective does not read.

use serde_json::Value as Json;

use crate::objective_terms::has_parameter;
use crate::trainer::trl_name;
use crate::trl::TRL_VERSION;

/// Whether this value is how a trainer of TRL's leaves a parameter out. `alpha` is a key of its CPO trainer too, AlphaPO's.
pub(super) fn asks_for_nothing(name: &str, value: &Json) -> bool {
    match name {
        "label_smoothing" | "alpha" => value.as_f64() == Some(0.0),
        "f_divergence_type" => value == "reverse_kl",
        _ => false,
    }
}

/// What the user is told about a key that no loss reads.
pub(super) fn unread(
    key: &str,
    name: &str,
    value: &Json,
    losses: &[String],
    is_passed_over: &dyn Fn(&str) -> bool,
) -> String {
    let by_trl: Vec<&str> = losses.iter().map(String::as_str).filter(|loss| is_passed_over(loss)).collect();
    if by_trl.is_empty() {
        return key.to_owned();
    }
    let instead = match by_trl.as_slice() {
        [loss] if losses.len() == 1 && has_parameter(loss, name) => {
            format!("; `--set objective.{name}={}` sets it all the same", shown(value))
        }
        _ => String::new(),
    };
    let by_trl: Vec<&str> = by_trl.into_iter().map(trl_name).collect();
    format!("{key} (TRL {TRL_VERSION} does not read it with the loss {}{instead})", by_trl.join(", "))
}

/// A value as `--set` takes it.
fn shown(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
