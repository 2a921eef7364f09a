//! Creates a report, a comparison or TensorBoard events from a run's folder.

use std::path::{Path, PathBuf};

use collimate_files::{write_atomically, write_output};

use crate::error::ReportError;
use crate::metrics::MetricsReader;
use crate::page::{comparison, render_report};
use crate::run_files::RunFiles;
use crate::tensorboard::EventWriter;

/// Writes `report.html` of a run's folder from its `metrics.jsonl`, `recipe.yaml` and whatever else is there, and returns
/// its path.
///
/// # Errors
/// [`ReportError::Io`] if a file cannot be read, [`ReportError::Write`] if the page cannot be written,
/// [`ReportError::Metrics`] if a file is damaged.
pub fn write_report(run: &Path) -> Result<PathBuf, ReportError> {
    write_report_from(&RunFiles::read(run)?, run)
}

/// Like [`write_report`], from files that have been read already.
///
/// # Errors
/// [`ReportError::Write`] if the page cannot be written.
pub fn write_report_from(files: &RunFiles, run: &Path) -> Result<PathBuf, ReportError> {
    let path = run.join("report.html");
    write_atomically(&path, render_report(&files.input()).as_bytes())?;
    Ok(path)
}

/// Writes a page that compares runs: charts of the same figures, the recipe keys that differ, and the results.
///
/// # Errors
/// As [`write_report`], for each run.
pub fn write_comparison(runs: &[PathBuf], output: &Path) -> Result<(), ReportError> {
    let files = runs.iter().map(|run| RunFiles::read(run)).collect::<Result<Vec<_>, _>>()?;
    Ok(write_output(output, comparison::render(&files).as_bytes())?)
}

/// Writes the rows of a run as a TensorBoard event file into its folder, and returns its path.
///
/// # Errors
/// As [`write_report`].
pub fn write_events(run: &Path) -> Result<PathBuf, ReportError> {
    // Read once before anything is written, so that a damaged run gets no event file.
    let files = RunFiles::read(run)?;
    let mut writer = EventWriter::create(run, 0)?;
    writer.recipe(&files.recipe_yaml)?;
    for row in MetricsReader::open(&run.join("metrics.jsonl"))? {
        writer.row(&row?)?;
    }
    Ok(writer.path().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run's folder with a step of this loss under this recipe.
    fn run(parent: &Path, name: &str, loss: f64, recipe: &str) -> PathBuf {
        let folder = parent.join(name);
        std::fs::create_dir(&folder).expect("a folder");
        let rows = format!("{{\"step\": 1, \"loss\": 1.0}}\n{{\"step\": 2, \"loss\": {loss}}}\n");
        std::fs::write(folder.join("metrics.jsonl"), rows).expect("a file");
        std::fs::write(folder.join("recipe.yaml"), recipe).expect("a file");
        folder
    }

    #[test]
    fn runs_are_compared_by_figures_and_by_the_keys_in_which_they_differ() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let runs = [
            run(parent.path(), "one", 0.25, "seed: 1\nobjective:\n  name: nca\n  beta: 0.1\nlora_r: 16\n"),
            run(parent.path(), "two", 0.125, "seed: 1\nobjective:\n  name: dpo\n  beta: 0.1\n"),
        ];
        let output = parent.path().join("comparison.html");
        write_comparison(&runs, &output).expect("a page");
        let page = std::fs::read_to_string(&output).expect("text");
        for part in ["one", "two", "0.25", "0.125", "objective.name", "nca", "dpo", "lora_r", "<svg"] {
            assert!(page.contains(part), "{part}: {page}");
        }
        // Keys with equal values are not listed.
        assert!(
            !page.contains("<td>seed</td>")
                && !page.contains("objective.beta")
                && !page.contains("http:")
                && !page.contains("https:"),
            "{page}"
        );
        write_events(&runs[0]).expect("an event file");
        assert_eq!(std::fs::read_dir(runs[0].join("tensorboard")).expect("a folder").count(), 1);
    }

    #[test]
    fn a_folder_gets_its_report() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("metrics.jsonl"), "{\"step\": 1, \"loss\": 0.5}\n").expect("a file");
        assert!(
            matches!(write_report(folder.path()), Err(ReportError::Io { path, .. }) if path.ends_with("recipe.yaml"))
        );
        std::fs::write(folder.path().join("recipe.yaml"), "seed: 1\n").expect("a file");
        assert!(write_report(folder.path()).expect("a report").exists());
    }
}
