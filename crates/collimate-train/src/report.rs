//! `report.html`: a run on one page, in one file, without scripts or anything fetched.

mod chart;
mod page;

use std::path::{Path, PathBuf};

use collimate_files::write_atomically;
use serde_json::Value;

use crate::alarm::ChosenAlarm;
use crate::error::TrainError;
use crate::metrics::{MetricsRow, read_metrics};
use crate::plain_file::read_text;
use crate::recipe::MAX_RECIPE_BYTES;
use crate::recipe::Recipe;

/// The largest file of results, in bytes; it has a few figures.
const MAX_RESULTS_BYTES: u64 = 4 << 20;

/// What a report shows.
#[derive(Debug, Clone, Copy)]
pub struct ReportInput<'a> {
    /// Heading of the page.
    pub title: &'a str,
    /// Rows of `metrics.jsonl`, steps and evaluations.
    pub rows: &'a [MetricsRow],
    /// The resolved recipe.
    pub recipe_yaml: &'a str,
    /// Results beside the metrics: an object whose entries are figures or `{"before", "after"}`.
    pub results: Option<&'a Value>,
}

/// The report as HTML.
pub fn render_report(input: &ReportInput<'_>) -> String {
    page::render(input)
}

/// A result as text: percent where its name says that it is a share.
pub(crate) fn result_text(name: &str, value: &Value) -> String {
    page::result(name, value)
}

/// Writes `report.html` of a run's folder from its `metrics.jsonl`, `recipe.yaml` and, where there is one, `results.json`.
///
/// # Errors
/// [`TrainError::Io`] where a file cannot be read or written, [`TrainError::Metrics`] where one is damaged.
pub fn write_report(run: &Path) -> Result<PathBuf, TrainError> {
    let rows = read_metrics(&run.join("metrics.jsonl"))?;
    let recipe_path = run.join("recipe.yaml");
    let recipe_yaml =
        read_text(&recipe_path, MAX_RECIPE_BYTES).map_err(|source| TrainError::io(&recipe_path, source))?;
    let results = read_results(run)?;
    let title = run.canonicalize().ok().and_then(|path| path.file_name().map(|name| name.display().to_string()));
    let input = ReportInput {
        title: title.as_deref().unwrap_or("run"),
        rows: &rows,
        recipe_yaml: &recipe_yaml,
        results: results.as_ref(),
    };
    let path = run.join("report.html");
    write_atomically(&path, render_report(&input).as_bytes())?;
    Ok(path)
}

/// What the alarm of the chosen responses has to say of a run, by its recipe's threshold.
pub(crate) fn chosen_alarm(rows: &[MetricsRow], recipe_yaml: &str) -> Option<String> {
    let recipe: serde_yaml_ng::Value = serde_yaml_ng::from_str(recipe_yaml).ok()?;
    let threshold = recipe.get("alarm_chosen_drop").and_then(serde_yaml_ng::Value::as_f64);
    ChosenAlarm::of_rows(rows, threshold.unwrap_or(Recipe::default().alarm_chosen_drop))
}

/// The `results.json` of a run's folder, where there is one.
///
/// # Errors
/// [`TrainError::Io`] where it cannot be read, [`TrainError::Metrics`] where it is not JSON.
pub fn read_results(run: &Path) -> Result<Option<Value>, TrainError> {
    let path = run.join("results.json");
    let text = match read_text(&path, MAX_RESULTS_BYTES) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(TrainError::io(&path, source)),
    };
    let damaged =
        |error: serde_json::Error| TrainError::Metrics { path, line: error.line(), message: error.to_string() };
    serde_json::from_str(&text).map(Some).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rows(num_steps: u64) -> Vec<MetricsRow> {
        let row = |step: u64| {
            let mut row = MetricsRow::default();
            row.set_count("step", step);
            row.set("loss", 1.0 / step as f64);
            for rank in 0..3 {
                row.set(&format!("rewards/rank_{rank}"), -(rank as f64) * step as f64);
            }
            row.set("logps/chosen", -100.0);
            row.set("logps/rejected", f64::NAN);
            row
        };
        (1..=num_steps).map(row).collect()
    }

    fn html(rows: &[MetricsRow]) -> String {
        let results = json!({"accuracy": {"before": 0.125, "after": 0.5}});
        render_report(&ReportInput { title: "a <run>", rows, recipe_yaml: "seed: 1\n", results: Some(&results) })
    }

    #[test]
    fn a_page_shows_charts_results_and_recipe_and_fetches_nothing() {
        let page = html(&rows(20));
        for part in ["a &lt;run&gt;", "rank_2", "<svg", "12.5%", "50.0%", "seed: 1", "prefers-color-scheme"] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("NaN") && !page.contains("http") && !page.contains("<script"), "{page}");
    }

    #[test]
    fn a_long_run_makes_a_page_of_bounded_size() {
        assert!(html(&rows(50_000)).len() < 200_000);
    }

    #[test]
    fn a_run_without_steps_still_has_a_page() {
        assert!(html(&[]).contains("No step was recorded"));
    }

    #[test]
    fn a_folder_gets_its_report() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("metrics.jsonl"), "{\"step\": 1, \"loss\": 0.5}\n").expect("a file");
        assert!(
            matches!(write_report(folder.path()), Err(TrainError::Io { path, .. }) if path.ends_with("recipe.yaml"))
        );
        std::fs::write(folder.path().join("recipe.yaml"), "seed: 1\n").expect("a file");
        assert!(write_report(folder.path()).expect("a report").exists());
    }
}
