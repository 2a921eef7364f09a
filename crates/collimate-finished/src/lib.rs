//! A finished run, opened again from its folder: the recipe, the adapter that it ended with, its data and its reference, for
//! commands that look into it. Nothing of the run changes.
//!
//! Start at [`TrainedRun::read`], which reads a folder and refuses what has no trained adapter before anything is computed, and
//! [`TrainedRun::open`], which passes a [`FinishedRun`] on. This crate must not know what is asked of a run.

use std::io;
use std::path::{Path, PathBuf};

use collimate_collective::StopFlag;
use collimate_files::check_plain;
use collimate_hub::Hub;
use collimate_peft::LoraConfig;
use collimate_recipe::{Origin, Recipe, RecipeError};
use collimate_store::epoch_order;
use collimate_train::{FinishedRun, LoadedRecipe, Observer, TrainError, load_recipe_from, with_finished};

/// The recipe of a run, in its folder.
const RECIPE: &str = "recipe.yaml";
/// What a run that trains an adapter writes last.
const ADAPTER: &str = "adapter_config.json";
/// The folder that a run would write to that is opened to be read; it is never made.
const NOWHERE: &str = ".opened";

/// What a run's folder says of a run that trained an adapter.
#[derive(Debug, Clone)]
pub struct TrainedRun {
    /// The run's folder.
    pub folder: PathBuf,
    /// The recipe as it was run.
    pub recipe: Recipe,
    /// The adapter that was trained.
    pub adapter: LoraConfig,
    /// The model that the adapter is for.
    pub model: PathBuf,
    /// What loading the recipe said.
    pub notes: Vec<String>,
}

impl TrainedRun {
    /// Reads a run's recipe and the settings of its adapter.
    ///
    /// # Errors
    /// There is no recipe in the folder; the run trains all weights, or has not finished; or what the recipe names is gone.
    pub fn read(folder: &Path, hub: &Hub) -> Result<Self, TrainError> {
        let path = folder.join(RECIPE);
        check_plain(&path).map_err(|source| TrainError::io(&path, source))?;
        let LoadedRecipe { recipe, notes } = load_recipe_from(Some(&path), &[], hub)?;
        if !recipe.use_peft {
            let problem = "is false: the run trained all weights, and this is about an adapter";
            return Err(refused(folder, "use_peft", problem));
        }
        let adapter = folder.join(ADAPTER);
        if !adapter.is_file() {
            let message = "is missing: the run has not finished (`collimate train --resume` goes on with it)";
            return Err(TrainError::io(&adapter, io::Error::new(io::ErrorKind::NotFound, message)));
        }
        let (adapter, model) = (LoraConfig::from_dir(folder)?, recipe.model()?.to_owned());
        Ok(Self { folder: folder.to_owned(), recipe, adapter, model, notes })
    }

    /// Checks that the run has held-out data.
    ///
    /// # Errors
    /// It has none; the error points into the recipe.
    pub fn check_held_out(&self) -> Result<(), TrainError> {
        if self.recipe.eval_data.is_some() || self.recipe.eval_fraction > 0.0 {
            return Ok(());
        }
        Err(self.refused("eval_fraction", "is 0 and there is no eval_data: the run has no held-out data to look at"))
    }

    /// An error about a key of the run's recipe.
    pub fn refused(&self, key: &str, problem: &str) -> TrainError {
        refused(&self.folder, key, problem)
    }

    /// Whether the run's reference is the model without its adapter.
    pub fn starts_from_reference(&self) -> bool {
        match self.recipe.reference.as_deref() {
            None | Some("start") => self.recipe.adapter.is_none(),
            Some(reference) => reference == "base",
        }
    }

    /// The recipe with which the trained adapter is opened. The reference stays what it was, whatever the start of the run was.
    fn opened(&self) -> Recipe {
        let reference = match (self.recipe.reference.as_deref(), &self.recipe.adapter) {
            (None | Some("start"), None) => Some("base".to_owned()),
            (None | Some("start"), Some(start)) => Some(start.display().to_string()),
            (reference, _) => reference.map(str::to_owned),
        };
        let output_dir = self.folder.join(NOWHERE);
        Recipe { adapter: Some(self.folder.clone()), reference, output_dir, ..self.recipe.clone() }
    }

