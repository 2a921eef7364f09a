//! Data as TRL and the alignment handbook name it: a mixture of data sets with splits, each a file, a folder or a name on
//! the hub.

use std::path::PathBuf;

use collimate_data::DataPart;
use serde_yaml_ng::{Mapping, Value};

use crate::error::{Origin, RecipeError};
use crate::recipe::Recipe;
use crate::sources::DataSources;
use crate::strategy::IntervalStrategy;
use crate::values::KeyType;

/// The keys of a mixture, with their documentation.
const KEYS: &[(&str, &str)] = &[
    ("dataset_mixer", "Files, folders or names on the hub to train on, with the share of each that is taken."),
    ("dataset_name", "A file, a folder or a name on the hub to train on."),
    (
        "datasets",
        "Files, folders or names on the hub to train on: a list of tables with `path`, and `weight` and `split` if need be.",
    ),
    ("dataset_mixture", "A table with `datasets`, and `test_split_size` as `eval_fraction`."),
    ("test_split_size", "Share or number of prompts to hold out, as `eval_fraction`."),
    ("dataset_config", "Folder of the mixture's folders and repositories to read, unless it is `default`."),
    ("dataset_configs", "The same."),
    (
        "dataset_splits",
        "Names of files in the mixture's folders and repositories: those with `test` in them are evaluated on.",
    ),
    ("dataset_train_split", "Name of the file in the mixture's folders and repositories to train on."),
    ("dataset_test_split", "Name of the file in the mixture's folders and repositories to evaluate on."),
];

/// A mixture of data sets, which takes the place of a recipe's `data`.
#[derive(Debug, Clone, PartialEq)]
pub struct DataMixture {
    /// The key that named the data sets.
    pub key: String,
    /// The data sets, in the order in which they are read.
    pub sets: Vec<MixtureSet>,
    /// Names of the splits to train on; by default `train`, or all files if none has that name.
    pub train_splits: Option<Vec<String>>,
    /// Names of the splits to evaluate on; by default `test`.
    pub test_splits: Option<Vec<String>>,
    /// Whether to evaluate on the test splits: not if the recipe evaluates on other data, or not at all.
    pub wants_test: bool,
}

/// A data set of a mixture.
#[derive(Debug, Clone, PartialEq)]
pub struct MixtureSet {
    /// Its path or name on the hub, and the share to take of it.
    pub part: DataPart,
    /// The split of this data set to train on.
    pub split: Option<String>,
    /// Its configuration: the folder in which its files lie.
    pub config: Option<String>,
}

/// The keys of a mixture read so far.
#[derive(Debug, Default)]
pub(crate) struct MixtureKeys {
    key: Option<String>,
    sets: Vec<MixtureSet>,
    train_splits: Option<Vec<String>>,
    test_splits: Option<Vec<String>>,
    /// The configuration of data sets that name none.
    config: Option<String>,
    /// Share of the mixture to hold out.
    eval_fraction: Option<f64>,
}

impl MixtureKeys {
    pub(crate) fn keys() -> impl Iterator<Item = (&'static str, String)> {
        KEYS.iter().map(|(key, doc)| (*key, (*doc).to_owned()))
    }

