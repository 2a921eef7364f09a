//! The files in a run's folder from which pages and cards are made.

use std::io::ErrorKind;
use std::path::Path;

use collimate_files::read_plain;
use collimate_recipe::{MAX_RECIPE_BYTES, Recipe};
use serde_json::Value;

use crate::error::ReportError;
use crate::history::History;
use crate::lengths::LengthSample;
use crate::metrics::MetricsReader;
use crate::page::ReportInput;
use crate::pictures::Gallery;
use crate::run_info::RunInfo;
use crate::samples::Samples;
use crate::verdict::RunFacts;

/// The largest `results.json`, in bytes; it has a few figures.
const MAX_RESULTS_BYTES: u64 = 4 << 20;

/// The contents of a run's folder that the report needs.
#[derive(Debug, Clone)]
pub struct RunFiles {
    /// Name of the folder.
    pub title: String,
    /// What `metrics.jsonl` tells.
    pub history: History,
    /// Text of `recipe.yaml`.
    pub recipe_yaml: String,
    /// `results.json`, if it exists.
    pub results: Option<Value>,
    /// `run.json`, if it exists.
    pub info: Option<RunInfo>,
    /// `lengths.json`, if it exists.
    pub lengths: Option<LengthSample>,
    /// `samples.json`, if it exists.
    pub samples: Option<Samples>,
    /// The pictures that `pictures.json` lists, if it exists.
    pub gallery: Option<Gallery>,
}

impl RunFiles {
    /// Reads a run's folder.
    ///
    /// # Errors
    /// [`ReportError::Io`] if a file cannot be read, [`ReportError::Metrics`] if one is damaged.
    pub fn read(run: &Path) -> Result<Self, ReportError> {
        let rows = MetricsReader::open(&run.join("metrics.jsonl"))?;
        let recipe_path = run.join("recipe.yaml");
        let recipe_yaml =
            read_plain(&recipe_path, MAX_RECIPE_BYTES).map_err(|source| ReportError::io(&recipe_path, source))?;
        let info = RunInfo::read(run);
        let mut history = History::new(RunFacts::new(&recipe_yaml, info.as_ref()));
        for row in rows {
            history.push(&row?);
        }
        let title = run.canonicalize().ok().and_then(|path| path.file_name().map(|name| name.display().to_string()));
        Ok(Self {
            title: title.unwrap_or_else(|| "run".to_owned()),
            history,
            recipe_yaml,
            results: read_results(run)?,
            info,
            lengths: LengthSample::read(run),
            samples: Samples::read(run),
            gallery: Gallery::read(run),
        })
    }

    /// What the run's page shows.
    pub(crate) fn input(&self) -> ReportInput<'_> {
        ReportInput {
            title: &self.title,
            history: &self.history,
            recipe_yaml: &self.recipe_yaml,
            results: self.results.as_ref(),
            info: self.info.as_ref(),
            lengths: self.lengths.as_ref(),
            samples: self.samples.as_ref(),
            gallery: self.gallery.as_ref(),
        }
    }
}

/// Whether the folder's recipe is one that a run wrote, with these settings or others, here or before the folder was moved: it names
/// every key, which nobody does by hand.
pub fn has_resolved_recipe(run: &Path, recipe: &Recipe) -> bool {
    let text = read_plain(&run.join("recipe.yaml"), MAX_RECIPE_BYTES).ok();
    text.zip(recipe.resolved_yaml().ok()).is_some_and(|(text, ours)| keys(&text).eq(keys(&ours)))
}

/// The keys of a YAML file that begin a line.
fn keys(yaml: &str) -> impl Iterator<Item = &str> {
    let outer = yaml.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_alphabetic()));
    outer.filter_map(|line| line.split_once(':').map(|(key, _)| key))
}

/// The `results.json` of a run's folder, if it exists.
///
/// # Errors
/// [`ReportError::Io`] if it cannot be read, [`ReportError::Metrics`] if it is not JSON.
pub fn read_results(run: &Path) -> Result<Option<Value>, ReportError> {
    let path = run.join("results.json");
    let text = match read_plain(&path, MAX_RESULTS_BYTES) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ReportError::io(&path, source)),
    };
    let damaged =
        |error: serde_json::Error| ReportError::Metrics { path, line: error.line(), message: error.to_string() };
    serde_json::from_str(&text).map(Some).map_err(damaged)
}
