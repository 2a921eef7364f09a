//! `collimate train --quickstart visual`: a generator of pictures learns to do without guidance.

use collimate_objective::registry;
use collimate_pictures::pipeline::{self, GRID};

use super::watch::Serve;
use crate::error::CliError;
use crate::io::Io;

/// The built-in tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Task {
    /// Word problems, with a verifier
    Problems,
    /// Pictures of shapes, with a classifier
    Visual,
    /// Questions about images, with a verifier
    Images,
}

/// Objectives that the task of pictures has data for: one picture a row, and its class.
const OBJECTIVES: [&str; 2] = ["cca", "sft"];

/// What was asked for.
pub(super) struct Quickstart {
    pub(super) settings: Vec<(String, String)>,
    /// Pictures to align with.
    pub(super) num_pictures: usize,
    /// Whether a folder was named.
    pub(super) has_output: bool,
    pub(super) quiet: bool,
    pub(super) serve: Serve,
}

impl Quickstart {
    /// # Errors
    /// An objective that needs rewards, or any error of the run.
    pub(super) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        let mut recipe = pipeline::recipe(&self.settings)?;
        let name = recipe.objective.name.clone();
        registry::build(&name, &recipe.objective.params)?;
        if !OBJECTIVES.contains(&name.as_str()) {
            let problem =
                format!("--quickstart visual: its pictures have no rewards, which {name} needs; use cca or sft");
            return Err(CliError::usage(problem));
        }
        if !self.has_output {
            recipe.output_dir = pipeline::free_folder(&name);
        }
        io.log_to(recipe.log_file.as_deref())?;
        let _page = self.serve.begin(&recipe.output_dir, io)?;
        let summary = {
            let signals = io.signals.clone();
            let mut observer = io.observer(self.quiet);
            signals.after_the_step(|stop| pipeline::run(recipe, self.num_pictures, &mut *observer, stop))?
        };
        let share = |quality: pipeline::Quality| format!("{:>5.1} %", 100.0 * quality.accuracy);
        io.note(format_args!("pictures that show their class ({:.0} s in all)", summary.seconds));
        io.note(format_args!("  without guidance     {} -> {}", share(summary.before), share(summary.after)));
        io.note(format_args!("  with guidance before {}", share(summary.guided)));
        io.note(format_args!("report: {}", summary.output_dir.join("report.html").display()));
        io.note(format_args!("pictures before, with guidance, after: {}", summary.output_dir.join(GRID).display()));
        io.line(format_args!("{}", summary.output_dir.display()))
    }
}
