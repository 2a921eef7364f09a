//! What was measured as rows, as a table for a terminal, and as a page.

use collimate_report::{Chart, Sheet, number};
use serde_json::{Value, json};

use crate::measure::{Dial, Setting};

/// Prompts whose answers are on the page; all are in the rows.
const SHOWN_PROMPTS: usize = 6;

/// A figure of the table.
struct Figure {
    name: &'static str,
    label: &'static str,
    /// What the table multiplies it with, and what it writes behind.
    shown: (f64, &'static str),
}

const FIGURES: [Figure; 5] = [
    Figure { name: "rewards/accuracies", label: "accuracy", shown: (100.0, " %") },
    Figure { name: "rewards/margins", label: "margin", shown: (1.0, "") },
    Figure { name: "logps/chosen", label: "chosen, nats", shown: (1.0, "") },
    Figure { name: "kl", label: "KL, nats", shown: (1.0, "") },
    Figure { name: "lengths/sampled", label: "length, tokens", shown: (1.0, "") },
];

impl Setting {
    /// A figure by its name in the rows; `None` if it was not measured.
    pub fn figure(&self, name: &str) -> Option<f64> {
        let mean = |values: &mut dyn ExactSizeIterator<Item = f64>| {
            let count = values.len();
            (count > 0).then(|| values.sum::<f64>() / count as f64)
        };
        match name {
            "kl" => self.divergence.map(|divergence| divergence.kl),
            "kl_error" => self.divergence.map(|divergence| divergence.error),
            "lengths/sampled" => mean(&mut self.answers.iter().map(|answer| answer.num_tokens as f64)),
            name => self.held_out.get(name).filter(|value| value.is_finite()),
        }
    }
}

impl Dial {
    /// A row for each strength: figures under the names of `metrics.jsonl`, and the answers.
    pub fn rows(&self) -> Vec<Value> {
        self.settings.iter().map(|setting| self.row(setting)).collect()
    }

    fn row(&self, setting: &Setting) -> Value {
        let mut row = json!({"strength": setting.strength});
        let measured = setting.held_out.names().map(str::to_owned);
        for name in measured.chain(["kl", "kl_error", "lengths/sampled"].map(str::to_owned)) {
            row[name.as_str()] = json!(setting.figure(&name));
        }
        let sample = |(prompt, answer): (&crate::measure::Prompt, &crate::Answer)| {
            json!({
                "location": prompt.location, "content": answer.text, "num_tokens": answer.num_tokens, "is_cut": answer.is_cut,
            })
        };
        row["samples"] = self.prompts.iter().zip(&setting.answers).map(sample).collect();
        row
    }

    /// The figures in lines of text, for a terminal.
    pub fn lines(&self) -> Vec<String> {
        let heads = std::iter::once("strength").chain(FIGURES.iter().map(|figure| figure.label));
        let mut table = vec![heads.map(str::to_owned).collect::<Vec<_>>()];
        table.extend(self.settings.iter().map(texts));
        let widths: Vec<usize> =
            (0..table[0].len()).map(|i| table.iter().map(|row| row[i].chars().count()).max().unwrap_or(0)).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}"));
            cells.collect::<Vec<_>>().join("  ")
        };
        table.iter().map(line).collect()
    }

    /// How the figures are to be read.
    fn reading(&self) -> String {
        let answers = match self.prompts.len() {
            0 => String::new(),
            count => format!(
                " KL and length are means over answers to {count} of the prompts, drawn with temperature 1 and seed {}, up to \
                 {} tokens; KL is that of the answers' tokens from the model without the adapter, by Schulman's estimator k3, \
                 ± its standard error.",
                self.seed, self.max_new_tokens
            ),
        };
        format!(
            "Accuracy, margin and chosen log-probs are means over all {} held-out prompts, as at an evaluation of the run; \
             where all implicit rewards are 0, as at strength 0 against the reference, none is higher and accuracy is 0.{answers}",
            self.num_held_out
        )
    }

    /// What else to know of the figures; empty if nothing.
    pub fn caveats(&self) -> Vec<String> {
        let mut caveats = Vec::new();
        if !self.starts_from_reference {
            caveats.push(
                "the run's reference is not the model without the adapter, which strength 0 is: accuracy and margin are against \
                 the reference, KL is against strength 0"
                    .to_owned(),
            );
        }
        let cut = self.settings.iter().flat_map(|setting| &setting.answers).filter(|answer| answer.is_cut).count();
        if cut > 0 {
            caveats.push(format!(
                "{cut} answers were cut at {} tokens (--max-new-tokens): their KL and length are those of what was drawn",
                self.max_new_tokens
            ));
        }
        caveats
    }

    /// The page, one file that fetches nothing.
    pub fn page(&self) -> String {
        let mut sheet = Sheet::new(&format!("{} at several strengths", self.run));
        sheet.facts(&[
            ("run", self.run.clone()),
            ("objective", self.objective.clone()),
            (
                "strength",
                "the scale of the adapter times this; 0 is the model without it, 1 as it was trained".to_owned(),
            ),
        ]);
        self.caveats().iter().for_each(|caveat| sheet.warning(caveat));
        let heads: Vec<&str> = std::iter::once("strength").chain(FIGURES.iter().map(|figure| figure.label)).collect();
        sheet.table(&heads, &self.settings.iter().map(texts).collect::<Vec<_>>());
        sheet.about(&self.reading());
        sheet.charts(&self.charts());
        if !self.prompts.is_empty() {
            sheet.heading("Answers");
        }
        for (index, prompt) in self.prompts.iter().take(SHOWN_PROMPTS).enumerate() {
            let answer = |setting: &Setting| {
                let answer = setting.answers.get(index)?;
                let cut = if answer.is_cut { ", cut" } else { "" };
                Some((format!("strength {}{cut}", setting.strength), answer.text.clone()))
            };
            let answers: Vec<_> = self.settings.iter().filter_map(answer).collect();
            sheet.card(&prompt.location, ("prompt", &prompt.text), &answers);
        }
        sheet.html()
    }

    fn charts(&self) -> Vec<Chart> {
        let points = |name: &str| {
            let points = self.settings.iter().filter_map(|setting| Some((setting.strength, setting.figure(name)?)));
            let mut points: Vec<(f64, f64)> = points.collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            points
        };
        let chart = |title: &str, about: &str, unit: &str, lines: &[(&str, &str)]| Chart {
            title: title.to_owned(),
            about: about.to_owned(),
            axes: ["strength".to_owned(), unit.to_owned()],
            lines: lines.iter().map(|(name, figure)| ((*name).to_owned(), points(figure))).collect(),
        };
        vec![
            chart(
                "Accuracy of implicit rewards",
                "Share of held-out prompts whose best response has a higher implicit reward than the mean of the rest.",
                "share of prompts",
                &[("accuracy", "rewards/accuracies")],
            ),
            chart(
                "Log-probs of chosen and rejected",
                "Means over the held-out prompts.",
                "nats",
                &[("chosen", "logps/chosen"), ("rejected", "logps/rejected")],
            ),
            chart("KL from strength 0", "In nats an answer, estimated from drawn answers.", "nats", &[("KL", "kl")]),
            chart("Length of answers", "Mean over the drawn answers.", "tokens", &[("length", "lengths/sampled")]),
            chart(
                "Margin",
                "Chosen minus rejected implicit reward.",
                "implicit reward",
                &[("margin", "rewards/margins")],
            ),
        ]
    }
}

