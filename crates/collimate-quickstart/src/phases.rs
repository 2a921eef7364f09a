//! The phases of a built-in task: sample, score, align, measure.

use std::path::{Path, PathBuf};
use std::time::Instant;

use collimate_data::RowWriter;
use collimate_files::{FolderLock, OutputFolder, write_atomically};
use collimate_recipe::Recipe;
use collimate_text::TextTokenizer;
use collimate_train::{
    Observer, RunControl, Session, SessionOptions, StopFlag, TrainError, TrainSummary, check_folder, load_recipe,
    open_session, train_in, write_documents,
};
use serde_json::json;

use crate::measure::{Accuracy, measure, solve};
use crate::task::{Question, Task};

/// Responses sampled per question, K.
const NUM_RESPONSES: usize = 8;
/// Folder of the base model in the run's folder.
const BASE: &str = "base";
/// The training data beside it.
const DATA: &str = "data.jsonl";
/// Answers sampled per held-out question.
const NUM_HELD_OUT_SAMPLES: usize = 4;

/// Results of a quickstart.
#[derive(Debug, Clone, PartialEq)]
pub struct QuickstartSummary {
    /// Folder with everything it wrote.
    pub output_dir: PathBuf,
    /// Held-out accuracy of the base model.
    pub before: Accuracy,
    /// Held-out accuracy of the aligned model.
    pub after: Accuracy,
    /// Wall-clock time.
    pub seconds: f64,
}

/// A recipe that suits an objective on a task: `defaults`, and what `own` has for the objective, both overridden by `settings`.
///
/// # Errors
/// An unknown setting, or an invalid value.
pub fn recipe_of(
    defaults: &[(&str, &str)],
    own: fn(&str) -> &'static [(&'static str, &'static str)],
    settings: &[(String, String)],
) -> Result<Recipe, TrainError> {
    let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    // The user's settings override `before`; `after` holds only keys that the user did not set.
    let with = |before: &[(&str, &str)], after: &[(&str, &str)]| -> Result<Recipe, TrainError> {
        let all = [owned(defaults), owned(before), settings.to_vec(), owned(after)].concat();
        load_recipe(None, &all)
    };
    let objective = with(&[], &[])?.objective;
    let given = |key: &str| key.strip_prefix("objective.").is_some_and(|name| objective.params.contains_key(name));
    let (parameters, others): (Vec<_>, Vec<_>) =
        own(&objective.name).iter().copied().partition(|(key, _)| key.starts_with("objective."));
    let parameters: Vec<_> = parameters.into_iter().filter(|(key, _)| !given(key)).collect();
    with(&others, &parameters)
}

/// `runs/TASK-NAME`, or the first of `-2`, `-3`, … that holds no run yet.
pub fn free_folder_of(task: &str, objective: &str) -> PathBuf {
    let first = PathBuf::from(format!("runs/{task}-{objective}"));
    let further = (2..).map(|n| PathBuf::from(format!("runs/{task}-{objective}-{n}")));
    std::iter::once(first.clone()).chain(further).find(|path| !path.exists()).unwrap_or(first)
}

/// A quickstart in progress, in three phases, so that a caller can handle signals differently in each.
#[derive(Debug)]
pub struct Quickstart<Q> {
    begun: Instant,
    lock: FolderLock,
    recipe: Recipe,
    tokenizer: TextTokenizer,
    held_out: Vec<Q>,
    before: Accuracy,
}

impl<Q: Question> Quickstart<Q> {
    /// Writes the base model, measures it, and samples and scores the training data.
    ///
    /// # Errors
    /// The folder holds a run already or cannot be written.
    pub fn sample<T: Task<Question = Q>>(
        task: &T,
        mut recipe: Recipe,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        let begun = Instant::now();
        let out = recipe.output_dir.clone();
        let mut lock = FolderLock::acquire(&out)?;
        check_folder(&recipe, false)?;
        let base = out.join(BASE);
        // What an earlier quickstart left that did not come to its training is written again.
        let writes = |name: &str| name == BASE || name == DATA || task.writes().contains(&name);
        OutputFolder { path: &out, reads: &[], writes: &writes }.check(task.base().are_all_of(&base))?;
        lock.keep_folder();
        task.base().write(&base)?;
        let tokenizer = TextTokenizer::from_model_dir(&base)?;
        let questions = task.questions(&out, recipe.seed)?;
        let held_out = questions.held_out;
        let mut session = open(&base, &recipe)?;
        observer.note(task.about());
        let before = measured(session.as_mut(), &tokenizer, &held_out, "accuracy before", observer)?;
        let data = out.join(DATA);
        sample(session.as_mut(), &tokenizer, &questions.training, &data, recipe.seed, observer)?;
        recipe.model_name_or_path = Some(base);
        recipe.data = Some(data.into());
        Ok(Self { begun, lock, recipe, tokenizer, held_out, before })
    }