    /// The key that named the data sets, if one did.
    pub(crate) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Sets a key of a mixture. The error is what was expected; `None` means that it is another kind of key.
    pub(crate) fn set(&mut self, key: &str, value: &Value) -> Option<Result<(), &'static str>> {
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
            "test_split_size" => Option::<f64>::from_yaml(value).map(|size| self.eval_fraction = size),
            "dataset_config" | "dataset_configs" => config(value).map(|config| self.config = config),
            "dataset_test_split" => names(value).map(|split| self.test_splits = Some(split)),
            _ => return None,
        };
        Some(taken.ok_or(match key {
            "dataset_mixer" | "dataset_name" => DataSources::EXPECTED,
            "datasets" => TABLES,
            "dataset_mixture" => {
                "a table with `datasets`, a list of tables with `path`, and `weight`, `split` and `config`"
            }
            "test_split_size" => f64::EXPECTED,
            "dataset_config" | "dataset_configs" => "the name of one configuration",
            _ => "the name of a split or a list of names",
        }))
    }

    fn name(&mut self, key: &str, sets: Vec<MixtureSet>) {
        (self.key, self.sets) = (Some(key.to_owned()), sets);
    }

    fn mixture(&mut self, key: &str, mixture: &Mapping) -> Option<()> {
        self.name(key, tables(mixture.get("datasets")?)?);
        if let Some(size) = mixture.get("test_split_size").filter(|size| !size.is_null()) {
            self.eval_fraction = Some(f64::from_yaml(size)?);
        }
        Some(())
    }

    /// Builds the mixture, if the recipe has one, and clears the recipe's `data`, whose place it takes. With
    /// `do_eval` the test splits are evaluated on whatever `eval_strategy` is.
    pub(crate) fn finish(self, recipe: &mut Recipe, do_eval: bool) -> Option<DataMixture> {
        let Self { key, mut sets, train_splits, test_splits, config, eval_fraction } = self;
        let key = key?;
        sets.iter_mut().for_each(|set| set.config = set.config.take().or_else(|| config.clone()));
        recipe.data = None;
        let is_evaluated_otherwise = recipe.eval_data.is_some() || recipe.eval_fraction > 0.0;
        if let Some(fraction) = eval_fraction
            && !is_evaluated_otherwise
        {
            recipe.eval_fraction = fraction;
        }
        let evaluates = do_eval || recipe.eval_strategy != IntervalStrategy::No;
        let wants_test = !is_evaluated_otherwise && eval_fraction.is_none() && evaluates;
        Some(DataMixture { key, sets, train_splits, test_splits, wants_test })
    }

    /// The error for a recipe that names its data twice, if it has a mixture.
    pub(crate) fn second_name(&self, origin: Origin) -> Option<RecipeError> {
        let key = self.key.clone()?;
        let problem = format!("the recipe names its data twice, as data and as {key}; leave one out");
        Some(RecipeError::Value { origin, key, problem })
    }
}

/// What `datasets` must be.
const TABLES: &str = "a list of tables with `path`, and `weight`, `split` and `config` if need be, but not data_dir, data_files or fraction";

/// Fields that choose rows in a way that is not done here.
const UNSUPPORTED: [&str; 3] = ["data_dir", "data_files", "fraction"];

fn whole(sources: &DataSources) -> Vec<MixtureSet> {
    sources.parts().iter().map(|part| MixtureSet { part: part.clone(), split: None, config: None }).collect()
}

/// Reads data sets by TRL's `path` or the handbook's `id`, the handbook's `weight`, and `split` and `config`; other fields are
/// ignored.
fn tables(value: &Value) -> Option<Vec<MixtureSet>> {
    let set = |value: &Value| {
        let table = value.as_mapping()?;
        let given = |field: &&str| table.get(*field).is_some_and(|value| !value.is_null());
        if UNSUPPORTED.iter().any(given) {
            return None;
        }
        let path = table.get("path").or_else(|| table.get("id"))?;
        let weight = table.get("weight").filter(|weight| !weight.is_null()).map_or(Some(1.0), f64::from_yaml)?;
        let split = table.get("split").filter(|split| !split.is_null());
        let split = match split {
            Some(split) => Some(String::from_yaml(split)?),
            None => None,
        };
        // transformers' `name`, the handbook's `config`.
        let config = config(table.get("config").or_else(|| table.get("name")).unwrap_or(&Value::Null))?;
        Some(MixtureSet { part: DataPart { path: PathBuf::from_yaml(path)?, weight }, split, config })
    };
    let sets: Vec<MixtureSet> = value.as_sequence()?.iter().map(set).collect::<Option<_>>()?;
    (!sets.is_empty()).then_some(sets)
}

/// A configuration, of which the default one has no name.
fn config(value: &Value) -> Option<Option<String>> {
    let name = match value {
        Value::Null => return Some(None),
        Value::Sequence(names) if names.len() <= 1 => names.first().map_or(Some(String::new()), String::from_yaml)?,
        name => String::from_yaml(name)?,
    };
    Some((!name.is_empty() && name != "default").then_some(name))
}

fn names(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Sequence(names) => names.iter().map(String::from_yaml).collect(),
        name => String::from_yaml(name).map(|name| vec![name]),
    }
}
