//! `collimate watch`: runs in a browser, while they go on.

use std::path::{Path, PathBuf};
use std::thread;

use collimate_watch::{Background, Runs, Server};

use crate::error::CliError;
use crate::io::Io;

/// Show runs in a browser while they go on
///
/// The page is that of `collimate report`, of one run or of several compared, and follows them: curves, evaluations, memory, time
/// left, answers. It is served on this machine alone (127.0.0.1), and nothing can be changed through it. Ctrl-C ends the
/// server, never a run. `collimate train --serve` does the same for the time of a run.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  collimate watch runs/nca\n  collimate watch runs/nca runs/dpo --port 9000\n\nFrom another \
                  machine: ssh -L 8808:127.0.0.1:8808 HOST, and open http://127.0.0.1:8808 there."
)]
pub(crate) struct Args {
    /// Folder of a run, which may not have begun yet; several to compare them
    #[arg(required = true, value_name = "RUN")]
    dirs: Vec<PathBuf>,
    /// Port to listen on; 0 for any free one [default: 8808, or a free one]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        if let Some(other) = self.dirs.iter().find(|dir| !dir.is_dir()) {
            return Err(CliError::Usage {
                problem: format!("{}: there is no such folder", other.display()),
                help: Some("give the folder of a run (`--output` of `collimate train`)".to_owned()),
            });
        }
        let (url, _server) = serve(self.dirs, self.port)?;
        io.line(format_args!("{url}"))?;
        // A signal ends the process, as anywhere outside a step.
        loop {
            thread::park();
        }
    }
}

/// Serves the page of these runs at the address that it returns, until the server is dropped.
fn serve(runs: Vec<PathBuf>, port: Option<u16>) -> Result<(String, Background), CliError> {
    let begun = Server::bind(port).and_then(|server| {
        let url = server.url();
        Ok((url, server.in_background(Runs::new(runs))?))
    });
    begun.map_err(|error| {
        let port = port.unwrap_or(collimate_watch::PORT);
        CliError::Usage {
            problem: format!("port {port} of 127.0.0.1 cannot be listened on: {error}"),
            help: Some("another --port may be free; 0 takes any that is".to_owned()),
        }
    })
}

/// The option of `train`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Serve {
    /// Show the run in a browser on this machine while it goes on (see `collimate watch`) [default: 8808, or a free one]
    #[arg(long, value_name = "PORT", num_args = 0..=1, require_equals = true)]
    serve: Option<Option<u16>>,
}

impl Serve {
    /// Serves the page of a run if that is asked for.
    pub(crate) fn begin(self, run: &Path, io: &mut Io<'_>) -> Result<Option<Background>, CliError> {
        let Some(port) = self.serve else { return Ok(None) };
        let (url, server) = serve(vec![run.to_owned()], port)?;
        io.note(format_args!("live page, on this machine alone: {url}"));
        Ok(Some(server))
    }
}
