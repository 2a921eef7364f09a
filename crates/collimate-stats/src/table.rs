//! Formats statistics as a table.

use collimate_data::counted;
use std::collections::BTreeMap;
use std::fmt;

use super::{LengthSummary, StatsSummary};

impl fmt::Display for StatsSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |count: usize| format!("{count} ({:.1} %)", 100.0 * count as f64 / self.num_groups.max(1) as f64);
        line(f, "groups", &self.num_groups.to_string())?;
        line(f, "responses", &self.num_responses.to_string())?;
        line(f, "groups by K", &counts(&self.groups_by_num_responses))?;
        line(f, "all rewards equal", &share(self.num_all_tied))?;
        line(f, "best reward shared", &share(self.num_best_tied))?;
        line(f, "position of the best", &counts(&self.best_index))?;
        if let (Some(mean), Some(deviation)) = (self.reward_mean, self.reward_deviation) {
            line(f, "reward", &format!("mean {mean:.4}, deviation {deviation:.4}"))?;
        }
        let lengths = [
            ("prompt characters", self.prompt_chars),
            ("response characters", self.response_chars),
            ("prompt tokens", self.prompt_tokens),
            ("response tokens", self.response_tokens),
        ];
        for (name, summary) in lengths {
            summary.map_or(Ok(()), |summary| line(f, name, &summary.to_string()))?;
        }
        if let Some(images) = &self.images {
            line(f, "images", &images.count.to_string())?;
            line(f, "image widths", &images.width.to_string())?;
            line(f, "image heights", &images.height.to_string())?;
            images.tokens.map_or(Ok(()), |tokens| line(f, "image tokens", &tokens.to_string()))?;
        }
        line(f, "length and reward", &self.correlations())?;
        if let (Some(alpha), Some(entropy), Some(effective)) =
            (self.alpha, self.mean_entropy, self.mean_effective_responses)
        {
            let weights = format!("entropy {entropy:.4} nats, {effective:.2} effective responses (means)");
            line(f, &format!("weights at α {alpha}"), &weights)?;
        }
        let cut =
            format!("{}, {}", counted(self.num_prompts_cut, "prompt"), counted(self.num_responses_cut, "response"));
        line(f, "cut", &cut)?;
        let unusable: Vec<String> = self.unusable.iter().map(|(reason, count)| format!("{reason}: {count}")).collect();
        line(f, "unusable", if unusable.is_empty() { "0".to_owned() } else { unusable.join(", ") }.as_str())
    }
}

impl StatsSummary {
    fn correlations(&self) -> String {
        let number = |value: Option<f64>| value.map_or("undefined".to_owned(), |value| format!("{value:+.3}"));
        let within = number(self.length_reward_correlation_within_prompts);
        format!("correlation {} overall, {within} within prompts", number(self.length_reward_correlation))
    }
}

impl fmt::Display for LengthSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { min, mean, p50, p95, p99, max } = self;
        write!(f, "min {min}, mean {mean:.1}, p50 {p50}, p95 {p95}, p99 {p99}, max {max}")
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, value: &str) -> fmt::Result {
    writeln!(f, "{name:<21}{value}")
}

/// At most twelve entries of a histogram in one line.
fn counts(histogram: &BTreeMap<usize, usize>) -> String {
    let mut items: Vec<String> = histogram.iter().take(12).map(|(key, count)| format!("{key}: {count}")).collect();
    if histogram.len() > items.len() {
        items.push(format!("and {} more", histogram.len() - items.len()));
    }
    items.join(", ")
}
