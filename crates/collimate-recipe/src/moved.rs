//! A run's own recipe, read where the run's folder is now: as it was called, or moved.

use std::path::{Path, PathBuf};

use collimate_data::DataPart;

use crate::cache::CacheFolder;
use crate::error::{Origin, RecipeError};
use crate::parse::ParsedRecipe;
use crate::recipe::Recipe;
use crate::sources::DataSources;

/// Where a run's folder was called what when its recipe was written, and what it is called now.
struct Moved<'a> {
    recorded: PathBuf,
    now: &'a Path,
}

impl ParsedRecipe {
    /// Makes the paths of a recipe that lies in its run's folder, or in a checkpoint there, those of today; paths that the
    /// command line gives stay. `path` is the recipe's file, or nothing.
    ///
    /// What was in the run's folder is in it still. Anything else that is not where the recipe says is looked for at the same
    /// place as seen from the run's folder.
    ///
    /// # Errors
    /// The recipe cannot be read.
    pub fn follow_its_run(&mut self, path: Option<&Path>) -> Result<(), RecipeError> {
        let now = self.recipe.output_dir.clone();
        let Some((path, folder)) = path.and_then(|path| Some((path, run_of(path.parent()?)))) else { return Ok(()) };
        let is_here = matches!((folder.canonicalize(), now.canonicalize()), (Ok(one), Ok(other)) if one == other);
        if !is_here {
            return Ok(());
        }
        let recorded = plain(&Recipe::parse(Some(path), &[])?.recipe.output_dir);
        let moved = Moved { recorded, now: &now };
        let mut recipe = self.recipe.clone();
        let is_recorded = |key: &str| matches!(self.origin(key), Origin::File(_));
        for (key, path) in [
            ("model_name_or_path", &mut recipe.model_name_or_path),
            ("adapter", &mut recipe.adapter),
            ("chat_template_path", &mut recipe.chat_template_path),
        ] {
            if let Some(path) = path.as_mut().filter(|_| is_recorded(key)) {
                *path = moved.relocate(path);
            }
        }
        if let Some(path) = recipe.log_file.as_mut().filter(|_| is_recorded("log_file")) {
            *path = moved.inside(path).unwrap_or_else(|| path.clone());
        }
        for (key, cache) in [("reference_cache", &mut recipe.reference_cache), ("token_cache", &mut recipe.token_cache)]
        {
            if let CacheFolder::Folder(path) = cache
                && is_recorded(key)
            {
                *path = moved.inside(path).unwrap_or_else(|| path.clone());
            }
        }
        if let Some(name) = recipe.reference.as_mut().filter(|_| is_recorded("reference")) {
            *name = moved.relocate(Path::new(name)).display().to_string();
        }
        for (key, sources) in [("data", &mut recipe.data), ("eval_data", &mut recipe.eval_data)] {
            if let Some(given) = sources.as_mut().filter(|_| is_recorded(key)) {
                let part = |part: &DataPart| DataPart { path: moved.relocate(&part.path), weight: part.weight };
                *given = DataSources::new(given.parts().iter().map(part).collect());
            }
        }
        self.recipe = recipe;
        Ok(())
    }
}

/// The run's folder, given that of its recipe or of one of its checkpoints.
fn run_of(folder: &Path) -> PathBuf {
    let is_checkpoint = folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("checkpoint-"));
    let run = if is_checkpoint { folder.parent().unwrap_or(folder) } else { folder };
    // The parent of a path of one component is empty.
    if run.as_os_str().is_empty() { PathBuf::from(".") } else { run.to_owned() }
}

/// A path without `.`, which means nothing.
fn plain(path: &Path) -> PathBuf {
    path.components().filter(|part| !matches!(part, std::path::Component::CurDir)).collect()
}

impl Moved<'_> {
    /// Where a path of the recipe is now.
    fn relocate(&self, path: &Path) -> PathBuf {
        if let Some(inside) = self.inside(path) {
            return inside;
        }
        if path.exists() {
            return path.to_owned();
        }
        let around = self.recorded.ancestors().zip(self.now.ancestors()).skip(1);
        let seen = around.filter_map(|(there, here)| Some(here.join(plain(path).strip_prefix(there).ok()?)));
        seen.into_iter().find(|place| place.exists()).unwrap_or_else(|| path.to_owned())
    }

    /// The place of a path that was in the run's folder; `None` for any other.
    fn inside(&self, path: &Path) -> Option<PathBuf> {
        Some(self.now.join(plain(path).strip_prefix(&self.recorded).ok().filter(|rest| rest.iter().next().is_some())?))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rstest::rstest;

    use super::*;

    #[rstest]
    // What was in the folder is in it, wherever that is.
    #[case("runs/a", "moved/b", "runs/a/base", "moved/b/base")]
    #[case("./runs/a/", "moved/b", "runs/a/base", "moved/b/base")]
    #[case("runs/a", "moved/b", "runs/ab/base", "runs/ab/base")]
    // A place beside it, once it is there.
    #[case("loop/round-2", "moved/round-2", "loop/round-1", "moved/round-1")]
    #[case("a", "moved/b", "data.jsonl", "moved/data.jsonl")]
    #[case("a", "moved/b", "gone.jsonl", "gone.jsonl")]
    fn a_path_is_where_it_is_seen_from_the_run(
        #[case] recorded: &str,
        #[case] now: &str,
        #[case] path: &str,
        #[case] expected: &str,
    ) {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(root.path().join("moved/round-1")).expect("a folder");
        fs::write(root.path().join("moved/data.jsonl"), "").expect("a file");
        let now = root.path().join(now);
        let moved = Moved { recorded: plain(Path::new(recorded)), now: &now };
        let expected = if expected.starts_with("moved") { root.path().join(expected) } else { expected.into() };
        assert_eq!(moved.relocate(Path::new(path)), expected);
    }
}
