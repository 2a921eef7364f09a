//! Aligns language models from explicit rewards.
//!
//! This crate is the command line: it parses arguments, calls the libraries and prints. Start with `commands`, which
//! has one file per verb. A program with further objectives is two lines:
//!
//! ```no_run
//! # mod my_objective {}
//! use my_objective as _;
//!
//! fn main() -> std::process::ExitCode {
//!     collimate::run()
//! }
//! ```

mod arguments;
mod cli;
mod commands;
mod downloads;
mod elsewhere;
mod error;
mod inputs;
mod io;
mod signals;

use std::ffi::OsString;
use std::io::{IsTerminal, Write, stderr, stdout};
use std::panic;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
// Linking the built-in objectives registers them.
use collimate_objectives as _;

use cli::Cli;
use collimate_hub::{Hub, HubOptions};
use downloads::Downloads;
pub use error::CliError;
pub use io::Io;
pub use signals::Signals;

/// Runs this process's command line and returns its exit code: 0, 1 (a failed run), 2 (bad arguments or input), or 128 plus
/// the number of the signal that stopped it.
pub fn run() -> ExitCode {
    ExitCode::from(run_process(std::env::args_os()))
}

/// [`run`] with the caller's arguments; `args` starts with the program's name. Installs handlers for panics and signals for
/// the whole process.
pub fn run_process<A: Into<OsString> + Clone>(args: impl IntoIterator<Item = A>) -> u8 {
    collimate_train::run_passes_on_the_main_thread();
    panic::set_hook(Box::new(|info| {
        // A malformed tokenizer file; the caller turns the panic into an error that names the file.
        if collimate_data::catches_panics() {
            return;
        }
        let what = info.payload_as_str().unwrap_or("no message");
        if collimate_backend::reports_panic(what) {
            return;
        }
        // One line, whatever RUST_BACKTRACE says.
        let location = info.location().map(|location| format!(" ({location})")).unwrap_or_default();
        // `eprintln` would panic within the panic if nobody reads standard error any more.
        let _ = writeln!(
            stderr(),
            "error: this is a bug of collimate, please report it with the command: {what}{location}"
        );
        collimate_collective::end_ranks_after_panic();
    }));
    let color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let (mut out, mut err) = (stdout(), stderr());
    let (out_terminal, err_terminal) = (out.is_terminal(), err.is_terminal());
    let (options, downloads) = (HubOptions::from_env(), Arc::new(Downloads::hidden()));
    let downloads = options.progress.then_some(downloads);
    let hub = Hub::new(options);
    let mut io = Io {
        out: &mut out,
        err: &mut err,
        out_color: color && out_terminal,
        err_color: color && err_terminal,
        err_terminal,
        signals: Signals::install(),
        hub: match &downloads {
            Some(downloads) => hub.with_watch(downloads.clone()),
            None => hub,
        },
        downloads,
        log: None,
    };
    panic::catch_unwind(panic::AssertUnwindSafe(|| execute(args, &mut io))).unwrap_or(1)
}

/// Runs a command line inside another program; `args` starts with the program's name. Returns the exit code.
pub fn run_from<A: Into<OsString> + Clone>(
    args: impl IntoIterator<Item = A>,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> i32 {
    run_with_hub(args, Hub::new(HubOptions::from_env()), out, err)
}

/// [`run_from`] with a hub other than the environment's.
pub fn run_with_hub<A: Into<OsString> + Clone>(
    args: impl IntoIterator<Item = A>,
    hub: Hub,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> i32 {
    let signals = Signals::default();
    let (downloads, log) = (None, None);
    let mut io = Io { out, err, out_color: false, err_color: false, err_terminal: false, signals, hub, downloads, log };
    i32::from(execute(args, &mut io))
}

fn execute<A: Into<OsString> + Clone>(args: impl IntoIterator<Item = A>, io: &mut Io<'_>) -> u8 {
    let args = arguments::in_our_form(args.into_iter().map(Into::into).collect());
    // Every verb that is quiet has it under this name, and none takes it as a value.
    let quiet = args.iter().any(|arg| arg == "--quiet");
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(usage) => return report_usage(&usage, io),
    };
    if cli.offline {
        io.hub = Hub::new(HubOptions { offline: true, ..io.hub.options().clone() });
    }
    let log = io.log_to(cli.log_file.as_deref());
    if let Some(downloads) = &io.downloads {
        downloads.show(quiet, io.err_terminal, io.log.as_ref());
    }
    let result = log.and_then(|()| Ok(collimate_objective::registry::check()?)).and_then(|()| {
        // A device that runs out of memory is not a bug.
        collimate_backend::guarded(|| cli.command.run(io)).map_err(CliError::from).flatten()
    });
    let _ = io.out.flush();
    match result {
        Ok(()) => 0,
        Err(CliError::Elsewhere { exit_code }) => exit_code,
        // The reader of our output is gone, as with `head`.
        Err(CliError::Output { source }) if source.kind() == std::io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            let text = error.render(io.err_terminal, io.err_color);
            io.error_text(&text);
            error.exit_code()
        }
    }
}

/// Prints clap's messages: help to stdout, mistakes to stderr.
fn report_usage(usage: &clap::Error, io: &mut Io<'_>) -> u8 {
    let text = usage.render();
    let (stream, color): (&mut dyn Write, bool) =
        if usage.use_stderr() { (io.err, io.err_color) } else { (io.out, io.out_color) };
    let text = if color { text.ansi().to_string() } else { text.to_string() };
    let _ = stream.write_all(text.as_bytes());
    if let Some(hint) = elsewhere::hint(usage) {
        let _ = writeln!(io.err, "\n{hint}");
    }
    if usage.use_stderr() { 2 } else { 0 }
}
