//! `collimate train` without arguments: sample, score, align, measure.

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

use crate::assets::{is_base, write_base};
use crate::measure::{Accuracy, measure, solve};
use crate::problems::{Problem, Split, distinct_problems};
use crate::verifier::score;

/// Responses sampled per problem, K.
const NUM_RESPONSES: usize = 8;
/// Folder of the base model in the quickstart's folder.
const BASE: &str = "base";
/// The training data beside it.
const DATA: &str = "data.jsonl";
/// Solutions sampled per held-out problem.
const NUM_HELD_OUT_SAMPLES: usize = 4;

/// How many problems the quickstart uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuickstartSize {
    /// Problems to sample responses for and train on.
    pub num_problems: usize,
    /// Held-out problems to measure accuracy on.
    pub num_held_out: usize,
}

impl Default for QuickstartSize {
    fn default() -> Self {
        Self { num_problems: 512, num_held_out: 200 }
    }
}

/// Results of the quickstart.
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

/// The quickstart's recipe, overridden by the user's settings.
///
/// # Errors
/// An unknown setting, or an invalid value.
pub fn recipe(settings: &[(String, String)]) -> Result<Recipe, TrainError> {
    let defaults = [
        ("objective", "nca"),
        ("learning_rate", "2e-4"),
        ("per_device_train_batch_size", "16"),
        ("num_train_epochs", "2"),
        ("max_length", "128"),
        ("max_prompt_length", "64"),
    ];
    let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    // The user's settings override `before`; `after` holds only keys that the user did not set.
    let with = |before: &[(&str, &str)], after: &[(&str, &str)]| -> Result<Recipe, TrainError> {
        let all = [owned(&defaults), owned(before), settings.to_vec(), owned(after)].concat();
        load_recipe(None, &all)
    };
    let objective = with(&[], &[])?.objective;
    let own = own_settings(&objective.name);
    let given = |key: &str| key.strip_prefix("objective.").is_some_and(|name| objective.params.contains_key(name));
    let (parameters, others): (Vec<_>, Vec<_>) =
        own.iter().copied().partition(|(key, _)| key.starts_with("objective."));
    let parameters: Vec<_> = parameters.into_iter().filter(|(key, _)| !given(key)).collect();
    with(&others, &parameters)
}

/// `runs/quickstart-NAME`, or the first of `-2`, `-3`, … that holds no run yet.
pub fn free_folder(objective: &str) -> PathBuf {
    let first = PathBuf::from(format!("runs/quickstart-{objective}"));
    let further = (2..).map(|n| PathBuf::from(format!("runs/quickstart-{objective}-{n}")));
    std::iter::once(first.clone()).chain(further).find(|path| !path.exists()).unwrap_or(first)
}

/// Settings that suit an objective on the quickstart's rewards better than its defaults.
///
/// With β = 1 the target is π_ref · e^{r/α}. For NCA, α = 0.15 puts nearly all weight on right answers and still
/// separates half-right from wrong ones. InfoNCA fixes no absolute level: with NCA's settings one seed in three lost
/// what the base model could do (docs/log.md), so its targets are closer and its steps smaller.
fn own_settings(name: &str) -> &'static [(&'static str, &'static str)] {
    match name {
        "nca" => &[("objective.beta", "1"), ("objective.alpha", "0.15")],
        "infonca" => &[("objective.beta", "1"), ("objective.alpha", "0.33"), ("learning_rate", "1e-4")],
        "dpo" => &[("objective.beta", "0.3")],
        _ => &[],
    }
}

/// Runs the whole quickstart in the recipe's output folder.
///
/// # Errors
/// As [`Quickstart::sample`] and [`Quickstart::train`].
pub fn run(
    recipe: Recipe,
    size: QuickstartSize,
    observer: &mut dyn Observer,
    stop: &StopFlag,
) -> Result<QuickstartSummary, TrainError> {
    let mut quickstart = Quickstart::sample(recipe, size, observer)?;
    let trained = quickstart.train(observer, stop)?;
    quickstart.finish(&trained, observer)
}

/// A quickstart in progress, in three phases, so that a caller can handle signals differently in each.
#[derive(Debug)]
pub struct Quickstart {
    begun: Instant,
    lock: FolderLock,
    recipe: Recipe,
    tokenizer: TextTokenizer,
    held_out: Vec<Problem>,
    before: Accuracy,
}

