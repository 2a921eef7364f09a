//! Resolves the paths and hub names of a recipe to files and folders that exist.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use collimate_data::{DataPart, data_files, data_stem, is_pattern};
use collimate_hub::{Hub, HubError, HubName, Listing, RepoKind, Snapshot};
use collimate_recipe::{DataSources, ParsedRecipe, RecipeError};

use crate::error::ResolveError;

/// Files of a tokenizer with its chat template.
const TEMPLATE_FILES: [&str; 7] = [
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// Resolves a recipe's paths.
pub(crate) struct Resolver<'a> {
    /// The folder of the recipe.
    pub(crate) beside: Option<&'a Path>,
    /// The recipe, which knows the line that set each key.
    pub(crate) parsed: &'a ParsedRecipe,
    /// Resolves names that are not paths.
    pub(crate) hub: &'a Hub,
    /// Lines for the log: what was fetched from the hub.
    pub(crate) notes: RefCell<Vec<String>>,
}

/// The data files behind a path or name, before any is fetched.
pub(crate) enum Found {
    /// A file, or the matches of a pattern.
    Files(Vec<PathBuf>),
    /// The files of a folder.
    Folder(PathBuf, Vec<PathBuf>),
    /// Files of a data set on the hub.
    Hub(Box<HubDataset>, Vec<PathBuf>),
}

/// A data set on the hub.
pub(crate) struct HubDataset {
    name: HubName,
    listing: Listing,
}

impl Found {
    /// The files; for the hub, their paths in the repository.
    pub(crate) fn files(&self) -> &[PathBuf] {
        match self {
            Self::Files(files) | Self::Folder(_, files) | Self::Hub(_, files) => files,
        }
    }

    /// Name, for messages, of a folder or data set that may have splits; `None` if files are named one by one.
    pub(crate) fn with_splits(&self) -> Option<String> {
        match self {
            Self::Files(_) => None,
            Self::Folder(folder, _) => Some(folder.display().to_string()),
            Self::Hub(dataset, _) => dataset.name.path.is_none().then(|| dataset.name.to_string()),
        }
    }
}

