//! Stages: work that is done once for its settings, and stored.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Changes when the meaning of results does.
const FORMAT: u32 = 1;

/// A stage that was used, from this run or an earlier one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// Name of the stage.
    pub name: String,
    /// Wall-clock seconds that it took when it ran.
    pub seconds: f64,
    /// Commit of the program that ran it.
    pub commit: String,
}

/// The file of a stage.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    record: StageRecord,
    settings: Value,
    value: Value,
}

/// Finished stages in a folder: `NAME-HASH.json`, and folders of files that later stages read.
#[derive(Debug)]
pub struct Stages {
    folder: PathBuf,
    commit: String,
    used: Mutex<Vec<StageRecord>>,
}

impl Stages {
    /// Opens the stages in `folder`, creating it if needed; `commit` is this program's.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn new(folder: &Path, commit: String) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let folder = folder.canonicalize().with_context(|| format!("cannot find {}", folder.display()))?;
        Ok(Self { folder, commit, used: Mutex::default() })
    }

    /// Folder of the cached reference log-probs.
    pub fn reference_cache(&self) -> PathBuf {
        self.folder.join("reference")
    }

    /// The value of a stage: stored by an earlier run with the same settings, or computed now. `work` gets an empty folder of
    /// its own, which is removed afterwards.
    ///
    /// # Errors
    /// Errors of `work`, and files that cannot be read or written.
    pub fn value<T, F>(&self, name: &str, settings: &Value, work: F) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
        F: FnOnce(&Path) -> Result<T>,
    {
        let stem = self.stem(name, settings);
        let scratch = self.folder.join(format!("{stem}.scratch"));
        let kept = self.kept(name, &stem, settings, || {
            empty(&scratch)?;
            Ok(serde_json::to_value(work(&scratch)?)?)
        })?;
        if scratch.exists() {
            fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))?;
        }
        serde_json::from_value(kept.value).with_context(|| format!("{stem}.json is of another version: remove it"))
    }

    /// The folder of a stage whose result is files.
    ///
    /// # Errors
    /// As [`Stages::value`].
    pub fn files(&self, name: &str, settings: &Value, work: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let stem = self.stem(name, settings);
        let folder = self.folder.join(&stem);
        self.kept(name, &stem, settings, || {
            empty(&folder)?;
            work(&folder)?;
            Ok(Value::Null)
        })?;
        Ok(folder)
    }

    /// The stages used so far, each once.
    pub fn used(&self) -> Vec<StageRecord> {
        self.used.lock().map(|used| used.clone()).unwrap_or_default()
    }

    fn stem(&self, name: &str, settings: &Value) -> String {
        let key = format!("{FORMAT} {name} {settings}");
        let clean: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        format!("{clean}-{}", &blake3::hash(key.as_bytes()).to_hex()[..12])
    }

    fn kept(&self, name: &str, stem: &str, settings: &Value, work: impl FnOnce() -> Result<Value>) -> Result<Kept> {
        let path = self.folder.join(format!("{stem}.json"));
        let kept = match fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str::<Kept>(&text).ok()) {
            Some(kept) => kept,
            None => {
                let begun = Instant::now();
                let value = work().with_context(|| name.to_owned())?;
                let seconds = begun.elapsed().as_secs_f64();
                eprintln!("{seconds:7.1} s  {name}");
                let record = StageRecord { name: name.to_owned(), seconds, commit: self.commit.clone() };
                let kept = Kept { record, settings: settings.clone(), value };
                // Renamed into place, so that an existing file is complete.
                let part = path.with_extension("part");
                fs::write(&part, format!("{:#}\n", serde_json::to_value(&kept)?))
                    .and_then(|()| fs::rename(&part, &path))
                    .with_context(|| format!("cannot write {}", path.display()))?;
                kept
            }
        };
        if let Ok(mut used) = self.used.lock()
            && !used.contains(&kept.record)
        {
            used.push(kept.record.clone());
        }
        Ok(kept)
    }
}

fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_stage_is_done_once_for_its_settings() {
        let folder = tempfile::tempdir().expect("a folder");
        let stages = Stages::new(folder.path(), "c0ffee".to_owned()).expect("stages");
        let count = std::cell::Cell::new(0);
        let done = |seed: u64| {
            let work = |_: &Path| {
                count.set(count.get() + 1);
                Ok(seed * 2)
            };
            stages.value("a stage", &json!({ "seed": seed }), work).expect("a value")
        };
        assert_eq!((done(1), done(1), done(2)), (2, 2, 4));
        assert_eq!(count.get(), 2);
        let again = Stages::new(folder.path(), "other".to_owned()).expect("stages");
        let kept = again.value("a stage", &json!({"seed": 1}), |_| Ok(0_u64)).expect("a value");
        assert_eq!(kept, 2);
        assert_eq!(again.used()[0].commit, "c0ffee");
    }

    #[test]
    fn a_stage_that_failed_is_done_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let stages = Stages::new(folder.path(), String::new()).expect("stages");
        let fails = stages.files("files", &json!({}), |_| anyhow::bail!("no"));
        assert!(format!("{:#}", fails.expect_err("it failed")).contains("files: no"));
        let write = |dir: &Path| Ok(fs::write(dir.join("x"), "1")?);
        let dir = stages.files("files", &json!({}), write).expect("done now");
        assert_eq!(fs::read_to_string(dir.join("x")).expect("a file"), "1");
    }
}
