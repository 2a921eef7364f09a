//! `collimate data`: inspect data before training on it.

mod check;
mod convert;
mod preview;
mod stats;

use clap::Subcommand;

use crate::error::CliError;
use crate::io::Io;

/// Check, preview, convert and describe reward and preference data
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  collimate data check rewards.jsonl --model models/base")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Check(check::Args),
    Preview(preview::Args),
    Convert(convert::Args),
    Stats(stats::Args),
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        match self.verb {
            Verb::Check(args) => args.run(io),
            Verb::Preview(args) => args.run(io),
            Verb::Convert(args) => args.run(io),
            Verb::Stats(args) => args.run(io),
        }
    }
}
