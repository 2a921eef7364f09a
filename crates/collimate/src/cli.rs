//! The verbs of the command line.

use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};

use crate::commands::{
    backends, completions, data, dial, explain, export, generate, man, merge, objective_values, objectives, plan,
    quickstart_assets, quickstart_task, quickstart_verifier, recipe_keys, report, reward, rounds, sample, schema,
    score, train, tune, watch,
};
use crate::error::CliError;
use crate::io::Io;

/// Aligns language models from explicit rewards.
#[derive(Debug, Parser)]
#[command(name = "collimate", version, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Use no network: take models and data sets named on the Hugging Face Hub from its cache only
    #[arg(long, global = true)]
    pub(crate) offline: bool,
    /// Append every line of the log to this file too, with its time
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Train(train::Args),
    Plan(plan::Args),
    Score(Box<score::Args>),
    Data(data::Args),
    Objectives(objectives::Args),
    ObjectiveValues(objective_values::Args),
    Backends(backends::Args),
    Generate(generate::Args),
    Sample(sample::Args),
    Reward(reward::Args),
    Loop(rounds::Args),
    Merge(merge::Args),
    Export(export::Args),
    Report(report::Args),
    Watch(watch::Args),
    Dial(dial::Args),
    Explain(explain::Args),
    Tune(Box<tune::Args>),
    RecipeKeys(recipe_keys::Args),
    Schema(schema::Args),
    QuickstartTask(quickstart_task::Args),
    QuickstartVerifier(quickstart_verifier::Args),
    Completions(completions::Args),
    Man(man::Args),
    #[command(hide = true)]
    QuickstartAssets(quickstart_assets::Args),
}

impl Command {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        match self {
            Self::Train(args) => args.run(io),
            Self::Plan(args) => args.run(io),
            Self::Score(args) => args.run(io),
            Self::Data(args) => args.run(io),
            Self::Objectives(args) => args.run(io),
            Self::ObjectiveValues(args) => args.run(io),
            Self::Backends(args) => args.run(io),
            Self::Generate(args) => args.run(io),
            Self::Sample(args) => args.run(io),
            Self::Reward(args) => args.run(io),
            Self::Loop(args) => args.run(io),
            Self::Merge(args) => args.run(io),
            Self::Export(args) => args.run(io),
            Self::Report(args) => args.run(io),
            Self::Watch(args) => args.run(io),
            Self::Dial(args) => args.run(io),
            Self::Explain(args) => args.run(io),
            Self::Tune(args) => args.run(io),
            Self::RecipeKeys(args) => args.run(io),
            Self::Schema(args) => args.run(io),
            Self::QuickstartTask(args) => args.run(io),
            Self::QuickstartVerifier(args) => args.run(io),
            Self::Completions(args) => args.run(Cli::command(), io),
            Self::Man(args) => args.run(Cli::command(), io),
            Self::QuickstartAssets(args) => args.run(io),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_has_an_example() {
        let cli = Cli::command();
        let mut verbs: Vec<_> = cli.get_subcommands().collect();
        verbs.extend(cli.get_subcommands().flat_map(|verb| verb.get_subcommands()));
        for verb in verbs.into_iter().filter(|verb| verb.get_name() != "help" && !verb.has_subcommands()) {
            let after = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains("Example:\n  collimate "), "{}", verb.get_name());
            assert!(verb.get_about().is_some(), "{}", verb.get_name());
        }
    }
}
