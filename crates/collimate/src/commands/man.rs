//! `collimate man`: manual pages.

use std::path::{Path, PathBuf};

use clap::Command;
use clap_mangen::Man;
use collimate_files::write_atomically;

use crate::error::CliError;
use crate::io::Io;

/// Print the manual page, or write one for every verb
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  collimate man | man -l -")]
pub(crate) struct Args {
    /// Write the pages of all verbs into this folder, for example collimate-train.1
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

impl Args {
    /// Prints or writes the pages of this command line.
    pub(crate) fn run(self, mut command: Command, io: &mut Io<'_>) -> Result<(), CliError> {
        command.build();
        match &self.output {
            None => {
                let page = page(command).map_err(|source| CliError::Output { source })?;
                io.out.write_all(&page).map_err(|source| CliError::Output { source })
            }
            Some(folder) => {
                std::fs::create_dir_all(folder).map_err(CliError::write(folder))?;
                write_pages(folder, command)
            }
        }
    }
}

fn page(command: Command) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    Man::new(command).render(&mut text)?;
    Ok(text)
}

/// Writes a page for the command and for each verb that is not hidden.
fn write_pages(folder: &Path, command: Command) -> Result<(), CliError> {
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        write_pages(folder, verb.clone())?;
    }
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let path = folder.join(format!("{name}.1"));
    let text = page(command).map_err(CliError::write(&path))?;
    Ok(write_atomically(&path, &text)?)
}
