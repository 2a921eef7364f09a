//! What moves an answer, as rows, as lines for a terminal, and as a page.

use collimate_report::{Chart, Sheet, number};
use serde_json::{Value, json};

use crate::gradients::{Explained, Explanation, Moved};

impl Explanation {
    /// A row for each answer and each training prompt, by falling score.
    pub fn rows(&self) -> Vec<Value> {
        let of_answer = |answer: &Explained| {
            let row = |(rank, moved): (usize, &Moved)| {
                json!({
                    "answer": answer.location, "response": answer.response, "rank": rank, "location": moved.location,
                    "score": moved.score, "cosine": moved.cosine, "loss": moved.loss,
                })
            };
            answer.moved.iter().enumerate().map(row).collect::<Vec<_>>()
        };
        self.answers.iter().flat_map(of_answer).collect()
    }

    /// The prompts that pushed each answer up and down, for a terminal.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for answer in &self.answers {
            lines.push(format!("{}: log-prob {} nats", answer.name(), number(answer.logp)));
            for (direction, moved) in self.ends(answer) {
                lines.push(format!("pushed {direction}, {}:", self.of_how_many()));
                lines.push("       score  cosine  file and line  prompt".to_owned());
                lines.extend(moved.iter().map(|moved| {
                    format!(
                        "  {:>10}  {:>6.3}  {}  {}",
                        number(moved.score),
                        moved.cosine,
                        moved.location,
                        moved.excerpt[0]
                    )
                }));
            }
        }
        lines
    }

    /// The page, one file that fetches nothing.
    pub fn page(&self) -> String {
        let mut sheet = Sheet::new(&format!("What moves answers of {}", self.run));
        sheet.facts(&[
            ("run", self.run.clone()),
            ("objective", self.objective.clone()),
            ("prompts", self.of_how_many()),
            (
                "score",
                "minus the scalar product of the gradients of the answer's log-prob and of the prompt's loss by the adapter, at \
                 the end of the run: what a plain gradient step on that prompt alone adds to the log-prob, by learning rate. \
                 Above 0 it pushes the answer up"
                    .to_owned(),
            ),
            ("cosine", "the score by the lengths of both gradients, −1 to 1".to_owned()),
        ]);
        for answer in &self.answers {
            sheet.heading(&answer.name());
            let about = format!("log-prob {} nats, reward {}", number(answer.logp), number(answer.reward));
            sheet.card(&about, ("prompt", &answer.prompt), &[("answer".to_owned(), answer.text.clone())]);
            for (direction, moved) in self.ends(answer) {
                sheet.about(&format!("Training prompts that push it {direction}, the strongest first:"));
                let row = |moved: &&Moved| {
                    let [prompt, best] = moved.excerpt.clone();
                    vec![number(moved.score), format!("{:.3}", moved.cosine), moved.location.clone(), prompt, best]
                };
                sheet.texts(
                    &["score", "cosine", "file and line", "prompt", "its best response"],
                    &moved.iter().map(row).collect::<Vec<_>>(),
                );
            }
            sheet.charts(&[answer.chart()]);
        }
        sheet.html()
    }

    /// The prompts at both ends, the strongest first. Only those that push in their direction.
    fn ends<'a>(&self, answer: &'a Explained) -> [(&'static str, Vec<&'a Moved>); 2] {
        let up = answer.moved.iter().take_while(|moved| moved.score > 0.0).take(self.num_shown).collect();
        let down = answer.moved.iter().rev().take_while(|moved| moved.score < 0.0).take(self.num_shown).collect();
        [("up", up), ("down", down)]
    }

    /// Which training prompts were looked at.
    pub fn of_how_many(&self) -> String {
        match self.num_looked_at == self.num_training {
            true => format!("all {} training prompts", self.num_training),
            false => {
                format!("{} of {} training prompts, drawn by seed {}", self.num_looked_at, self.num_training, self.seed)
            }
        }
    }
}

impl Explained {
    fn name(&self) -> String {
        format!("{}, response {}", self.location, self.response)
    }

    /// All scores by rank: whether a few prompts matter or all a little.
    fn chart(&self) -> Chart {
        let points = self.moved.iter().enumerate().map(|(rank, moved)| (rank as f64, moved.score));
        Chart {
            title: "Scores of the training prompts".to_owned(),
            about: "By falling score.".to_owned(),
            axes: ["rank".to_owned(), "nats by learning rate".to_owned()],
            lines: vec![("score".to_owned(), points.collect())],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explanation(num_shown: usize) -> Explanation {
        let moved = |line: usize, score: f64| Moved {
            location: format!("rows.jsonl:{line}"),
            score,
            cosine: score / 4.0,
            loss: 0.5,
            excerpt: [format!("<prompt {line}>"), "yes".to_owned()],
        };
        let answer = Explained {
            location: "held.jsonl:3".to_owned(),
            response: 1,
            reward: 1.0,
            logp: -7.5,
            prompt: "2 + 2?".to_owned(),
            text: "4".to_owned(),
            moved: vec![moved(1, 2.5), moved(2, 1.0), moved(3, 0.0), moved(4, -3.0)],
        };
        Explanation {
            run: "runs/a".to_owned(),
            objective: "nca".to_owned(),
            num_training: 9,
            num_looked_at: 4,
            seed: 3,
            num_shown,
            answers: vec![answer],
        }
    }

    #[test]
    fn each_direction_has_only_prompts_that_push_in_it() {
        let lines = explanation(10).lines();
        assert_eq!(
            lines,
            [
                "held.jsonl:3, response 1: log-prob -7.5 nats",
                "pushed up, 4 of 9 training prompts, drawn by seed 3:",
                "       score  cosine  file and line  prompt",
                "         2.5   0.625  rows.jsonl:1  <prompt 1>",
                "           1   0.250  rows.jsonl:2  <prompt 2>",
                "pushed down, 4 of 9 training prompts, drawn by seed 3:",
                "       score  cosine  file and line  prompt",
                "          -3  -0.750  rows.jsonl:4  <prompt 4>",
            ]
        );
        assert_eq!(explanation(1).lines().len(), 7);
    }

    #[test]
    fn rows_have_every_prompt_and_the_page_the_shown_ones() {
        let rows = explanation(1).rows();
        assert_eq!(rows.len(), 4);
        assert_eq!(
            (&rows[3]["rank"], &rows[3]["location"], &rows[3]["score"]),
            (&json!(3), &json!("rows.jsonl:4"), &json!(-3.0))
        );
        let page = explanation(1).page();
        assert!(page.contains("&lt;prompt 1&gt;") && page.contains("&lt;prompt 4&gt;"), "{page}");
        assert!(!page.contains("prompt 2&gt;") && page.contains("<svg"), "{page}");
    }
}
