//! The head of a run's page: what was trained, on what, where, when, and how far it has come.

use super::clock::clock;
use crate::charts::escape;
use crate::history::History;
use crate::numbers::{duration, number, plural, short, thousands};
use crate::run_info::RunInfo;

/// Facts of a run by name, for its head and for comparisons. The clock's are apart.
pub(super) fn facts(info: &RunInfo) -> [(&'static str, String); 4] {
    let share = 100.0 * info.num_trainable as f64 / info.num_parameters.max(1) as f64;
    let model = format!(
        "{}: {}, {} parameters, {} trained ({}, {} %), computed in {}",
        short_name(&info.model),
        info.architecture,
        thousands(info.num_parameters),
        thousands(info.num_trainable),
        info.trained,
        number(share),
        info.compute_dtype
    );
    let parameter = |(name, value): (&String, &serde_json::Value)| match value.as_f64() {
        Some(number) => format!("{name} {}", short(number)),
        None => format!("{name} {value}"),
    };
    let parameters: Vec<String> = info.parameters.iter().map(parameter).collect();
    let parameters = if parameters.is_empty() { String::new() } else { format!(" ({})", parameters.join(", ")) };
    let held_out = match info.num_held_out {
        0 => "none held out".to_owned(),
        count => format!("{} held out", plural(count, "prompt")),
    };
    let responses = plural(info.num_responses, "response");
    let data = format!("{}: {}, {responses}; {held_out}", info.data, plural(info.num_prompts, "prompt"));
    [
        ("model", model),
        ("objective", format!("{}{parameters}", info.objective)),
        ("data", data),
        ("device", info.device.clone()),
    ]
}

/// A model's name with the first digits of its commit.
fn short_name(model: &str) -> String {
    match model.split_once('@') {
        Some((name, commit)) => format!("{name}@{}", commit.chars().take(8).collect::<String>()),
        None => model.to_owned(),
    }
}

/// When a run began, and how long it took.
pub(super) fn times(info: &RunInfo) -> [(&'static str, String); 2] {
    let started = info.started.replace('T', " ").replace('Z', " UTC");
    [("date", started), ("time", duration(info.seconds))]
}

/// The head of a page with what is known of its run.
pub(super) fn head(info: Option<&RunInfo>, history: &History) -> String {
    let entry = |(name, text): &(&str, String)| format!("<div><dt>{name}</dt><dd>{}</dd></div>", escape(text));
    let known = info.map(|info| {
        let timed: String = times(info).iter().map(entry).collect();
        facts(info).iter().map(entry).collect::<String>() + &clock(&timed)
    });
    let steps = format!("<div><dt>steps</dt><dd>{}</dd></div>", progress(info, history));
    format!("<dl class=\"head\">{}{steps}</dl>", known.unwrap_or_default())
}

/// How far a run has come, its tokens and its speed.
fn progress(info: Option<&RunInfo>, history: &History) -> String {
    let Some(last) = history.progress() else { return "No step was recorded.".to_owned() };
    let done = last.step as usize;
    let mut html = match info.map(|info| info.total_steps) {
        Some(total) if done < total => {
            format!(
                "<strong>{} of {}</strong>: not finished when this page was written",
                thousands(done),
                thousands(total)
            )
        }
        _ => thousands(done),
    };
    if let Some(epoch) = last.epoch {
        html += &format!(", {} epoch{}", number(epoch), if epoch == 1.0 { "" } else { "s" });
    }
    if let Some(tokens) = last.num_tokens {
        html += &format!(", {} tokens", thousands(tokens as usize));
    }
    if let Some(seconds) = history.mean_seconds() {
        let rate = history.mean_rate().map(|rate| format!(", {} tokens/s", number(rate))).unwrap_or_default();
        let steps = info.map_or(0, |info| info.total_steps).saturating_sub(done);
        let left = if steps > 0 { format!(", about {} left", duration(seconds * steps as f64)) } else { String::new() };
        html += &clock(&format!(", {} a step{rate}{left}", duration(seconds)));
    }
    html
}
