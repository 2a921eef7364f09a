//! GSM8K questions with solutions of four models, or generated problems without that file; split by question.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use collimate_quickstart::problems::{Split, corrupt, distinct_problems, forget_last_step};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::FallingSize;
use crate::task::write_rows;

/// The file in the data folder.
const FILE: &str = "gsm8k_model_solutions.jsonl";
/// The models whose solutions it has, in the order of the responses.
const MODELS: [&str; 4] = ["6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"];

/// The source of questions.
#[derive(Debug)]
pub(super) enum Source {
    /// GSM8K's test questions with published model solutions.
    Real(PathBuf, String),
    /// The quickstart's problems with right solutions and solutions with a slip.
    Generated,
}

/// A question, a worked solution, and four solutions with rewards.
struct Question {
    text: String,
    solution: String,
    responses: Vec<(String, f64)>,
}

impl Source {
    /// GSM8K if the folder has the file, else generated problems.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(super) fn find(folder: Option<&Path>) -> Result<Self> {
        let Some(path) = folder.map(|folder| folder.join(FILE)).filter(|path| path.is_file()) else {
            return Ok(Self::Generated);
        };
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self::Real(path, text))
    }

    pub(super) fn is_real(&self) -> bool {
        matches!(self, Self::Real(..))
    }

    /// Identifies the data, for the settings of stages.
    pub(super) fn fingerprint(&self) -> String {
        match self {
            Self::Real(_, text) => blake3::hash(text.as_bytes()).to_hex()[..12].to_owned(),
            Self::Generated => "generated".to_owned(),
        }
    }

    fn questions(&self, count: usize) -> Result<Vec<Question>> {
        let mut questions = match self {
            Self::Real(path, text) => {
                let parsed = text
                    .lines()
                    .enumerate()
                    .map(|(at, line)| parse(line).with_context(|| format!("{}:{}", path.display(), at + 1)));
                parsed.collect::<Result<Vec<_>>>()?
            }
            Self::Generated => generate(count),
        };
        ensure!(questions.len() >= count, "expected at least {count} questions, found {}", questions.len());
        questions.shuffle(&mut ChaCha8Rng::seed_from_u64(0));
        Ok(questions)
    }
}

fn parse(line: &str) -> Result<Question> {
    let row: Value = serde_json::from_str(line)?;
    let text = |value: &Value, name: &str| -> Result<String> {
        Ok(value[name].as_str().with_context(|| format!("field \"{name}\": expected a text"))?.to_owned())
    };
    let responses = MODELS.iter().map(|model| {
        let right = row[model]["is_correct"].as_bool();
        let right = right.with_context(|| format!("field \"{model}.is_correct\": expected true or false"))?;
        Ok((text(&row[model], "solution")?, f64::from(u8::from(right))))
    });
    let responses = responses.collect::<Result<_>>()?;
    Ok(Question { text: text(&row, "question")?, solution: text(&row, "ground_truth")?, responses })
}

/// Problems with four solutions, one to three of them right: the worked one, and slips.
fn generate(count: usize) -> Vec<Question> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let problems = distinct_problems(3, Split::Train).take(count);
    let made = problems.map(|problem| {
        let short = forget_last_step(&problem).unwrap_or_else(|| corrupt(&problem, &mut rng));
        let wrong = [corrupt(&problem, &mut rng), short, corrupt(&problem, &mut rng)];
        let right = std::iter::once((problem.solution.clone(), 1.0));
        let mut responses: Vec<_> = right.chain(wrong.map(|text| (text, 0.0))).collect();
        responses.shuffle(&mut rng);
        Question { text: problem.prompt, solution: problem.solution, responses }
    });
    made.collect()
}

/// Writes `sft.jsonl` (all five solutions of each question), and `preference.jsonl` and `held-out.jsonl` (the four solutions
/// with rewards, for questions whose rewards differ).
///
/// # Errors
/// Too few questions, or a file that cannot be written.
pub(super) fn write(source: &Source, size: &FallingSize, dir: &Path) -> Result<()> {
    let questions = source.questions(size.num_sft + size.num_preference + size.num_held_out)?;
    let (sft, rest) = questions.split_at(size.num_sft);
    let (preference, rest) = rest.split_at(size.num_preference);
    write_rows(
        &dir.join("sft.jsonl"),
        sft.iter().map(|question| {
            let own = std::iter::once(&question.solution).chain(question.responses.iter().map(|(text, _)| text));
            let responses: Vec<Value> = own.map(|text| json!({"content": text, "reward": 1.0})).collect();
            json!({"prompt": prompt(question), "responses": responses})
        }),
    )?;
    for (name, part) in [("preference", preference), ("held-out", &rest[..size.num_held_out])] {
        let differing = part.iter().filter(|q| q.responses.iter().any(|(_, reward)| *reward != q.responses[0].1));
        write_rows(
            &dir.join(format!("{name}.jsonl")),
            differing.map(|question| {
                let scored = question.responses.iter().map(|(text, reward)| json!({"content": text, "reward": reward}));
                json!({"prompt": prompt(question), "responses": scored.collect::<Vec<_>>()})
            }),
        )?;
    }
    Ok(())
}

fn prompt(question: &Question) -> String {
    format!("{}\n", question.text.trim_end())
}

/// Numbers of training and held-out questions.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn counts(dir: &Path) -> Result<(usize, usize)> {
    let count = |name: &str| -> Result<usize> { Ok(fs::read_to_string(dir.join(name))?.lines().count()) };
    Ok((count("preference.jsonl")?, count("held-out.jsonl")?))
}

/// The texts that the base model is trained on.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn sft_texts(dir: &Path) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for line in fs::read_to_string(dir.join("sft.jsonl"))?.lines() {
        let row: Value = serde_json::from_str(line)?;
        texts.extend(row["prompt"].as_str().map(str::to_owned));
        let responses = row["responses"].as_array().into_iter().flatten();
        texts.extend(responses.filter_map(|response| response["content"].as_str().map(str::to_owned)));
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_row_becomes_a_question_with_four_scored_solutions() {
        let of = |right: bool, text: &str| json!({"is_correct": right, "solution": text});
        let row = json!({"question": "Q?", "ground_truth": "G", "6b_finetuning": of(false, "a"),
            "6b_verification": of(true, "b"), "175b_finetuning": of(false, "c"), "175b_verification": of(true, "d")});
        let question = parse(&row.to_string()).expect("a question");
        let rewards: Vec<f64> = question.responses.iter().map(|(_, reward)| *reward).collect();
        assert_eq!((question.text.as_str(), rewards), ("Q?", vec![0.0, 1.0, 0.0, 1.0]));
        let error = parse(r#"{"question": "Q?"}"#).err().expect("no solutions");
        assert!(format!("{error:#}").contains("6b_finetuning.is_correct"), "{error:#}");
    }

    #[test]
    fn no_question_is_in_two_parts() {
        let dir = tempfile::tempdir().expect("a folder");
        write(&Source::Generated, &FallingSize::quick(), dir.path()).expect("written");
        let prompts = |name: &str| -> Vec<String> {
            let text = fs::read_to_string(dir.path().join(name)).expect("a file");
            let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a row"));
            rows.map(|row| row["prompt"].as_str().expect("a prompt").to_owned()).collect()
        };
        let all = ["sft.jsonl", "preference.jsonl", "held-out.jsonl"].map(prompts).concat();
        let distinct: std::collections::HashSet<&String> = all.iter().collect();
        assert!(all.len() == distinct.len() && all.len() > 100, "{} of {}", distinct.len(), all.len());
    }
}