    /// Opens model, data and reference, and passes them on.
    ///
    /// # Errors
    /// As `train` before its first step; or those of `work`.
    pub fn open<T, E: From<TrainError>>(
        &self,
        stop: &StopFlag,
        observer: &mut dyn Observer,
        work: impl FnOnce(&mut FinishedRun<'_>, &mut dyn Observer) -> Result<T, E>,
    ) -> Result<T, E> {
        with_finished(&self.opened(), stop, observer, work)
    }
}

fn refused(folder: &Path, key: &str, problem: &str) -> TrainError {
    let origin = Origin::find(&folder.join(RECIPE), key, None).unwrap_or(Origin::Unnamed);
    RecipeError::Value { origin, key: key.to_owned(), problem: problem.to_owned() }.into()
}

/// At most `count` of the numbers below `all`, drawn by the seed alone, in rising order.
pub fn seeded_sample(count: usize, all: usize, seed: u64) -> Vec<usize> {
    let mut drawn: Vec<usize> = epoch_order(all, true, seed, 0).into_iter().map(|index| index as usize).collect();
    drawn.truncate(count);
    drawn.sort_unstable();
    drawn
}

#[cfg(test)]
mod tests {
    use std::fs;

    use collimate_hub::HubOptions;
    use collimate_peft::LoraTargets;
    use rstest::rstest;

    use super::*;

    #[test]
    fn a_sample_is_that_of_its_seed() {
        let drawn = seeded_sample(5, 40, 3);
        assert!(drawn.len() == 5 && drawn.is_sorted() && drawn.iter().all(|index| *index < 40), "{drawn:?}");
        assert_eq!(drawn, seeded_sample(5, 40, 3));
        assert_ne!(drawn, seeded_sample(5, 40, 4));
        assert_eq!(seeded_sample(9, 3, 0), [0, 1, 2]);
    }

    fn read(recipe: &str) -> (tempfile::TempDir, Result<TrainedRun, TrainError>) {
        let folder = tempfile::tempdir().expect("a folder");
        let model = folder.path().join("model");
        fs::create_dir(&model).expect("a folder");
        fs::write(model.join("config.json"), "{}").expect("a file");
        let recipe = recipe.replace("MODEL", &model.display().to_string());
        fs::write(folder.path().join(RECIPE), recipe).expect("a file");
        let hub = Hub::new(HubOptions { offline: true, ..HubOptions::from_env() });
        let run = TrainedRun::read(folder.path(), &hub);
        (folder, run)
    }

    #[rstest]
    #[case::all_weights("model_name_or_path: MODEL\nuse_peft: false\n", "use_peft", "trained all weights")]
    #[case::unfinished("model_name_or_path: MODEL\nuse_peft: true\n", "adapter_config.json", "has not finished")]
    fn what_has_no_trained_adapter_is_refused(#[case] recipe: &str, #[case] what: &str, #[case] why: &str) {
        let error = read(recipe).1.expect_err("no trained adapter").to_string();
        assert!(error.contains(what) && error.contains(why), "{error}");
    }

    #[rstest]
    #[case(None, None, Some("base"), true)]
    #[case(Some("start"), Some("adapters/first"), Some("adapters/first"), false)]
    #[case(Some("base"), Some("adapters/first"), Some("base"), true)]
    #[case(Some("models/other"), None, Some("models/other"), false)]
    fn the_reference_stays_what_it_was(
        #[case] reference: Option<&str>,
        #[case] start: Option<&str>,
        #[case] opened: Option<&str>,
        #[case] is_base: bool,
    ) {
        let (reference, adapter) = (reference.map(str::to_owned), start.map(PathBuf::from));
        let recipe = Recipe { reference, adapter, ..Recipe::default() };
        let adapter = LoraConfig::new(1, 1.0, LoraTargets::AllLinear);
        let (folder, model) = (PathBuf::from("runs/a"), PathBuf::from("models/a"));
        let run = TrainedRun { folder, recipe, adapter, model, notes: Vec::new() };
        assert_eq!(run.opened().reference.as_deref(), opened);
        assert_eq!(run.opened().adapter.as_deref(), Some(Path::new("runs/a")));
        assert_eq!(run.starts_from_reference(), is_base);
    }
}
