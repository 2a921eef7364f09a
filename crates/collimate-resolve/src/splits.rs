//! Resolves a mixture of data sets to the files of its splits.

use std::path::{Path, PathBuf};

use collimate_data::{DataPart, data_stem};
use collimate_recipe::{DataMixture, DataSources};

use crate::error::ResolveError;
use crate::resolver::Resolver;

/// The files of a mixture.
pub(crate) struct MixtureFiles {
    /// Training files.
    pub(crate) train: DataSources,
    /// Evaluation files, if the recipe wants them and the mixture has some.
    pub(crate) test: Option<DataSources>,
}

/// Finds and fetches the files of a mixture.
///
/// # Errors
/// A path does not exist, a folder lacks the files of a split, or a weight is not a fraction.
pub(crate) fn find_mixture(mixture: &DataMixture, resolver: &Resolver<'_>) -> Result<MixtureFiles, ResolveError> {
    let key = mixture.key.as_str();
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for set in &mixture.sets {
        // A local folder lists its files, not those of its folders.
        let folder = set.config.as_ref().map(|config| set.part.path.join(config));
        let folder = folder.filter(|folder| resolver.path(key, folder).is_ok_and(|found| found.is_dir()));
        let found = resolver.find(key, folder.as_ref().unwrap_or(&set.part.path))?;
        let chosen_files = files_of_config(found.files(), set.config.as_deref().filter(|_| folder.is_none()));
        let files = match found.with_splits() {
            Some(name) => {
                chosen_files.map_err(|config| resolver.problem(key, no_such_config(&name, config, found.files())))?
            }
            None => found.files().to_vec(),
        };
        let files = files.as_slice();
        let part = |path: PathBuf| DataPart { path, weight: set.part.weight };
        let Some(name) = found.with_splits() else {
            train.extend(resolver.fetch(key, &found, files)?.into_iter().map(part));
            continue;
        };
        let named = set.split.clone().map(|split| vec![split]).or_else(|| mixture.train_splits.clone());
        let chosen = match (files_of_splits(files, named.as_deref().unwrap_or(&["train".to_owned()])), named) {
            (chosen, _) if !chosen.is_empty() => chosen,
            (_, Some(splits)) => return Err(resolver.problem(key, no_such_split(&name, &splits, files))),
            // If no file has the split's name, the whole folder is the split.
            (_, None) => files.to_vec(),
        };
        let tests = files_of_splits(files, mixture.test_splits.as_deref().unwrap_or(&["test".to_owned()]));
        let unused: Vec<PathBuf> = tests.into_iter().filter(|file| !chosen.contains(file)).collect();
        train.extend(resolver.fetch(key, &found, &chosen)?.into_iter().map(part));
        if mixture.wants_test {
            // Used in full, whatever the weight, so that results of different mixtures are comparable.
            test.extend(resolver.fetch(key, &found, &unused)?.into_iter().map(DataPart::whole));
        }
    }
    let train = DataSources::new(train);
    resolver.check_sources(key, &train)?;
    Ok(MixtureFiles { train, test: (!test.is_empty()).then(|| DataSources::new(test)) })
}

fn files_of_splits(files: &[PathBuf], splits: &[String]) -> Vec<PathBuf> {
    files.iter().filter(|file| splits.iter().any(|split| belongs_to_split(file, split))).cloned().collect()
}

/// The files in the folder of a configuration, or all without one; the error is the configuration.
fn files_of_config<'a>(files: &[PathBuf], config: Option<&'a str>) -> Result<Vec<PathBuf>, &'a str> {
    let Some(config) = config else { return Ok(files.to_vec()) };
    let is_inside = |file: &&PathBuf| file.parent().is_some_and(|folder| folder.iter().any(|part| part == config));
    let inside: Vec<PathBuf> = files.iter().filter(is_inside).cloned().collect();
    if inside.is_empty() { Err(config) } else { Ok(inside) }
}

fn no_such_config(folder: &str, config: &str, files: &[PathBuf]) -> String {
    let there: Vec<_> = files.iter().take(6).map(|file| file.display().to_string()).collect();
    format!("{folder} has no folder {config}, the configuration; it has {}", there.join(", "))
}

fn no_such_split(folder: &str, splits: &[String], files: &[PathBuf]) -> String {
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

/// Whether a file belongs to a split: `train_prefs.jsonl`, one of its parts such as `train_prefs-00000-of-00002.parquet`,
/// or a file in a folder named after the split, such as `default/train/0000.parquet`.
fn belongs_to_split(file: &Path, split: &str) -> bool {
    let stem = data_stem(file).unwrap_or_default();
    let in_folder = || file.parent().and_then(Path::file_name).is_some_and(|folder| folder == split);
    stem.strip_prefix(split).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')) || in_folder()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn a_configuration_is_a_folder() {
        let files = ["main/train-0.parquet", "socratic/train-0.parquet"].map(PathBuf::from);
        assert_eq!(files_of_config(&files, None), Ok(files.to_vec()));
        assert_eq!(files_of_config(&files, Some("main")), Ok(vec![files[0].clone()]));
        assert_eq!(files_of_config(&files, Some("other")), Err("other"));
    }

    #[rstest]
    #[case("train_prefs.jsonl", "train_prefs", true)]
    #[case("train_prefs-00000-of-00002.jsonl", "train_prefs", true)]
    #[case("train_prefs.jsonl", "train", false)]
    #[case("train.jsonl", "train_prefs", false)]
    #[case("data/train-00000-of-00001.parquet", "train", true)]
    #[case("train.jsonl.gz", "train", true)]
    #[case("default/train/0000.parquet", "train", true)]
    #[case("default/test/0000.parquet", "train", false)]
    #[case("train.py", "train", false)]
    fn a_split_is_a_file_or_its_parts(#[case] file: &str, #[case] split: &str, #[case] expected: bool) {
        assert_eq!(belongs_to_split(Path::new(file), split), expected);
    }
}
