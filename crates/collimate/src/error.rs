//! A command's errors, their exit codes and how they are displayed.

mod convert;
mod exit_code;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use collimate_backend::BackendError;
use collimate_collective::CollectiveError;
use collimate_data::DataError;
use collimate_files::{OutputError, WriteError};
use collimate_hf::HfError;
use collimate_hub::HubError;
use collimate_model::ModelError;
use collimate_objective::ObjectiveError;
use collimate_progress::terminal_width;
use collimate_recipe::{Origin, RecipeError};
use collimate_report::ReportError;
use collimate_resolve::ResolveError;
use collimate_rounds::RewardError;
use collimate_text::TextError;
use collimate_train::TrainError;
use collimate_vq::VqError;
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use thiserror::Error;

use exit_code::{hub_exit_code, ranks_exit_code, report_exit_code, train_exit_code};

/// Why a command failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CliError {
    /// The arguments are wrong.
    #[error("{problem}")]
    Usage {
        /// What is wrong.
        problem: String,
        /// What to do about it.
        help: Option<String>,
    },

    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },

    /// A file cannot be written; an existing one is unchanged.
    #[error(transparent)]
    Write(#[from] WriteError),

    /// The output is taken.
    #[error(transparent)]
    OutputTaken(#[from] OutputError),

    /// Standard output cannot be written.
    #[error("standard output: {source}")]
    Output {
        /// The operating system's error.
        source: io::Error,
    },

    /// The recipe cannot be used.
    #[error(transparent)]
    Recipe(#[from] RecipeError),

    /// Something that the recipe names was not found.
    #[error(transparent)]
    Resolve(ResolveError),

    /// Something on the hub cannot be fetched.
    #[error(transparent)]
    Hub(#[from] HubError),

    /// The data cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),

    /// The tokenizer or the chat template cannot be used, or not with these texts.
    #[error(transparent)]
    Text(#[from] TextError),

    /// The model refuses tokens.
    #[error(transparent)]
    Model(#[from] ModelError),

    /// The files of the model or of an adapter cannot be used.
    #[error(transparent)]
    ModelFiles(#[from] HfError),

    /// The decoder of a model of pictures cannot be used, or not with these tokens.
    #[error(transparent)]
    Pictures(#[from] VqError),

    /// The objective, its parameters or its rows cannot be used.
    #[error(transparent)]
    Objective(#[from] ObjectiveError),

    /// The backend or its device cannot be used.
    #[error(transparent)]
    Backend(#[from] BackendError),

    /// A reward program failed.
    #[error(transparent)]
    Reward(#[from] RewardError),

    /// A report cannot be made.
    #[error(transparent)]
    Report(#[from] ReportError),

    /// The run failed or could not start.
    #[error(transparent)]
    Train(TrainError),

    /// This process cannot be one of several, or another one failed.
    #[error(transparent)]
    Ranks(#[from] CollectiveError),

    /// The first of several processes says what is wrong.
    #[error("rank 0 says what is wrong")]
    Elsewhere {
        /// The same as that of the first process.
        exit_code: u8,
    },
}

impl CliError {
    /// An error in the arguments, without a hint.
    pub(crate) fn usage(problem: impl Into<String>) -> Self {
        Self::Usage { problem: problem.into(), help: None }
    }

    /// For `map_err` of reading a file.
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    /// For `map_err` of writing a file.
    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let failed = WriteError::at(path);
        move |source| Self::Write(failed(source))
    }

    /// 2 for bad arguments or input, 1 for a failed run, 128 plus the signal's number if one stopped it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Write { .. }
            | Self::Output { .. }
            | Self::Reward(RewardError::Failed { .. } | RewardError::Store(_))
            | Self::Backend(BackendError::OutOfMemory { .. })
            | Self::Model(ModelError::LogitsNotFinite { .. })
            | Self::Data(DataError::Write(_))
            | Self::ModelFiles(HfError::Write(_) | HfError::Unsaved(_) | HfError::ReadBack { .. }) => 1,
            Self::Hub(error) => hub_exit_code(error),
            Self::Resolve(ResolveError::Hub { problem, .. }) => hub_exit_code(problem),
            Self::Report(error) => report_exit_code(error),
            Self::Train(error) => train_exit_code(error),
            Self::Elsewhere { exit_code } => *exit_code,
            Self::Ranks(error) => ranks_exit_code(error),
            _ => 2,
        }
    }

    /// Renders the error, with its position in the recipe if it has one.
    pub(crate) fn render(&self, terminal: bool, color: bool) -> String {
        let report = Report { error: self, source: self.source_text() };
        if report.source.is_none() {
            let help = self.help().map(|help| format!("  help: {help}\n")).unwrap_or_default();
            let (on, off) = if color { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
            return format!("{on}error:{off} {self}\n{help}");
        }
        let mut theme = match (terminal, color) {
            (true, true) => GraphicalTheme::unicode(),
            (true, false) => GraphicalTheme::unicode_nocolor(),
            (false, _) => GraphicalTheme::none(),
        };
        // As in every other error.
        theme.characters.error = "error:".to_owned();
        let width = if terminal { terminal_width().min(110) } else { 110 };
        let handler =
            GraphicalReportHandler::new_themed(theme).with_links(false).with_wrap_lines(terminal).with_width(width);
        let mut text = String::new();
        match handler.render_report(&mut text, &report) {
            Ok(()) => text.trim_start_matches(['\n', ' ']).to_owned(),
            Err(fmt::Error) => format!("error: {self}\n"),
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Usage { help, .. } => help.clone(),
            Self::Recipe(RecipeError::Value { key, problem, .. })
                if key == "objective" && problem.starts_with("no objective") =>
            {
                Some("`collimate objectives` lists them all".to_owned())
            }
            Self::Objective(ObjectiveError::UnknownObjective { .. }) => {
                Some("`collimate objectives` lists them all".to_owned())
            }
            Self::Reward(RewardError::Start { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Some("give its path, or put its folder on PATH; a command for a shell needs --shell".to_owned())
            }
            Self::Recipe(RecipeError::UnknownKey { nearest, .. }) if nearest.is_empty() => {
                Some("`collimate recipe-keys` lists all keys".to_owned())
            }
            _ => None,
        }
    }

    /// The location of the fault in a recipe, if any.
    fn origin(&self) -> Option<&Origin> {
        match self {
            Self::Recipe(error) => error.origin(),
            Self::Resolve(ResolveError::Hub { origin, .. }) => Some(origin),
            _ => None,
        }
    }

    fn source_text(&self) -> Option<NamedSource<String>> {
        match self.origin()? {
            Origin::File(place) => {
                Some(NamedSource::new(place.path.display().to_string(), place.text.to_string()).with_language("yaml"))
            }
            _ => None,
        }
    }
}

/// An error with its position, for the graphical handler.
#[derive(Debug)]
struct Report<'a> {
    error: &'a CliError,
    source: Option<NamedSource<String>>,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Report<'_> {}

impl Diagnostic for Report<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.error.help().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let Origin::File(place) = self.error.origin()? else { return None };
        let label = match self.error {
            CliError::Recipe(RecipeError::UnknownKey { nearest, .. }) => {
                nearest.first().map(|nearest| format!("perhaps {nearest}"))
            }
            _ => Some("here".to_owned()),
        };
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(label, place.span.clone()))))
    }
}
