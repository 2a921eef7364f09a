//! What figures are called on pages, and how their values are written.

use crate::numbers::number;

/// Figures of tables, in order: their name in `metrics.jsonl`, without `eval_`, and what a reader calls them.
pub(super) const FIGURES: [(&str, &str); 9] = [
    ("loss", "loss"),
    ("rewards/accuracies", "accuracy"),
    ("rewards/margins", "margin"),
    ("rewards/chosen", "implicit reward, chosen"),
    ("rewards/rejected", "implicit reward, rejected"),
    ("log_ratios/chosen", "chosen against the reference, nats"),
    ("logps/chosen", "log-prob, chosen, nats"),
    ("logps/rejected", "log-prob, rejected, nats"),
    ("lengths/correlation", "length and implicit reward, correlation"),
];

/// A figure's value: accuracies in percent, losses with the four decimals in which they differ.
pub(super) fn value(name: &str, value: f64) -> String {
    match name {
        _ if name.ends_with("accuracies") => format!("{:.1} %", 100.0 * value),
        "loss" | "eval_loss" if (1e-3..1e5).contains(&value.abs()) => format!("{value:.4}"),
        _ => number(value),
    }
}
