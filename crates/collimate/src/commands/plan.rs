//! `collimate plan`: forecasts a run.

use std::fmt::Write;

use collimate_data::{counted, either, noun_for};
use collimate_disk::PlannedDisk;
use collimate_train::{
    InputsIn, Plan, PlanOptions, PlannedRanks, PlannedTime, TokenBasis, format_bytes, format_count, format_seconds,
};
use serde_json::json;

use super::recipe_options::RecipeOptions;
use crate::error::CliError;
use crate::io::Io;

/// Forecast a run's memory, tokens, steps, disk and, with --measure, time
///
/// The model needs no weights; a folder with its config.json is enough. The data is counted in tokens if the tokenizer is there,
/// else at four characters per token; without data every prompt and response is as long as the recipe allows. Nothing is
/// written.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  collimate plan recipe.yaml --set memory_budget=16GiB --measure")]
pub(crate) struct Args {
    #[command(flatten)]
    recipe: RecipeOptions,
    /// File of groups to train on
    #[arg(long, value_name = "FILE")]
    data: Option<String>,
    /// Responses per prompt if there is no data
    #[arg(long, value_name = "K", default_value_t = 4)]
    num_responses: usize,
    /// Processes of the run: the memory of each, what they exchange in a step, and with --measure how fast that must be
    #[arg(long, value_name = "N", default_value_t = 1)]
    ranks: usize,
    /// Run up to three steps in memory to measure the time; needs the weights
    #[arg(long)]
    measure: bool,
    /// Print everything as JSON, sizes in bytes and times in seconds
    #[arg(long)]
    json: bool,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        let recipe = self.recipe.load(&[("data", &self.data)], io)?;
        let options =
            PlanOptions { measure: self.measure, num_responses: self.num_responses.max(1), ranks: self.ranks.max(1) };
        let plan = {
            let mut observer = io.observer(self.quiet);
            collimate_train::plan(&recipe, &options, &mut *observer).map_err(|error| self.recipe.at_key(error))?
        };
        if self.json { io.json(&json!(plan)) } else { io.line(format_args!("{}", in_lines(&plan).trim_end())) }
    }
}

/// Formats the plan as text.
fn in_lines(plan: &Plan) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<14}{value}");
    };
    let model = &plan.model;
    let share = 100.0 * model.num_trained as f64 / model.num_parameters.max(1) as f64;
    line(
        "model",
        format!(
            "{}, {} parameters, {} trained ({share:.2} %)",
            model.architecture,
            count(model.num_parameters),
            count(model.num_trained)
        ),
    );
    line("  forward", format!("{:.3} GFLOP a token", model.operations_per_token as f64 / 1e9));
    let memory = &plan.memory;
    // One figure: what the run will hold, or if that is too much, what it needs.
    line(
        "memory",
        match memory.fits {
            true => format!("{} at most", format_bytes(memory.peak)),
            false => format!("{} at least, of which", format_bytes(memory.smallest_budget)),
        },
    );
    for (name, bytes) in [
        ("weights", memory.weights),
        ("gradients", memory.gradients),
        ("moments", memory.moments),
        ("activations", memory.activations),
        ("objective", memory.objective),
        ("overhead", memory.overhead),
    ] {
        line(&format!("  {name}"), format_bytes(bytes));
    }
    if memory.unpacking > 0 {
        line("  unpacking", format_bytes(memory.unpacking));
    }
    if memory.in_files > 0 {
        line("  in files", format!("{} of weights are read as they are used", format_bytes(memory.in_files)));
    }
    line("budget", budget(plan));
    let data = &plan.data;
    let basis = match data.basis {
        TokenBasis::Tokenizer => "",
        TokenBasis::Characters => " (the model has no tokenizer: four characters a token)",
        TokenBasis::Longest => " (no data: one step of prompts and responses of the greatest length)",
    };
    line("data", format!("{}, {}{basis}", many(data.num_groups, "prompt"), many(data.num_responses, "response")));
    line("  tokens", format!("{} of prompts, {} of responses", count(data.prompt_tokens), count(data.response_tokens)));
    line("  cut", format!("{}, {}", many(data.cut_prompts, "prompt"), many(data.cut_responses, "response")));
    line("  longest", format!("{}, prompt and response", many(data.longest, "token")));
    steps(plan, &mut line);
    plan.ranks.iter().for_each(|planned| ranks(planned, &mut line));
    text
}