impl Quickstart {
    /// Writes the base model, measures it, and samples and scores the training data.
    ///
    /// # Errors
    /// The folder holds a run already or cannot be written.
    pub fn sample(mut recipe: Recipe, size: QuickstartSize, observer: &mut dyn Observer) -> Result<Self, TrainError> {
        let begun = Instant::now();
        let out = recipe.output_dir.clone();
        let mut lock = FolderLock::acquire(&out)?;
        check_folder(&recipe, false)?;
        let base = out.join(BASE);
        // What an earlier quickstart left that did not come to its training is written again.
        let writes = |name: &str| name == BASE || name == DATA;
        OutputFolder { path: &out, reads: &[], writes: &writes }.check(is_base(&base))?;
        lock.keep_folder();
        write_base(&base)?;
        let tokenizer = TextTokenizer::from_model_dir(&base)?;
        let held_out: Vec<Problem> = distinct_problems(1, Split::HeldOut).take(size.num_held_out).collect();
        let mut session = open(&base, &recipe)?;
        observer.note("quickstart: a model of 0.8 million parameters learns word problems from rewards");
        let before = measured(session.as_mut(), &tokenizer, &held_out, "accuracy before", observer)?;
        let problems: Vec<Problem> = distinct_problems(recipe.seed, Split::Train).take(size.num_problems).collect();
        let data = out.join(DATA);
        sample(session.as_mut(), &tokenizer, &problems, &data, recipe.seed, observer)?;
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
    let base = if is_adapter { model.join("base") } else { model.to_owned() };
    let options = SessionOptions::of_recipe(recipe, base, is_adapter.then(|| model.to_owned()));
    Ok(open_session(&options)?)
}

fn measured(
    session: &mut dyn Session,
    tokenizer: &TextTokenizer,
    held_out: &[Problem],
    stage: &str,
    observer: &mut dyn Observer,
) -> Result<Accuracy, TrainError> {
    observer.stage(stage, Some(2 * held_out.len() as u64));
    let accuracy = measure(session, tokenizer, held_out, NUM_HELD_OUT_SAMPLES, 7, &mut |n| observer.advance(n as u64))?;
    observer.finish();
    observer.note(&format!(
        "{stage}: {:.1} % greedy, {:.1} % sampled, mean reward {:.3} ({} held-out problems)",
        100.0 * accuracy.greedy,
        100.0 * accuracy.sampled,
        accuracy.reward,
        held_out.len()
    ));
    Ok(accuracy)
}

/// Samples K responses per problem, scores them, and writes the groups as training data.
fn sample(
    session: &mut dyn Session,
    tokenizer: &TextTokenizer,
    problems: &[Problem],
    path: &Path,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<(), TrainError> {
    observer.stage(&format!("sampling {NUM_RESPONSES} responses a problem"), Some(problems.len() as u64));
    let mut advance = |n: usize| observer.advance(n as u64);
    let solutions = solve(session, tokenizer, problems, NUM_RESPONSES, Some(seed), &mut advance)?;
    observer.finish();
    let mut rows = RowWriter::create_plain(path)?;
    for (problem, texts) in problems.iter().zip(&solutions) {
        // A response with only an end token cannot be trained on; its siblings can.
        let texts = texts.iter().filter(|text| !text.trim().is_empty());
        let responses: Vec<_> = texts.map(|t| json!({ "content": t, "reward": score(problem, t) })).collect();
        if responses.len() >= 2 {
            rows.push(&json!({ "prompt": problem.prompt, "responses": responses }))?;
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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::recipe;

    fn settings(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[rstest]
    #[case::own(&[("objective", "infonca")], 1e-4, Some(0.33))]
    #[case::learning_rate_set(&[("objective", "infonca"), ("learning_rate", "1e-3")], 1e-3, Some(0.33))]
    #[case::parameter_set(&[("objective", "infonca"), ("objective.alpha", "0.5")], 1e-4, Some(0.5))]
    #[case::no_parameters(&[("objective", "sft")], 2e-4, None)]
    fn what_the_user_sets_wins_over_the_quickstarts_settings(
        #[case] given: &[(&str, &str)],
        #[case] learning_rate: f64,
        #[case] alpha: Option<f64>,
    ) {
        let recipe = recipe(&settings(given)).expect("a recipe");
        assert_eq!(recipe.learning_rate, learning_rate);
        assert_eq!(recipe.objective.number("alpha"), alpha);
    }
}
