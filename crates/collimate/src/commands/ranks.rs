//! The ranks of a command: processes that a launcher started together.

use std::sync::Arc;

use collimate_collective::{Collective, CollectiveError, Join, Place, agree_on, start};
use collimate_train::TrainError;

use crate::error::CliError;
use crate::io::Io;

/// How this program joins others.
#[cfg(feature = "mpi")]
const JOIN: Option<Join> = Some(collimate_mpi::join);
#[cfg(not(feature = "mpi"))]
const JOIN: Option<Join> = None;

/// The ranks of a run, of which this process is one; usually the only one.
pub(crate) struct Ranks(Arc<dyn Collective>);

impl Ranks {
    /// Joins the processes that a launcher started with this one.
    ///
    /// # Errors
    /// There are several, and this program cannot talk to them.
    pub(crate) fn join() -> Result<Self, CliError> {
        Ok(Self(start(JOIN)?))
    }

    /// The ranks themselves.
    pub(crate) fn world(&self) -> &dyn Collective {
        &*self.0
    }

    /// Whether this process writes and reports; the others are silent.
    pub(crate) fn is_first(&self) -> bool {
        self.0.rank() == 0
    }

    /// The value, if all ranks have one.
    ///
    /// # Errors
    /// This process's error if it is the first that has one, else that another rank has failed.
    pub(crate) fn agree<T>(&self, mine: Result<T, CliError>) -> Result<T, CliError> {
        agree_on(&*self.0, mine)
    }

    /// Ends the command. A run that was stopped is an error on all ranks; any other ends the ranks that still wait.
    pub(crate) fn end(self, result: Result<(), CliError>, io: &mut Io<'_>) -> Result<(), CliError> {
        let Err(error) = result else {
            // So that no process ends while another still writes.
            return Ok(self.0.barrier()?);
        };
        if self.0.size() == 1 {
            return Err(error);
        }
        match &error {
            CliError::Train(TrainError::Interrupted { .. }) => {
                self.0.barrier()?;
                Err(if self.is_first() { error } else { CliError::Elsewhere { exit_code: error.exit_code() } })
            }
            CliError::Ranks(CollectiveError::Failed { .. })
            | CliError::Train(TrainError::Ranks(CollectiveError::Failed { .. })) => std::process::exit(1),
            _ => {
                // A position in the recipe, or a hint, which does not fit into one line.
                let text = error.render(io.err_terminal, io.err_color);
                if text.trim_end().lines().count() > 1 {
                    io.error_text(&text);
                }
                self.0.abort(&error.to_string())
            }
        }
    }
}

/// Refuses what only one process may do.
///
/// # Errors
/// A launcher started several.
pub(crate) fn only_alone(what: &str) -> Result<(), CliError> {
    match Place::from_environment()? {
        Some(Place { launcher, size, .. }) if size > 1 => {
            let problem = format!("{what} is one process, and {launcher} started {size}; `train` takes several");
            Err(CliError::usage(problem))
        }
        _ => Ok(()),
    }
}
