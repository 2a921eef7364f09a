//! Answers before and after training.

use crate::charts::escape;
use crate::numbers::number;
use crate::samples::{Sample, Samples};

/// The answers to the sample prompts, side by side.
pub(super) fn answers(samples: &Samples) -> String {
    let text = |label: &str, text: &str| {
        let text = if text.is_empty() { "<span class=\"about\">(nothing)</span>".to_owned() } else { escape(text) };
        format!("<div><h4>{label}</h4><p class=\"text\">{text}</p></div>")
    };
    let sample = |sample: &Sample| {
        let after = sample.after.as_ref().map(|after| text("after training", after)).unwrap_or_default();
        format!(
            "<article><p class=\"about\">{}</p>{}<div class=\"answers\">{}{after}{}</div></article>",
            escape(&sample.location),
            text("prompt", &sample.prompt),
            text("before training", &sample.before),
            text(&format!("best in the data, reward {}", number(sample.reward)), &sample.best),
        )
    };
    let samples_html: String = samples.prompts.iter().map(sample).collect();
    format!(
        "<h2>Answers before and after</h2><p class=\"about\">Decoded greedily, up to {} tokens.</p>{samples_html}",
        samples.max_new_tokens
    )
}
