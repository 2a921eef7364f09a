//! Answers before and after training, of one run or of several.

use super::pictures::picture;
use crate::charts::escape;
use crate::numbers::number;
use crate::samples::{Sample, Samples};

/// The answers to the sample prompts, side by side.
pub(super) fn answers(samples: &Samples) -> String {
    let sample = |sample: &Sample| {
        let before = text(&label("before training", sample.before_cut), &sample.before);
        let label = label("after training", sample.after_cut);
        let after = sample.after.as_ref().map(|after| text(&label, after)).unwrap_or_default();
        article(sample, &format!("{before}{after}"))
    };
    let samples_html: String = samples.prompts.iter().map(sample).collect();
    format!("<h2>Answers before and after</h2>{}{samples_html}", decoding(samples))
}

/// The answers of several runs to the prompts that they share, side by side; empty if no prompt is shared. `runs` has a
/// name and samples for each run that has samples.
pub(super) fn compared(runs: &[(&str, &Samples)]) -> String {
    let Some(((first_name, first), others)) = runs.split_first() else { return String::new() };
    let article_of = |sample: &Sample| {
        let found = others.iter().filter_map(|(name, samples)| {
            Some((*name, samples.prompts.iter().find(|other| other.prompt == sample.prompt)?))
        });
        let all: Vec<(&str, &Sample)> = std::iter::once((*first_name, sample)).chain(found).collect();
        if all.len() < 2 {
            return None;
        }
        let same_start = all.iter().all(|(_, other)| other.before == sample.before);
        let before = label("before training", sample.before_cut);
        let mut html = if same_start { text(&before, &sample.before) } else { String::new() };
        for (name, sample) in all {
            if !same_start {
                html += &text(&label(&format!("{name}, before training"), sample.before_cut), &sample.before);
            }
            let after = label(&format!("{name}, after training"), sample.after_cut);
            html += &sample.after.as_ref().map(|answer| text(&after, answer)).unwrap_or_default();
        }
        Some(article(sample, &html))
    };
    let shared: String = first.prompts.iter().filter_map(article_of).collect();
    if shared.is_empty() { String::new() } else { format!("<h2>Answers</h2>{}{shared}", decoding(first)) }
}

/// What an answer is, and whether the clock has cut it.
fn label(name: &str, is_cut: bool) -> String {
    if is_cut { format!("{name} (cut short to save time)") } else { name.to_owned() }
}

fn decoding(samples: &Samples) -> String {
    format!("<p class=\"about\">Decoded greedily, up to {} tokens.</p>", samples.max_new_tokens)
}

/// A prompt, the answers to it, and the best response of the data.
fn article(sample: &Sample, answers: &str) -> String {
    let best = text(&format!("best in the data, reward {}", number(sample.reward)), &sample.best);
    format!(
        "<article><p class=\"about\">{}</p>{}{}<div class=\"answers\">{answers}{best}</div></article>",
        escape(&sample.location),
        images(sample),
        text("prompt", &sample.prompt),
    )
}

/// The images of a prompt, side by side.
fn images(sample: &Sample) -> String {
    if sample.images.is_empty() {
        return String::new();
    }
    let shown: String = sample.images.iter().map(picture).collect();
    format!("<div class=\"gallery\">{shown}</div>")
}

fn text(label: &str, text: &str) -> String {
    let text = if text.is_empty() { "<span class=\"about\">(nothing)</span>".to_owned() } else { escape(text) };
    format!("<div><h4>{}</h4><p class=\"text\">{text}</p></div>", escape(label))
}
