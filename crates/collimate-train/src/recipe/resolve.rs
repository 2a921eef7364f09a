//! From the paths of a recipe to files and folders that exist.

use std::path::{Path, PathBuf};

use collimate_data::DataPart;

use super::sources::files_of;
use super::{DataSources, Origin, RecipeError};

/// Finds what a recipe's paths mean.
pub(super) struct Resolver<'a> {
    /// Folder of the recipe.
    pub(super) beside: Option<&'a Path>,
    /// Where a key was set.
    pub(super) origin: &'a dyn Fn(&str) -> Origin,
}

impl Resolver<'_> {
    /// The file or folder that exists: as the path stands, else beside the recipe.
    pub(super) fn path(&self, key: &str, given: &Path) -> Result<PathBuf, RecipeError> {
        if given.exists() {
            return Ok(given.to_owned());
        }
        let also = self.beside.filter(|_| given.is_relative()).map(|folder| folder.join(given));
        match also.filter(|also| also != given) {
            Some(also) if also.exists() => Ok(also),
            also => {
                let (origin, key, path) = ((self.origin)(key), key.to_owned(), given.to_owned());
                Err(RecipeError::NoSuchPath { origin, key, path, also })
            }
        }
    }

    /// As [`Self::path`], in place.
    pub(super) fn folder(&self, key: &str, path: &mut Option<PathBuf>) -> Result<(), RecipeError> {
        if let Some(given) = path {
            *given = self.path(key, given)?;
        }
        Ok(())
    }

    /// Every file of the data, folders as the files in them.
    pub(super) fn sources(&self, key: &str, sources: &mut Option<DataSources>) -> Result<(), RecipeError> {
        let Some(given) = sources else { return Ok(()) };
        let mut parts = Vec::new();
        for part in given.parts() {
            let files = files_of(&self.path(key, &part.path)?).map_err(|problem| self.problem(key, problem))?;
            parts.extend(files.into_iter().map(|path| DataPart { path, weight: part.weight }));
        }
        *given = DataSources::new(parts);
        self.check_sources(key, given)
    }

    /// Weights that are no shares, or a file named twice, are an error at this key.
    pub(super) fn check_sources(&self, key: &str, sources: &DataSources) -> Result<(), RecipeError> {
        sources.problem().map_or(Ok(()), |problem| Err(self.problem(key, problem)))
    }

    /// What is wrong with a key's value, at its place.
    pub(super) fn problem(&self, key: &str, problem: String) -> RecipeError {
        RecipeError::Value { origin: (self.origin)(key), key: key.to_owned(), problem }
    }
}
