//! The lines logged before a run's first step.

use collimate_data::noun_for;
use collimate_objective::{Objective, registry};
use collimate_recipe::Recipe;
use collimate_report::RunFacts;
use collimate_rewards::{effective_responses, entropy, reward_weights};
use collimate_store::Totals;

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

#[cfg(test)]
mod tests {
    use collimate_text::{TokenizedGroup, TokenizedResponse};

    use super::*;

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