/// The row of a strength in the table.
fn texts(setting: &Setting) -> Vec<String> {
    let text = |figure: &Figure| {
        let (scale, unit) = figure.shown;
        let Some(value) = setting.figure(figure.name) else { return "–".to_owned() };
        let error = setting.figure("kl_error").filter(|_| figure.name == "kl");
        let error = error.map(|error| format!(" ± {}", number(error))).unwrap_or_default();
        format!("{}{unit}{error}", number(scale * value))
    };
    std::iter::once(setting.strength.to_string()).chain(FIGURES.iter().map(text)).collect()
}

#[cfg(test)]
mod tests {
    use collimate_report::MetricsRow;

    use super::*;
    use crate::measure::Prompt;
    use crate::{Answer, Divergence};

    fn dialed() -> Dial {
        let setting = |strength: f64, accuracy: f64, length: usize| {
            let mut held_out = MetricsRow::default();
            held_out.set("rewards/accuracies", accuracy);
            held_out.set("logps/chosen", -12.5);
            held_out.set("rewards/margins", f64::NAN);
            let answer = |num_tokens| Answer { text: format!("<{strength}>"), num_tokens, is_cut: num_tokens > 7 };
            let divergence = Some(Divergence { kl: strength / 4.0, error: 0.125 });
            Setting { strength, held_out, answers: vec![answer(length), answer(length + 1)], divergence }
        };
        let prompt = |line: usize| Prompt { location: format!("rows.jsonl:{line}"), text: "2 + 2?".to_owned() };
        Dial {
            run: "runs/a".to_owned(),
            objective: "nca".to_owned(),
            num_held_out: 40,
            starts_from_reference: true,
            max_new_tokens: 8,
            seed: 3,
            prompts: vec![prompt(1), prompt(2)],
            settings: vec![setting(0.0, 0.5, 4), setting(1.5, 0.75, 7)],
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_strength() {
        let lines = dialed().lines();
        let words = |line: &str| line.split("  ").map(str::trim).filter(|w| !w.is_empty()).map(str::to_owned).collect();
        let table: Vec<Vec<String>> = lines.iter().map(|line| words(line)).collect();
        assert_eq!(table[0], ["strength", "accuracy", "margin", "chosen, nats", "KL, nats", "length, tokens"]);
        assert_eq!(table[1], ["0", "50 %", "–", "-12.5", "0 ± 0.125", "4.5"]);
        assert_eq!(table[2], ["1.5", "75 %", "–", "-12.5", "0.375 ± 0.125", "7.5"]);
        assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()), "{lines:?}");
    }

    #[test]
    fn rows_have_the_names_of_metrics_and_the_answers() {
        let rows = dialed().rows();
        assert_eq!(rows[1]["strength"], json!(1.5));
        assert_eq!(rows[1]["rewards/accuracies"], json!(0.75));
        assert_eq!(rows[1]["rewards/margins"], Value::Null);
        assert_eq!(rows[1]["lengths/sampled"], json!(7.5));
        assert_eq!(rows[1]["samples"][1]["location"], json!("rows.jsonl:2"));
        assert_eq!(rows[0]["samples"][0]["content"], json!("<0>"));
    }

    #[test]
    fn the_page_says_what_limits_its_figures() {
        let mut dial = dialed();
        let page = dial.page();
        for part in ["KL from strength 0", "&lt;1.5&gt;", "strength 1.5, cut", "1 answers were cut at 8 tokens", "k3"] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(!page.contains("reference is not") && !page.contains("NaN"));
        dial.starts_from_reference = false;
        assert!(dial.page().contains("reference is not the model without the adapter"));
    }
}