fn budget(plan: &Plan) -> String {
    let memory = &plan.memory;
    let Some(budget) = memory.budget else { return "not bounded".to_owned() };
    let origin = memory.budget_origin.as_ref().map(|origin| format!(" ({origin})")).unwrap_or_default();
    let fits = if memory.fits { "it fits" } else { "it does NOT fit" };
    format!("{}{origin}: {fits}", format_bytes(budget))
}

fn steps(plan: &Plan, line: &mut impl FnMut(&str, String)) {
    let steps = &plan.steps;
    let total = steps.total.map_or("as many as the data gives".to_owned(), |total| total.to_string());
    line("steps", format!("{total}, of {}", many(steps.groups_per_step, "prompt")));
    let blockwise = match steps.num_blockwise {
        0 => "",
        _ => "; those of a micro-batch wait for their backward pass together where memory allows",
    };
    line("  packs", format!("{:.2} a step, {} at most{blockwise}", steps.packs_per_step, steps.most_packs));
    for inputs in &steps.inputs {
        line("  inputs", format!("of blocks {}, {}", format_bytes(inputs.bytes), place(&inputs.place)));
    }
    let (tokens, kept) = (steps.pack_tokens, steps.kept_blocks);
    line(
        "  largest",
        format!(
            "{}; {} {} activations, the others run again",
            counted(tokens, "token"),
            counted(kept, "block"),
            either(kept, "keeps its", "keep their")
        ),
    );
    line("  tokens", format!("{} {}", count(steps.tokens), if steps.total.is_some() { "in all" } else { "a step" }));
    let disk = &plan.disk;
    let kept = disk.num_checkpoints.map(|count| format!(", {count} of them stay")).unwrap_or_default();
    let most = disk.most_checkpoints.map(|most| format!(", at most {most} at once")).unwrap_or_default();
    line("disk", self::disk(disk));
    line("  checkpoint", format!("{}{kept}{most}", format_bytes(disk.checkpoint)));
    line("  model", format_bytes(disk.model));
    line("  metrics", format_bytes(disk.metrics));
    if let Some(time) = &plan.time {
        self::time(time, line);
    }
}

fn ranks(planned: &PlannedRanks, line: &mut impl FnMut(&str, String)) {
    let count = planned.ranks;
    line("processes", format!("{count}; the memory above is that of each, steps and tokens are those of all"));
    line("  exchange", format!("{} a step from each, and as much to it", format_bytes(planned.traffic)));
    if let Some(bandwidth) = planned.bandwidth {
        let rate = format_bytes(bandwidth as u64);
        line("", format!("at {rate} a second that takes a tenth of the time in which a step is computed"));
    }
}

/// Where inputs of blocks wait, in words.
fn place(place: &InputsIn) -> String {
    match place {
        InputsIn::Device => "on the device".to_owned(),
        InputsIn::Host => "in the memory of the host".to_owned(),
        InputsIn::File(folder) => format!("in a file without a name in {}, during a step", folder.display()),
    }
}

fn disk(disk: &PlannedDisk) -> String {
    let needed = disk.peak.map_or("depends on the steps".to_owned(), |peak| format!("{} at most", format_bytes(peak)));
    match (disk.free.map(format_bytes), disk.fits()) {
        (None, _) => needed,
        (Some(free), true) => format!("{needed}; {free} are free"),
        (Some(free), false) => format!("{needed}: it does NOT fit, {free} are free"),
    }
}

fn time(time: &PlannedTime, line: &mut impl FnMut(&str, String)) {
    let total = time.total_seconds.map_or("depends on the steps".to_owned(), format_seconds);
    line("time", format!("{total}, without reading, evaluation and writing"));
    line("  reference", format!("{}, less where it is cached", format_seconds(time.reference_seconds)));
    let speed = time.tokens_per_second;
    line(
        "  step",
        format!(
            "{} ({speed:.0} tokens a second, {} measured)",
            format_seconds(time.step_seconds),
            counted(time.measured_steps, "step")
        ),
    );
}

/// A count with thousands separated, and its noun.
fn many(count: usize, noun: &str) -> String {
    format!("{} {}", format_count(count), noun_for(count, noun))
}

fn count(number: u64) -> String {
    format_count(usize::try_from(number).unwrap_or(usize::MAX))
}
