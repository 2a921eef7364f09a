//! Every run as rows, as lines for a terminal and as a page; and the recipe that is written.

use collimate_report::{Chart, Sheet, number};
use collimate_train::{TrainError, format_seconds};
use serde_json::{Value, json};

use crate::error::TuneError;
use crate::knobs::Candidate;
use crate::tuning::{RunRecord, Tuned};

/// Runs whose curves are drawn: those that came furthest.
const DRAWN_RUNS: usize = 8;

impl Tuned {
    /// A row for each run: its setting, its scores and all its evaluations.
    pub fn rows(&self) -> Vec<Value> {
        let row = |run: &RunRecord| {
            let mut row = json!({"run": run.name, "seed": run.seed, "is_chosen": self.is_chosen(run)});
            for (knob, value) in &run.candidate.values {
                row[knob.name()] = json!(value);
            }
            row["has_failed"] = json!(run.has_failed);
            row["scores"] = json!(run.scores);
            row["curve"] = json!(run.curve);
            row
        };
        self.runs.iter().map(row).collect()
    }

    /// The runs and the choice, for a terminal.
    pub fn lines(&self) -> Vec<String> {
        let mut table = vec![self.heads()];
        table.extend(self.sorted().into_iter().map(|run| self.texts(run)));
        let columns = table[0].len();
        let width = |i: usize| table.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}"));
            cells.collect::<Vec<_>>().join("  ")
        };
        let mut lines: Vec<String> = table.iter().map(line).collect();
        lines.push(format!("chosen: {}; {}", self.choice(), self.outcome.verdict()));
        lines.extend(self.caveats());
        lines
    }

    /// The page, one file that fetches nothing.
    pub fn page(&self) -> String {
        let mut sheet = Sheet::new(&format!("Tuning of {}", self.objective));
        sheet.facts(&[
            ("chosen", self.choice()),
            ("how sure", self.outcome.verdict()),
            ("score", self.score_text().to_owned()),
            ("steps", format!("{} of the recipe's {}", self.ladder.total_steps(), self.recipe_steps)),
            ("time", format_seconds(self.seconds)),
        ]);
        self.caveats().iter().for_each(|caveat| sheet.warning(caveat));
        let heads = self.heads();
        let rows: Vec<Vec<String>> = self.sorted().into_iter().map(|run| self.texts(run)).collect();
        sheet.table(&heads.iter().map(String::as_str).collect::<Vec<_>>(), &rows);
        let rungs: Vec<String> = self.ladder.steps.iter().map(ToString::to_string).collect();
        sheet.about(&format!(
            "Every run, the furthest and best first. The better half of the candidates goes on at each rung (steps {}); the \
             finalists are run again with other seeds.",
            rungs.join(", ")
        ));
        sheet.charts(&self.charts());
        sheet.html()
    }

    /// The recipe to write: every key spelled out, with where the values are from.
    ///
    /// # Errors
    /// A path is not UTF-8.
    pub fn recipe_text(&self) -> Result<String, TuneError> {
        let yaml = self.recipe.resolved_yaml().map_err(TrainError::from)?;
        Ok(format!(
            "# By `collimate tune`: {}.\n# {} runs of up to {} steps in {}. Score: {}.\n# How sure: {}.\n{yaml}",
            self.choice(),
            self.runs.len(),
            self.ladder.total_steps(),
            format_seconds(self.seconds),
            self.score_text(),
            self.outcome.verdict(),
        ))
    }

    fn score_text(&self) -> &'static str {
        match self.by_reward {
            true => {
                "mean reward of sampled answers to held-out prompts; between equals, log-prob of the chosen responses"
            }
            false => {
                "accuracy of implicit rewards on held-out data; between equals, log-prob of the chosen responses there"
            }
        }
    }

    fn choice(&self) -> String {
        let Candidate { number: index, values } = &self.outcome.chosen;
        let values: Vec<String> = values.iter().map(|(knob, value)| format!("{knob} {value:e}")).collect();
        let own = if *index == 0 { " (the recipe's own)" } else { "" };
        format!("{}{own}", values.join(", "))
    }

    fn caveats(&self) -> Vec<String> {
        let mut caveats = Vec::new();
        if self.outcome.is_cut {
            caveats
                .push("the time was up before all runs were taken; a larger --budget with --resume goes on".to_owned());
        }
        if self.ladder.total_steps() < self.recipe_steps / 2 {
            caveats.push(format!(
                "the runs have {} steps and the recipe {}: a learning rate that is best for few steps may be too high for many",
                self.ladder.total_steps(),
                self.recipe_steps
            ));
        }
        let failed = self.runs.iter().filter(|run| run.has_failed).count();
        if failed > 0 {
            caveats.push(format!("{failed} runs ended by a figure that is not finite"));
        }
        caveats
    }

    fn is_chosen(&self, run: &RunRecord) -> bool {
        run.candidate.number == self.outcome.chosen.number
    }

    /// The runs, the furthest and best first.
    fn sorted(&self) -> Vec<&RunRecord> {
        let mut runs: Vec<&RunRecord> = self.runs.iter().collect();
        runs.sort_by(|a, b| match (a.scores.last(), b.scores.last()) {
            (Some(a), Some(b)) => b.step.cmp(&a.step).then(a.rank(b)),
            (a, b) => b.is_some().cmp(&a.is_some()),
        });
        runs
    }

    fn heads(&self) -> Vec<String> {
        let knobs = self.outcome.chosen.values.iter().map(|(knob, _)| knob.name());
        let reward = self.by_reward.then_some("reward");
        let heads = ["run"].into_iter().chain(knobs).chain(["steps"]).chain(reward);
        heads.chain(["accuracy", "chosen, nats", ""]).map(str::to_owned).collect()
    }

    fn texts(&self, run: &RunRecord) -> Vec<String> {
        let last = run.scores.last();
        let mut texts = vec![run.name.clone()];
        texts.extend(run.candidate.values.iter().map(|(_, value)| format!("{value:e}")));
        texts.push(last.map_or("–".to_owned(), |score| score.step.to_string()));
        if self.by_reward {
            texts.push(last.and_then(|score| score.reward).map_or("–".to_owned(), number));
        }
        texts.push(last.map_or("–".to_owned(), |score| format!("{:.2} %", 100.0 * score.accuracy)));
        texts.push(last.map_or("–".to_owned(), |score| number(score.chosen_logp)));
        let mark = match (run.has_failed, self.is_chosen(run)) {
            (true, _) => "not finite",
            (false, true) => "chosen",
            (false, false) => "",
        };
        texts.push(mark.to_owned());
        texts
    }

    fn charts(&self) -> Vec<Chart> {
        let drawn: Vec<&RunRecord> = self.sorted().into_iter().take(DRAWN_RUNS).collect();
        let chart = |title: &str, about: &str, unit: &str, figure: &dyn Fn(&crate::Score) -> f64| {
            let line = |run: &&RunRecord| {
                let points = run.curve.iter().map(|score| (score.step as f64, figure(score)));
                (run.name.clone(), points.collect::<Vec<_>>())
            };
            Chart {
                title: title.to_owned(),
                about: about.to_owned(),
                axes: ["step".to_owned(), unit.to_owned()],
                lines: drawn.iter().map(line).collect(),
            }
        };
        let mut charts = vec![
            chart("Accuracy on held-out data", "Of the runs that came furthest.", "share of prompts", &|s| s.accuracy),
            chart("Chosen on held-out data", "Mean log-prob of the chosen responses.", "nats", &|s| s.chosen_logp),
        ];
        for (index, (knob, _)) in self.outcome.chosen.values.iter().enumerate() {
            charts.extend(self.first_rung(index, knob.name()));
        }
        charts
    }

    /// The scores of all candidates at the first rung over one of the settings.
    fn first_rung(&self, index: usize, name: &str) -> Option<Chart> {
        let point = |run: &RunRecord| {
            let score = run.scores.first().filter(|score| Some(&score.step) == self.ladder.steps.first())?;
            Some((run.candidate.values.get(index)?.1.log10(), score.value()))
        };
        let mut points: Vec<(f64, f64)> = self.runs.iter().filter_map(point).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points.dedup_by(|a, b| a.0 == b.0);
        let unit = if self.by_reward { "reward" } else { "share of prompts" };
        (points.len() > 1).then(|| Chart {
            title: format!("Score by {name}"),
            about: "All candidates at the first rung; the other settings vary too.".to_owned(),
            axes: [format!("{name} (logarithm to base 10)"), unit.to_owned()],
            lines: vec![("score".to_owned(), points)],
        })
    }
}
