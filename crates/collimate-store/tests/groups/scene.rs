//! A folder with data, a tokenizer and stores.

use std::fs;
use std::path::{Path, PathBuf};

use collimate_store::{PreparedGroups, StoreFolder};
use collimate_text::TokenizedGroup;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{Asked, TEMPLATE, tokenizer};

/// `count` rows of two or three responses; every seventh prompt is the one before it.
pub(crate) fn rows(path: &Path, count: usize) {
    let row = |i: usize| {
        let prompt = if i % 7 == 6 { i - 1 } else { i };
        let response = |k: usize| json!({"content": format!("{} or {k}", i * 31), "reward": 1.0 - k as f64 / 3.0});
        let responses: Vec<Value> = (0..2 + i % 2).map(response).collect();
        format!("{}\n", json!({"prompt": format!("What is {prompt}?"), "responses": responses}))
    };
    fs::write(path, (0..count).map(row).collect::<String>()).unwrap();
}

/// All groups and notes of a run's data.
pub(crate) type Everything = (Vec<TokenizedGroup>, Vec<TokenizedGroup>, Vec<String>);

pub(crate) fn everything(prepared: PreparedGroups) -> Everything {
    let training: Vec<_> = prepared.training.groups().map(Result::unwrap).collect();
    let held_out = prepared.held_out.map(Result::unwrap);
    let groups = held_out.iter().flat_map(|store| store.groups()).map(Result::unwrap).collect();
    let notes = std::iter::once(&prepared.training).chain(&held_out).flat_map(|store| store.notes().to_vec());
    (training, groups, notes.collect())
}

/// The stores in a folder.
pub(crate) fn stores(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut stores: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "tokens")).collect();
    stores.sort();
    stores
}

/// A folder with rows, a tokenizer and room for stores.
pub(crate) struct Scene {
    pub(crate) folder: TempDir,
    pub(crate) tokenizer: collimate_text::TextTokenizer,
}

impl Scene {
    pub(crate) fn new(count: usize) -> Self {
        let folder = TempDir::new().unwrap();
        rows(&folder.path().join("rows.jsonl"), count);
        let tokenizer = tokenizer(&folder.path().join("model"), TEMPLATE);
        Self { folder, tokenizer }
    }

    pub(crate) fn asked(&self) -> Asked {
        Asked::new(self.folder.path().join("rows.jsonl"))
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.folder.path().join("tokens")
    }

    pub(crate) fn stores(&self) -> StoreFolder {
        StoreFolder::new(Some(self.cache()))
    }

    /// What a run without any cache gets.
    pub(crate) fn expected(&self, asked: &Asked) -> Everything {
        everything(asked.prepare(&self.tokenizer, &StoreFolder::new(None)).unwrap())
    }
}
