//! The lines logged before a run's first step and after its last.

use collimate_data::{either, noun_for};
use collimate_objective::{Objective, registry};
use collimate_recipe::Recipe;
use collimate_report::{MetricsRow, Rounding, RunFacts};
use collimate_rewards::{effective_responses, entropy, reward_weights};
use collimate_store::Totals;

use super::TrainSummary;
use super::plan::expected_peak;
use super::run::Run;
use crate::dataset::DataSet;
use crate::error::TrainError;
use collimate_progress::{format_bytes, format_count};
use collimate_session::computed_in;
use collimate_session::{Outline, Session};

/// Describes a run before its first step: model, objective, data, steps and memory.
///
/// # Errors
/// A response does not fit into memory.
pub(super) fn start_lines(run: &Run<'_>, session: &dyn Session, outline: &Outline) -> Result<Vec<String>, TrainError> {
    let recipe = run.recipe;
    let mut lines = vec![model(session, recipe), objective(recipe, run.objective, &run.training)?];
    lines.push(data("data", run.training.totals()));
    lines.extend(run.held_out.as_ref().map(|held_out| data("held out", held_out.totals())));
    lines.push(steps(run));
    // One epoch is representative: later ones divide the same groups in another order.
    let num_steps = run.counts.total_steps.min(run.counts.steps_per_epoch);
    let facts = RunFacts::new(&recipe.resolved_yaml()?, None);
    lines.extend(facts.low_rate(run.counts.total_steps).map(|warning| format!("warning: {warning}")));
    let peak = expected_peak(run, num_steps, session.summary().num_trainable as u64)?;
    lines.push(format!("{}, about {} at the peak", run.budget.describe(), format_bytes(peak)));
    lines.extend(outline.allowance(recipe).note());
    if session.config().names_code() {
        lines.push(format!(
            "config.json names code of its own (auto_map), which is never run: the model is computed as {}",
            session.summary().architecture
        ));
    }
    Ok(lines)
}

fn model(session: &dyn Session, recipe: &Recipe) -> String {
    let summary = session.summary();
    let kind = match recipe.use_peft {
        true => format!("{} r {}", if recipe.use_dora { "DoRA" } else { "LoRA" }, recipe.lora_r),
        false => "full fine-tuning".to_owned(),
    };
    format!(
        "model: {}, {} parameters, {} trained ({:.2} %, {kind}), computed in {}",
        summary.architecture,
        format_count(summary.num_parameters),
        format_count(summary.num_trainable),
        100.0 * summary.num_trainable as f64 / summary.num_parameters as f64,
        computed_in(recipe),
    )
}

/// The objective with all its parameters and, if rewards weight the responses, how even the weights are.
fn objective(recipe: &Recipe, built: &dyn Objective, groups: &DataSet) -> Result<String, TrainError> {
    let spec = &recipe.objective;
    let mut params = registry::find(&spec.name).map(|plugin| plugin.defaults()).unwrap_or_default();
    if let Some(params) = params.as_object_mut() {
        params.extend(spec.params.clone());
    }
    let listed = params.as_object().into_iter().flatten().map(|(name, value)| format!("{name} {value}"));
    let listed = listed.collect::<Vec<_>>().join(", ");
    let mut line = format!("objective: {}", spec.name);
    if !listed.is_empty() {
        line += &format!(" ({listed})");
    }
    if !built.needs().reference {
        line += ", without a reference";
    }
    if let Some(alpha) = spec.alpha() {
        let (mut nats, mut responses) = (0.0, 0.0);
        for group in groups.store.heads() {
            let rewards: Vec<f64> = group?.responses.iter().map(|response| response.reward).collect();
            let weights = reward_weights(&rewards, alpha);
            nats += entropy(&weights);
            responses += effective_responses(&weights);
        }
        let mean = |sum: f64| sum / groups.len().max(1) as f64;
        line += &format!(
            "; weights softmax(reward/alpha) have {:.2} nats of entropy, as much as {:.1} responses of equal weight",
            mean(nats),
            mean(responses),
        );
    }
    Ok(line)
}

fn data(what: &str, totals: &Totals) -> String {
    let (least, most) = (totals.least_responses, totals.most_responses);
    let k = if least == most { most.to_string() } else { format!("{least} to {most}") };
    format!(
        "{what}: {}, {} (K {k}), {} prompt and {} response tokens; cut: {}, {}; {} with equal rewards",
        count(totals.num_groups, "prompt"),
        count(totals.num_responses, "response"),
        format_count(totals.prompt_tokens as usize),
        format_count(totals.response_tokens as usize),
        count(totals.cut_prompts, "prompt"),
        count(totals.cut_responses, "response"),
        count(totals.num_tied, "prompt"),
    )
}

/// A count with thousands separated, and its noun.
fn count(count: usize, noun: &str) -> String {
    format!("{} {}", format_count(count), noun_for(count, noun))
}

fn steps(run: &Run<'_>) -> String {
    let (recipe, counts) = (run.recipe, &run.counts);
    format!(
        "training: {} of {} ({:.2} epochs), learning rate {:e} ({} after {} of warm-up)",
        count(counts.total_steps, "step"),
        count(recipe.groups_per_step().min(run.training.len()), "prompt"),
        counts.total_steps as f64 / counts.steps_per_epoch as f64,
        recipe.learning_rate,
        recipe.lr_scheduler_type.name(),
        count(counts.warmup_steps, "step"),
    )
}

