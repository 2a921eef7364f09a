//! `collimate tune`: chooses beta, alpha and the learning rate by short runs.

use std::path::PathBuf;

use collimate_files::{WriteError, write_atomically};
use collimate_train::TrainError;
use collimate_tune::{Range, RewardScore, TuneError, TuneOptions, check, tune};

use super::overwrite::Overwrite;
use super::ranks::only_alone;
use super::recipe_options::RecipeOptions;
use super::reward::ProgramManner;
use crate::error::CliError;
use crate::io::Io;

/// Choose beta, alpha and the learning rate of a recipe by short runs within a budget of time
///
/// Draws settings around the recipe's own, runs all of them for a few steps over one cached reference, lets the better half go
/// on twice as far, and so on; the last two are run again with other seeds. The score is the accuracy of implicit rewards on
/// held-out data; with --command and --prompts it is the mean reward of sampled answers. Writes the recipe with the best
/// setting, and tune.html and tune.jsonl with every run into the folder of the runs. An interrupted tuning goes on with --resume.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  collimate tune recipe.yaml --budget 20m --output tuned.yaml\n  \
                  collimate tune recipe.yaml --budget 1h --range learning_rate=1e-6..1e-4 --output tuned.yaml")]
pub(crate) struct Args {
    #[command(flatten)]
    recipe: RecipeOptions,
    /// File of groups to train on
    #[arg(long, value_name = "FILE")]
    data: Option<String>,
    /// Time to take: 90s, 20m or 2h. A run that has begun is still taken to its next rung
    #[arg(long, value_name = "TIME", default_value = "20m", value_parser = seconds)]
    budget: f64,
    /// Settings to try, the recipe's own among them
    #[arg(long, value_name = "N", default_value_t = 8)]
    candidates: usize,
    /// Seeds to run each of the last two with
    #[arg(long, value_name = "N", default_value_t = 2)]
    seeds: usize,
    /// Range to draw learning_rate, beta or alpha from, evenly by the logarithm [default: a factor of five either way]; may be
    /// given for each
    #[arg(long = "range", value_name = "KEY=LOW..HIGH")]
    ranges: Vec<Range>,
    /// Score sampled answers with this program and its arguments, as `collimate reward` does, in place of held-out accuracy
    #[arg(long, value_name = "'PROGRAM ARGS'", requires = "prompts")]
    command: Option<String>,
    #[command(flatten)]
    manner: ProgramManner,
    /// File of held-out prompts for --command, one JSON object per line; other fields are passed to the program
    #[arg(long, value_name = "FILE", requires = "command")]
    prompts: Option<PathBuf>,
    /// Answers to each of these prompts
    #[arg(long, value_name = "K", default_value_t = 4)]
    num_responses: usize,
    /// Longest of these answers in tokens
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_new_tokens: usize,
    /// Recipe to write
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    overwrite: Overwrite,
    /// Folder of the runs [default: the name of the output with -tune in place of its ending]
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Go on with the tuning in that folder
    #[arg(long)]
    resume: bool,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        only_alone("tune")?;
        if self.num_responses == 0 || self.max_new_tokens == 0 {
            return Err(CliError::usage("--num-responses and --max-new-tokens must be at least 1"));
        }
        self.overwrite.check(&self.output, &[])?;
        let recipe = self.recipe.load(&[("data", &self.data)], io)?;
        let reward = match (&self.command, &self.prompts) {
            (Some(command), Some(prompts)) => Some(RewardScore {
                program: self.manner.resolve(command)?,
                prompts: prompts.clone(),
                num_responses: self.num_responses,
                max_new_tokens: self.max_new_tokens,
            }),
            (Some(_), None) => {
                return Err(CliError::usage("--command needs --prompts, the held-out prompts to answer"));
            }
            (None, _) => None,
        };
        let options = TuneOptions {
            recipe,
            folder: self.folder(),
            budget: self.budget,
            candidates: self.candidates,
            seeds: self.seeds,
            ranges: self.ranges.clone(),
            reward,
            resume: self.resume,
        };
        check(&options).map_err(|error| self.at_key(error))?;
        std::fs::create_dir_all(&options.folder).map_err(WriteError::at(&options.folder))?;
        let tuned = {
            let signals = io.signals.clone();
            let mut observer = io.observer(self.quiet);
            let result = signals.after_the_step(|stop| tune(&options, stop, &mut *observer));
            result.map_err(|error| self.at_key(error))?
        };
        let text = tuned.recipe_text()?;
        let rows: String = tuned.rows().iter().map(|row| format!("{row}\n")).collect();
        write_atomically(&options.folder.join("tune.jsonl"), rows.as_bytes())?;
        let page = options.folder.join("tune.html");
        write_atomically(&page, tuned.page().as_bytes())?;
        write_atomically(&self.output, text.as_bytes())?;
        tuned.lines().iter().try_for_each(|line| io.line(format_args!("{line}")))?;
        io.line(format_args!("{}", page.display()))?;
        io.line(format_args!("{}", self.output.display()))
    }

    /// Where the runs are.
    fn folder(&self) -> PathBuf {
        let beside = || {
            let stem = self.output.file_stem().unwrap_or_default().to_string_lossy();
            self.output.with_file_name(format!("{stem}-tune"))
        };
        self.work.clone().unwrap_or_else(beside)
    }

    /// Adds the position in the recipe to an error about a value of it.
    fn at_key(&self, error: TuneError) -> CliError {
        match error {
            TuneError::Train(error @ TrainError::RecipeValue { .. }) => self.recipe.at_key(error),
            error => error.into(),
        }
    }
}

/// A time such as `90s`, `20m` or `1.5h`, in seconds.
fn seconds(text: &str) -> Result<f64, String> {
    let expected = || "expected a time such as 90s, 20m or 2h".to_owned();
    let units = [('s', 1.0), ('m', 60.0), ('h', 3600.0)];
    let (unit, scale) = units.into_iter().find(|(unit, _)| text.ends_with(*unit)).ok_or_else(expected)?;
    let number: f64 = text.trim_end_matches(unit).parse().map_err(|_| expected())?;
    if number.is_finite() && number > 0.0 { Ok(number * scale) } else { Err(expected()) }
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn times_have_a_unit() {
        assert_eq!([seconds("90s"), seconds("20m"), seconds("1.5h")], [Ok(90.0), Ok(1200.0), Ok(5400.0)]);
        for text in ["", "20", "m", "-3m", "0s", "infs", "1d"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
