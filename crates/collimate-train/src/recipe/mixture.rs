//! Data as TRL and the alignment handbook name it: a mixture of data sets with splits, files and folders or names on the hub.

use std::path::PathBuf;

use collimate_data::DataPart;
use serde_yaml_ng::{Mapping, Value};

use super::resolve::Resolver;
use super::sources::is_of_split;
use super::values::KeyType;
use super::{DataSources, IntervalStrategy, Origin, Recipe, RecipeError};

/// Keys that a mixture is given by, with what they are.
const KEYS: &[(&str, &str)] = &[
    ("dataset_mixer", "Files, folders or names on the hub to train on, with the share of each that is taken."),
    ("dataset_name", "A file, a folder or a name on the hub to train on."),
    (
        "datasets",
        "Files, folders or names on the hub to train on: a list of tables with `path`, and `weight` and `split` if need be.",
    ),
    ("dataset_mixture", "A table with `datasets`, and `test_split_size` as `eval_fraction`."),
    (
        "dataset_splits",
        "Names of files in the mixture's folders and repositories: those with `test` in them are evaluated on.",
    ),
    ("dataset_train_split", "Name of the file in the mixture's folders and repositories to train on."),
    ("dataset_test_split", "Name of the file in the mixture's folders and repositories to evaluate on."),
];

/// What these keys say.
#[derive(Debug, Default)]
pub(super) struct Mixture {
    key: Option<String>,
    sets: Vec<Set>,
    train_splits: Option<Vec<String>>,
    test_splits: Option<Vec<String>>,
    /// Share to hold out, where a mixture says it.
    eval_fraction: Option<f64>,
}

/// A data set of a mixture.
#[derive(Debug, Clone)]
struct Set {
    part: DataPart,
    split: Option<String>,
}

/// What a mixture comes to.
struct Resolved {
    train: DataSources,
    test: Option<DataSources>,
}

impl Mixture {
    pub(super) fn keys() -> impl Iterator<Item = (&'static str, String)> {
        KEYS.iter().map(|(key, doc)| (*key, (*doc).to_owned()))
    }