    /// Aligns the base model.
    ///
    /// # Errors
    /// Training fails, or `stop` was requested.
    pub fn train(&mut self, observer: &mut dyn Observer, stop: &StopFlag) -> Result<TrainSummary, TrainError> {
        let control = RunControl { resume: false, stop: stop.clone() };
        train_in(&mut self.lock, &self.recipe, observer, &control)
    }

    /// Measures the aligned model, and writes results, report and card.
    ///
    /// # Errors
    /// The aligned model cannot be read, or a file cannot be written.
    pub fn finish(self, trained: &TrainSummary, observer: &mut dyn Observer) -> Result<QuickstartSummary, TrainError> {
        let Self { begun, recipe, tokenizer, held_out, before, lock: _lock } = self;
        let out = recipe.output_dir.clone();
        let mut session = open(&out, &recipe)?;
        let after = measured(session.as_mut(), &tokenizer, &held_out, "accuracy after", observer)?;
        write_results(&out, &before, &after)?;
        write_documents(&recipe, trained)?;
        Ok(QuickstartSummary { output_dir: out, before, after, seconds: begun.elapsed().as_secs_f64() })
    }
}

/// Opens a model folder, or an adapter's folder on its base model.
fn open(model: &Path, recipe: &Recipe) -> Result<Box<dyn Session>, TrainError> {
    let is_adapter = model.join("adapter_config.json").is_file();
    let base = if is_adapter { model.join(BASE) } else { model.to_owned() };
    let options = SessionOptions::of_recipe(recipe, base, is_adapter.then(|| model.to_owned()));
    Ok(open_session(&options)?)
}

fn measured<Q: Question>(
    session: &mut dyn Session,
    tokenizer: &TextTokenizer,
    held_out: &[Q],
    stage: &str,
    observer: &mut dyn Observer,
) -> Result<Accuracy, TrainError> {
    observer.stage(stage, Some(2 * held_out.len() as u64));
    let accuracy = measure(session, tokenizer, held_out, NUM_HELD_OUT_SAMPLES, 7, &mut |n| observer.advance(n as u64))?;
    observer.finish();
    observer.note(&format!(
        "{stage}: {:.1} % greedy, {:.1} % sampled, mean reward {:.3} ({} held-out {}s)",
        100.0 * accuracy.greedy,
        100.0 * accuracy.sampled,
        accuracy.reward,
        held_out.len(),
        Q::NAME
    ));
    Ok(accuracy)
}

/// Samples K responses per question, scores them, and writes the groups as training data.
fn sample<Q: Question>(
    session: &mut dyn Session,
    tokenizer: &TextTokenizer,
    questions: &[Q],
    path: &Path,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<(), TrainError> {
    observer.stage(&format!("sampling {NUM_RESPONSES} responses a {}", Q::NAME), Some(questions.len() as u64));
    let mut advance = |n: usize| observer.advance(n as u64);
    let answers = solve(session, tokenizer, questions, NUM_RESPONSES, Some(seed), &mut advance)?;
    observer.finish();
    let mut rows = RowWriter::create_plain(path)?;
    for (question, texts) in questions.iter().zip(&answers) {
        // A response with only an end token cannot be trained on; its siblings can.
        let texts = texts.iter().filter(|text| !text.trim().is_empty());
        let responses: Vec<_> = texts.map(|t| json!({ "content": t, "reward": question.score(t) })).collect();
        if responses.len() >= 2 {
            rows.push(&json!({ "prompt": question.row(), "responses": responses }))?;
        }
    }
    Ok(rows.commit()?)
}

fn write_results(out: &Path, before: &Accuracy, after: &Accuracy) -> Result<(), TrainError> {
    let pair = |of: fn(&Accuracy) -> f64| json!({ "before": of(before), "after": of(after) });
    let results = json!({
        "accuracy_greedy": pair(|a| a.greedy),
        "accuracy_sampled": pair(|a| a.sampled),
        "reward_sampled": pair(|a| a.reward),
    });
    Ok(write_atomically(&out.join("results.json"), format!("{results:#}\n").as_bytes())?)
}
