//! Options as TRL's commands have them.

use std::path::{Path, PathBuf};

use collimate_recipe::{TrlDefaults, VERB};

use crate::error::CliError;

/// TRL's way to name a recipe and its keys. `--KEY VALUE` for any key of a recipe is turned into `--argument KEY=VALUE`, and
/// an objective's name as verb into `train --verb NAME`, before arguments are parsed.
#[derive(Debug, clap::Args)]
pub(crate) struct TrlOptions {
    /// Recipe file, as TRL names it; any key of a recipe is an option too, as in `--learning_rate 1e-5`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Use TRL's defaults for what the recipe leaves out, as for a recipe with keys that only TRL has
    #[arg(long)]
    trl: bool,
    #[arg(long = "argument", hide = true, value_name = "KEY=VALUE", value_parser = key_value)]
    arguments: Vec<(String, String)>,
    #[arg(long, hide = true, value_name = "NAME")]
    verb: Option<String>,
}

impl TrlOptions {
    /// The recipe's file, named as an argument or by `--config`.
    ///
    /// # Errors
    /// Both are given.
    pub(crate) fn recipe(&self, argument: Option<PathBuf>) -> Result<Option<PathBuf>, CliError> {
        match (argument, self.config.clone()) {
            (Some(argument), Some(config)) => Err(CliError::usage(format!(
                "the recipe is given twice, as {} and as --config {}",
                argument.display(),
                config.display()
            ))),
            (argument, config) => Ok(argument.or(config)),
        }
    }

    /// Whether a key is given as an option of its own.
    pub(crate) fn sets(&self, keys: &[&str]) -> bool {
        self.arguments.iter().any(|(key, _)| keys.contains(&key.as_str()))
    }

    /// The value of a key that is given as an option of its own.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        self.arguments.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Whose defaults a recipe has; `objective` tells whether an option names the objective.
    pub(crate) fn defaults(&self, recipe: Option<&Path>, objective: bool) -> TrlDefaults {
        match (self.trl, recipe) {
            (true, _) => TrlDefaults::Always,
            (false, None) if !objective || self.verb.is_some() => self.by_arguments(),
            // As `trl dpo --config recipe.yaml --dataset_name data` has it.
            (false, Some(_)) if self.verb.is_some() || self.config.is_some() => self.by_arguments(),
            _ => TrlDefaults::ByFile,
        }
    }

    fn by_arguments(&self) -> TrlDefaults {
        TrlDefaults::ByFileOrArguments(self.arguments.iter().map(|(key, _)| key.clone()).collect())
    }

    /// Adds the settings of these options to others.
    pub(crate) fn around(&self, others: Vec<(String, String)>) -> Vec<(String, String)> {
        let verb = self.verb.iter().map(|verb| (VERB.to_owned(), verb.clone()));
        verb.chain(others).chain(self.arguments.iter().cloned()).collect()
    }
}

/// A clap value parser for `KEY=VALUE`.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}
