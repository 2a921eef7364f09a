//! `collimate completions`: shell completion.

use clap::Command;
use clap_complete::{Shell, generate};

use crate::error::CliError;
use crate::io::Io;

/// Print a shell completion script
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  collimate completions bash > ~/.local/share/bash-completion/completions/collimate")]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

impl Args {
    /// Prints the script for this command line.
    pub(crate) fn run(self, mut command: Command, io: &mut Io<'_>) -> Result<(), CliError> {
        let mut script = Vec::new();
        generate(self.shell, &mut command, "collimate", &mut script);
        io.out.write_all(&script).map_err(|source| CliError::Output { source })
    }
}
