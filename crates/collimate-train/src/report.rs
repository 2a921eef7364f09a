//! `report.html`: a run on one page, in one file, without scripts or anything fetched.

mod chart;
mod compare;
mod page;

use std::path::{Path, PathBuf};

use collimate_files::write_atomically;
use serde_json::Value;

use crate::alarm::ChosenAlarm;
use crate::error::TrainError;
use crate::lengths::LengthSample;
use crate::metrics::{MetricsRow, read_metrics};
use crate::plain_file::read_text;
use crate::recipe::MAX_RECIPE_BYTES;
use crate::recipe::Recipe;
use crate::samples::{Samples, read_samples};
use crate::tensorboard::EventWriter;

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
    /// Lengths and rewards of some responses.
    pub lengths: Option<&'a LengthSample>,
    /// Answers before and after training.
    pub samples: Option<&'a Samples>,
}

/// What a run's folder holds for its report.
#[derive(Debug)]
pub(crate) struct RunFiles {
    title: String,
    pub(crate) rows: Vec<MetricsRow>,
    recipe_yaml: String,
    pub(crate) results: Option<Value>,
}

impl RunFiles {
    pub(crate) fn read(run: &Path) -> Result<Self, TrainError> {
        let rows = read_metrics(&run.join("metrics.jsonl"))?;
        let recipe_path = run.join("recipe.yaml");
        let recipe_yaml =
            read_text(&recipe_path, MAX_RECIPE_BYTES).map_err(|source| TrainError::io(&recipe_path, source))?;
        let title = run.canonicalize().ok().and_then(|path| path.file_name().map(|name| name.display().to_string()));
        Ok(Self { title: title.unwrap_or_else(|| "run".to_owned()), rows, recipe_yaml, results: read_results(run)? })
    }

    /// Writes `report.html` of the folder that this was read from.
    pub(crate) fn write_report(&self, run: &Path) -> Result<PathBuf, TrainError> {
        let (lengths, samples) = (LengthSample::read(run), read_samples(run));
        let input = ReportInput {
            title: &self.title,
            rows: &self.rows,
            recipe_yaml: &self.recipe_yaml,
            results: self.results.as_ref(),
            lengths: lengths.as_ref(),
            samples: samples.as_ref(),
        };
        let path = run.join("report.html");
        write_atomically(&path, render_report(&input).as_bytes())?;
        Ok(path)
    }
}

/// The report as HTML.
pub fn render_report(input: &ReportInput<'_>) -> String {
    page::render(input)
}

/// A result before and after as text: percent where its name says that it is a share, nothing where there is none.
pub(crate) fn result_texts(name: &str, result: &Value) -> [String; 2] {
    let (before, after) = match result.as_object() {
        Some(pair) => (pair.get("before"), pair.get("after")),
        None => (None, Some(result)),
    };
    [before, after].map(|value| value.map(|value| page::result(name, value)).unwrap_or_default())
}

/// Writes `report.html` of a run's folder from its `metrics.jsonl`, `recipe.yaml` and, where there is one, `results.json`.
///
/// # Errors
/// [`TrainError::Io`] where a file cannot be read or written, [`TrainError::Metrics`] where one is damaged.
pub fn write_report(run: &Path) -> Result<PathBuf, TrainError> {
    RunFiles::read(run)?.write_report(run)
}

/// Writes a page that compares runs: figures of all of them in each chart, the keys in which their recipes differ, and
/// what came of each.
///
/// # Errors
/// As [`write_report`], for each run.
pub fn write_comparison(runs: &[PathBuf], output: &Path) -> Result<(), TrainError> {
    let files = runs.iter().map(|run| RunFiles::read(run)).collect::<Result<Vec<_>, _>>()?;
    Ok(write_atomically(output, compare::render(&files).as_bytes())?)
}

/// Writes the rows of a finished run as a TensorBoard event file into its folder; where it is.
///
/// # Errors
/// As [`write_report`].
pub fn write_events(run: &Path) -> Result<PathBuf, TrainError> {
    let files = RunFiles::read(run)?;
    let mut writer = EventWriter::create(run, 0)?;
    writer.recipe(&files.recipe_yaml)?;
    files.rows.iter().try_for_each(|row| writer.row(row))?;
    Ok(writer.path().to_owned())
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
    use crate::samples::Sample;

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
        let lengths = LengthSample {
            of: "held-out data".to_owned(),
            num_tokens: vec![3, 9, 27],
            rewards: vec![0.0, 1.0, 0.5],
            implicit_rewards: Some(vec![0.1, 0.2, 0.3]),
        };
        let sample = Sample {
            place: "rows.jsonl:7".to_owned(),
            prompt: "2 < 3?".to_owned(),
            best: "Yes".to_owned(),
            reward: 1.0,
            before: "No".to_owned(),
            after: Some(String::new()),
        };
        let samples = Samples { max_new_tokens: 64, prompts: vec![sample] };
        render_report(&ReportInput {
            title: "a <run>",
            rows,
            recipe_yaml: "seed: 1\n",
            results: Some(&results),
            lengths: Some(&lengths),
            samples: Some(&samples),
        })
    }

    #[test]
    fn a_page_shows_charts_results_and_recipe_and_fetches_nothing() {
        let page = html(&rows(20));
        let illustrations = ["2 &lt; 3?", "before training", "(nothing)", "Length against implicit reward", "<circle"];
        for part in illustrations {
            assert!(page.contains(part), "{part}");
        }
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
        // What is the same in all of them is no difference.
        assert!(
            !page.contains("<td>seed</td>") && !page.contains("objective.beta") && !page.contains("http"),
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
            matches!(write_report(folder.path()), Err(TrainError::Io { path, .. }) if path.ends_with("recipe.yaml"))
        );
        std::fs::write(folder.path().join("recipe.yaml"), "seed: 1\n").expect("a file");
        assert!(write_report(folder.path()).expect("a report").exists());
    }
}