impl Resolver<'_> {
    /// Finds an existing file or folder: the path as written, else relative to the recipe.
    pub(crate) fn path(&self, key: &str, given: &Path) -> Result<PathBuf, ResolveError> {
        if given.exists() {
            return Ok(given.to_owned());
        }
        let also = self.beside.filter(|_| given.is_relative()).map(|folder| folder.join(given));
        match also.filter(|also| also != given) {
            Some(also) if also.exists() => Ok(also),
            also => {
                let (origin, key, path) = (self.parsed.origin(key), key.to_owned(), given.to_owned());
                Err(RecipeError::NoSuchPath { origin, key, path, also }.into())
            }
        }
    }

    /// Replaces a model's path or hub name by its folder, which for a hub name is in the cache.
    pub(crate) fn model(&self, key: &str, path: &mut Option<PathBuf>) -> Result<(), ResolveError> {
        self.folder(key, path, Hub::model)
    }

    /// As [`Self::model`], for an adapter.
    pub(crate) fn adapter(&self, key: &str, path: &mut Option<PathBuf>) -> Result<(), ResolveError> {
        self.folder(key, path, Hub::adapter)
    }

    fn folder(
        &self,
        key: &str,
        path: &mut Option<PathBuf>,
        fetch: fn(&Hub, &HubName) -> Result<Snapshot, HubError>,
    ) -> Result<(), ResolveError> {
        let Some(given) = path else { return Ok(()) };
        *given = match self.name(key, given, RepoKind::Model)? {
            Some(mut name) => {
                if let Some(revision) = self.parsed.model_revision.as_ref().filter(|_| key == "model_name_or_path") {
                    name = self.at_revision(name, revision)?;
                }
                let snapshot = fetch(self.hub, &name).map_err(|error| self.hub_error(key, error))?;
                self.note(&name, &snapshot.commit);
                snapshot.folder
            }
            None => self.path(key, given)?,
        };
        Ok(())
    }

    /// Replaces the path or hub name of a chat template by its file or folder; of a model on the hub only the files of
    /// its tokenizer are fetched.
    pub(crate) fn chat_template(&self, key: &str, path: &mut Option<PathBuf>) -> Result<(), ResolveError> {
        let Some(given) = path else { return Ok(()) };
        let Some(name) = self.name(key, given, RepoKind::Model)? else {
            *given = self.path(key, given)?;
            return Ok(());
        };
        let error = |error| self.hub_error(key, error);
        let listing = self.hub.list(&name).map_err(error)?;
        self.note(&name, &listing.commit);
        let wanted = |file: &&String| TEMPLATE_FILES.contains(&file.as_str());
        let files: Vec<PathBuf> = listing
            .files
            .iter()
            .filter(wanted)
            .map(|file| self.hub.file(&name, &listing, file))
            .collect::<Result<_, _>>()
            .map_err(error)?;
        let folder = files.first().and_then(|file| file.parent());
        *given = folder.ok_or_else(|| self.problem(key, format!("{name} has no chat template")))?.to_owned();
        Ok(())
    }

    /// A name on the hub at the revision that the recipe gives in a key of its own.
    fn at_revision(&self, name: HubName, revision: &str) -> Result<HubName, ResolveError> {
        match name.revision.as_str() {
            same if same == revision => Ok(name),
            "main" => {
                let named = format!("hf://{}@{revision}", name.id);
                Ok(self.name("model_revision", Path::new(&named), RepoKind::Model)?.unwrap_or(name))
            }
            other => Err(self
                .problem("model_revision", format!("is {revision}, and the model's name says {other}: leave one out"))),
        }
    }

    /// Parses a path as a hub name, if it is one.
    fn name(&self, key: &str, path: &Path, kind: RepoKind) -> Result<Option<HubName>, ResolveError> {
        HubName::from_path(path, kind, self.beside).transpose().map_err(|error| self.hub_error(key, error.into()))
    }

    /// Lists the files behind a data path or name.
    pub(crate) fn find(&self, key: &str, given: &Path) -> Result<Found, ResolveError> {
        if let Some(name) = self.name(key, given, RepoKind::Dataset)? {
            let listed = self.hub.list(&name).and_then(|listing| {
                let files = self.hub.data_files(&name, &listing, &|file| data_stem(file).is_some())?;
                Ok((listing, files))
            });
            let (listing, files) = listed.map_err(|error| self.hub_error(key, error))?;
            let files = files.into_iter().map(PathBuf::from).collect();
            return Ok(Found::Hub(Box::new(HubDataset { name, listing }), files));
        }
        let wrong = |error: collimate_data::DataError| self.problem(key, error.to_string());
        let beside = self.beside.filter(|_| given.is_relative()).map(|folder| folder.join(given));
        if is_pattern(given) {
            let found = data_files(given).or_else(|error| beside.map_or(Err(error), |beside| data_files(&beside)));
            return found.map(Found::Files).map_err(wrong);
        }
        let path = self.path(key, given)?;
        let files = data_files(&path).map_err(wrong)?;
        Ok(if path.is_dir() { Found::Folder(path, files) } else { Found::Files(files) })
    }

    /// Returns local paths of the files; fetches those on the hub.
    pub(crate) fn fetch(&self, key: &str, found: &Found, files: &[PathBuf]) -> Result<Vec<PathBuf>, ResolveError> {
        let Found::Hub(dataset, _) = found else { return Ok(files.to_vec()) };
        let HubDataset { name, listing } = &**dataset;
        self.note(name, &listing.commit);
        let fetch = |file: &PathBuf| {
            let fetched = self.hub.file(name, listing, &file.to_string_lossy());
            fetched.map_err(|error| self.hub_error(key, error))
        };
        files.iter().map(fetch).collect()
    }

    /// Replaces folders, patterns and hub names by their files.
    pub(crate) fn sources(&self, key: &str, sources: &mut Option<DataSources>) -> Result<(), ResolveError> {
        let Some(given) = sources else { return Ok(()) };
        let mut parts = Vec::new();
        for part in given.parts() {
            let found = self.find(key, &part.path)?;
            let files = self.fetch(key, &found, found.files())?;
            parts.extend(files.into_iter().map(|path| DataPart { path, weight: part.weight }));
        }
        *given = DataSources::new(parts);
        self.check_sources(key, given)
    }

    /// Rejects weights that are not fractions and files named twice; reported at this key.
    pub(crate) fn check_sources(&self, key: &str, sources: &DataSources) -> Result<(), ResolveError> {
        sources.problem().map_or(Ok(()), |problem| Err(self.problem(key, problem)))
    }

    /// An error about a key's value, at the line that set it.
    pub(crate) fn problem(&self, key: &str, problem: String) -> ResolveError {
        self.parsed.value_error(key, problem).into()
    }

    fn hub_error(&self, key: &str, error: HubError) -> ResolveError {
        ResolveError::Hub { origin: self.parsed.origin(key), key: key.to_owned(), problem: Box::new(error) }
    }

    fn note(&self, name: &HubName, commit: &str) {
        let note = format!("{name}: commit {commit} of the hub");
        let mut notes = self.notes.borrow_mut();
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
}