    /// The key that named data sets, if one did.
    pub(super) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Takes a key of a mixture: `None` where it is none, or what its value must be.
    pub(super) fn set(&mut self, key: &str, value: &Value) -> Option<Result<(), &'static str>> {
        let taken = match key {
            "dataset_mixer" => DataSources::from_yaml(value).map(|sources| self.name(key, whole(&sources))),
            "dataset_name" => DataSources::from_yaml(value).map(|sources| self.name(key, whole(&sources))),
            "datasets" => tables(value).map(|sets| self.name(key, sets)),
            "dataset_mixture" => value.as_mapping().and_then(|mixture| self.mixture(key, mixture)),
            "dataset_splits" => names(value).map(|splits| {
                let (test, train) = splits.into_iter().partition(|split| split.contains("test"));
                (self.train_splits, self.test_splits) = (Some(train), Some(test));
            }),
            "dataset_train_split" => names(value).map(|split| self.train_splits = Some(split)),
            "dataset_test_split" => names(value).map(|split| self.test_splits = Some(split)),
            _ => return None,
        };
        Some(taken.ok_or(match key {
            "dataset_mixer" | "dataset_name" => DataSources::EXPECTED,
            "datasets" => "a list of tables with `path`",
            "dataset_mixture" => "a table with `datasets`",
            _ => "the name of a split or a list of names",
        }))
    }

    fn name(&mut self, key: &str, sets: Vec<Set>) {
        (self.key, self.sets) = (Some(key.to_owned()), sets);
    }

    fn mixture(&mut self, key: &str, mixture: &Mapping) -> Option<()> {
        self.name(key, tables(mixture.get("datasets")?)?);
        if let Some(size) = mixture.get("test_split_size").filter(|size| !size.is_null()) {
            self.eval_fraction = Some(f64::from_yaml(size)?);
        }
        Some(())
    }

    /// Puts the files into a recipe, where the mixture names any: they win over its `data`.
    ///
    /// # Errors
    /// A path that does not exist, a folder without the files of a split, or a weight that is no share.
    pub(super) fn put_into(&self, recipe: &mut Recipe, resolver: &Resolver<'_>) -> Result<(), RecipeError> {
        let is_evaluated_otherwise = recipe.eval_data.is_some() || recipe.eval_fraction > 0.0;
        let wants_test =
            !is_evaluated_otherwise && self.eval_fraction.is_none() && recipe.eval_strategy != IntervalStrategy::No;
        let (Some(key), Some(resolved)) = (&self.key, self.resolve(resolver, wants_test)?) else { return Ok(()) };
        resolver.check_sources(key, &resolved.train)?;
        recipe.data = Some(resolved.train);
        if is_evaluated_otherwise {
            return Ok(());
        }
        match self.eval_fraction {
            Some(fraction) => recipe.eval_fraction = fraction,
            None if wants_test => recipe.eval_data = resolved.test,
            None => {}
        }
        Ok(())
    }

    fn resolve(&self, resolver: &Resolver<'_>, wants_test: bool) -> Result<Option<Resolved>, RecipeError> {
        let Some(key) = &self.key else { return Ok(None) };
        let (mut train, mut test) = (Vec::new(), Vec::new());
        for set in &self.sets {
            let found = resolver.find(key, &set.part.path)?;
            let files = found.files();
            let part = |path: PathBuf| DataPart { path, weight: set.part.weight };
            let Some(name) = found.with_splits() else {
                train.extend(resolver.fetch(key, &found, files)?.into_iter().map(part));
                continue;
            };
            let of = |splits: &[String]| -> Vec<_> {
                files.iter().filter(|file| splits.iter().any(|split| is_of_split(file, split))).cloned().collect()
            };
            let named = set.split.clone().map(|split| vec![split]).or_else(|| self.train_splits.clone());
            let chosen = match (of(named.as_deref().unwrap_or(&["train".to_owned()])), named) {
                (chosen, _) if !chosen.is_empty() => chosen,
                (_, Some(splits)) => return Err(resolver.problem(key, no_split(&name, &splits, files))),
                // Without a file that is called so, all of them are meant.
                (_, None) => files.to_vec(),
            };
            let tests = of(self.test_splits.as_deref().unwrap_or(&["test".to_owned()]));
            // Held-out files are taken whole, so that results compare; they are fetched only where they are read.
            let unused: Vec<PathBuf> = tests.into_iter().filter(|file| !chosen.contains(file)).collect();
            train.extend(resolver.fetch(key, &found, &chosen)?.into_iter().map(part));
            if wants_test {
                test.extend(resolver.fetch(key, &found, &unused)?.into_iter().map(DataPart::whole));
            }
        }
        let test = (!test.is_empty()).then(|| DataSources::new(test));
        Ok(Some(Resolved { train: DataSources::new(train), test }))
    }

    /// A contradiction of a recipe that names data in two ways.
    pub(super) fn second_name(&self, origin: Origin) -> Option<RecipeError> {
        let key = self.key.clone()?;
        let problem = format!("the recipe names its data twice, as data and as {key}; leave one out");
        Some(RecipeError::Value { origin, key, problem })
    }
}

fn no_split(folder: &str, splits: &[String], files: &[PathBuf]) -> String {
    let there: Vec<_> =
        files.iter().take(6).map(|file| file.file_name().unwrap_or_default().display().to_string()).collect();
    let wanted: Vec<_> = splits.iter().map(|split| format!("{split}.jsonl")).collect();
    format!(
        "{folder} has no {} (nor .parquet, nor parts, {}-…); it has {}",
        wanted.join(" or "),
        splits.first().map_or("", String::as_str),
        there.join(", ")
    )
}

fn whole(sources: &DataSources) -> Vec<Set> {
    sources.parts().iter().map(|part| Set { part: part.clone(), split: None }).collect()
}

/// TRL's `path` or the handbook's `id`, with the handbook's `weight` and the `split` of both; other fields have no meaning here.
fn tables(value: &Value) -> Option<Vec<Set>> {
    let set = |value: &Value| {
        let table = value.as_mapping()?;
        let path = table.get("path").or_else(|| table.get("id"))?;
        let weight = table.get("weight").filter(|weight| !weight.is_null()).map_or(Some(1.0), f64::from_yaml)?;
        let split = table.get("split").filter(|split| !split.is_null());
        let split = match split {
            Some(split) => Some(String::from_yaml(split)?),
            None => None,
        };
        Some(Set { part: DataPart { path: PathBuf::from_yaml(path)?, weight }, split })
    };
    let sets: Vec<Set> = value.as_sequence()?.iter().map(set).collect::<Option<_>>()?;
    (!sets.is_empty()).then_some(sets)
}

fn names(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Sequence(names) => names.iter().map(String::from_yaml).collect(),
        name => String::from_yaml(name).map(|name| vec![name]),
    }
}
