//! `collimate quickstart-assets`: remakes the quickstart's base model.

use std::path::PathBuf;

use collimate_counting::assets as counting;
use collimate_pictures::assets as pictures;
use collimate_quickstart::assets::{BaseOptions, make_base};

use crate::error::CliError;
use crate::io::Io;

/// Make the quickstart's base model from scratch: supervised training on generated solutions
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  collimate quickstart-assets --output runs/base")]
pub(crate) struct Args {
    /// Folder for the model; intermediate files go into subfolders
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Seed of weights, problems and slips
    #[arg(long, default_value_t = BaseOptions::default().seed)]
    seed: u64,
    /// Optimizer steps
    #[arg(long, default_value_t = BaseOptions::default().steps)]
    steps: usize,
    /// Problems per step
    #[arg(long, default_value_t = BaseOptions::default().batch_size)]
    batch_size: usize,
    /// Peak learning rate
    #[arg(long, default_value_t = BaseOptions::default().learning_rate)]
    learning_rate: f64,
    /// Make the generator of pictures instead
    #[arg(long, conflicts_with = "images")]
    visual: bool,
    /// Make the small Qwen2-VL that counts shapes instead; --steps and the like are those of its own
    #[arg(long)]
    images: bool,
    /// Share of the solutions with a slip
    #[arg(long, default_value_t = BaseOptions::default().mistakes)]
    mistakes: f64,
    /// Share of the three-step problems whose solution stops before the last step
    #[arg(long, default_value_t = BaseOptions::default().habit)]
    habit: f64,
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        if self.images {
            let options = counting::BaseOptions { seed: self.seed, ..counting::BaseOptions::default() };
            {
                let mut observer = io.observer(false);
                counting::make_base(&self.output, &options, &mut *observer)?;
            }
            return io.line(format_args!("{}", self.output.display()));
        }
        if self.visual {
            let options = pictures::BaseOptions { seed: self.seed, ..pictures::BaseOptions::default() };
            {
                let mut observer = io.observer(false);
                pictures::make_base(&self.output, &options, &mut *observer)?;
            }
            return io.line(format_args!("{}", self.output.display()));
        }
        let options = BaseOptions {
            seed: self.seed,
            steps: self.steps,
            batch_size: self.batch_size,
            learning_rate: self.learning_rate,
            mistakes: self.mistakes,
            habit: self.habit,
        };
        {
            let mut observer = io.observer(false);
            make_base(&self.output, &options, &mut *observer)?;
        }
        io.line(format_args!("{}", self.output.display()))
    }
}