impl TrainSummary {
    /// The outcome of the run, in a few lines.
    pub fn lines(&self) -> Vec<String> {
        let samples = match self.sample_seconds {
            0.0 => String::new(),
            seconds => format!(", sample answers {seconds:.1} s"),
        };
        let mut lines = vec![format!("{} in {:.0} s{samples}", count(self.num_steps, "step"), self.seconds)];
        if let (Some(first), Some(last)) = (&self.first, &self.last) {
            lines.extend(change("training", "", first, last));
        }
        if let [first, last] = self.evaluations.as_slice() {
            lines.extend(change("held out", "eval_", first, last));
        }
        lines.extend(self.best.iter().map(|best| best.line.clone()));
        if self.num_skipped_steps > 0 {
            lines.push(format!(
                "{} {} left out: a figure was not finite",
                count(self.num_skipped_steps, "step"),
                either(self.num_skipped_steps, "was", "were")
            ));
        }
        if !self.rank_memory.is_empty() {
            let held: Vec<String> = self.rank_memory.iter().map(|bytes| format_bytes(*bytes)).collect();
            lines.push(format!("most memory by rank: {}", held.join(", ")));
        }
        lines.extend(self.rounding.as_ref().map(Rounding::line));
        lines.extend(self.verdict.iter().map(|verdict| format!("warning: {verdict}")));
        lines.push(format!("report: {}", self.output_dir.join("report.html").display()));
        lines
    }
}

/// Formats the figures present in both rows, before and after; once if they are the same row.
fn change(what: &str, prefix: &str, first: &MetricsRow, last: &MetricsRow) -> Option<String> {
    let figures = [
        ("loss", "loss", 1.0, ""),
        ("accuracy", "rewards/accuracies", 100.0, " %"),
        ("margin", "rewards/margins", 1.0, ""),
        ("chosen against the reference", "log_ratios/chosen", 1.0, " nats"),
    ];
    let is_one = first.get("step") == last.get("step");
    let figure = |(label, name, scale, unit): (&str, &str, f64, &str)| {
        let value = |row: &MetricsRow| row.get(&format!("{prefix}{name}")).map(|value| value * scale);
        let (before, after) = (value(first)?, value(last)?);
        let decimals = if scale > 1.0 { 1 } else { 4 };
        if is_one {
            return Some(format!("{label} {after:.decimals$}{unit}"));
        }
        Some(format!("{label} {before:.decimals$} -> {after:.decimals$}{unit}"))
    };
    let listed: Vec<String> = figures.into_iter().filter_map(figure).collect();
    let rows = if is_one { "one row of metrics" } else { "first to last" };
    (!listed.is_empty()).then(|| format!("{what}, {rows}: {}", listed.join(", ")))
}

#[cfg(test)]
mod tests {
    use collimate_text::{TokenizedGroup, TokenizedResponse};

    use super::super::SavedBest;
    use super::*;

    #[test]
    fn the_summary_shows_what_changed() {
        let row = |step: u64, loss: f64, prefix: &str| {
            let mut row = MetricsRow::default();
            row.set_count("step", step);
            row.set(&format!("{prefix}loss"), loss);
            row.set(&format!("{prefix}rewards/accuracies"), loss / 2.0);
            row
        };
        let summary = TrainSummary {
            output_dir: "runs/a".into(),
            num_steps: 1200,
            num_groups: 4,
            base_hash: None,
            first: Some(row(1, 1.0, "")),
            last: Some(row(1200, 0.5, "")),
            evaluations: vec![row(0, 1.0, "eval_"), row(1200, 0.25, "eval_")],
            best: Some(SavedBest { step: 600, line: "the best".to_owned() }),
            num_skipped_steps: 0,
            rounding: None,
            chosen_alarm: None,
            verdict: None,
            seconds: 61.4,
            sample_seconds: 2.04,
            rank_memory: vec![512 << 20, 768 << 20],
        };
        assert_eq!(
            summary.lines(),
            [
                "1,200 steps in 61 s, sample answers 2.0 s",
                "training, first to last: loss 1.0000 -> 0.5000, accuracy 50.0 -> 25.0 %",
                "held out, first to last: loss 1.0000 -> 0.2500, accuracy 50.0 -> 12.5 %",
                "the best",
                "most memory by rank: 512.0 MiB, 768.0 MiB",
                "report: runs/a/report.html",
            ]
        );
    }

    #[test]
    fn figures_of_one_row_are_said_once() {
        let mut row = MetricsRow::default();
        row.set_count("step", 6);
        row.set("loss", 0.5);
        assert_eq!(change("training", "", &row, &row).as_deref(), Some("training, one row of metrics: loss 0.5000"));
    }

    #[test]
    fn data_is_counted() {
        let response = |reward: f64, num_cut: usize| TokenizedResponse { ids: vec![1; 3], reward, num_cut };
        let group = |responses: Vec<TokenizedResponse>| TokenizedGroup {
            prompt_ids: vec![1; 4],
            num_prompt_cut: 1,
            responses,
            ..TokenizedGroup::default()
        };
        let groups = [
            group(vec![response(1.0, 0), response(1.0, 2)]),
            group(vec![response(1.0, 0), response(0.0, 0), response(0.0, 0)]),
        ];
        let mut totals = Totals::default();
        groups.iter().for_each(|group| totals.add(group));
        assert_eq!(
            data("data", &totals),
            "data: 2 prompts, 5 responses (K 2 to 3), 8 prompt and 15 response tokens; cut: 2 prompts, 1 response; 1 prompt with equal rewards"
        );
    }
}
