//! Log-probs of the reference: numbers, computed before the policy changes, so that no second model is held.

use std::path::Path;

use collimate_data::TokenizedGroup;

use crate::batches::score_packs;
use crate::error::TrainError;
use crate::progress::Observer;
use crate::recipe::Recipe;
use crate::session::{Session, SessionOptions, Training, open_session};

/// What the policy is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reference {
    /// The model and adapter that the run starts from.
    Start,
    /// The model without its adapter.
    Base,
    /// Another model, or an adapter on the same model.
    Other(std::path::PathBuf),
}

impl Reference {
    pub(crate) fn of(recipe: &Recipe) -> Self {
        match recipe.reference.as_deref() {
            None | Some("start") => Self::Start,
            Some("base") => Self::Base,
            Some(folder) => Self::Other(folder.into()),
        }
    }

    /// What it is, for people, with a hash of the weights that it is computed from.
    pub(crate) fn describe(&self, recipe: &Recipe) -> Result<String, TrainError> {
        let model = recipe.model_name_or_path.as_deref().unwrap_or(Path::new(""));
        let adapter = recipe.adapter.as_deref();
        Ok(match (self, adapter) {
            (Self::Start, Some(adapter)) => format!(
                "reference: the start of the run, {} ({}) with {} ({})",
                model.display(),
                weights_hash(model)?,
                adapter.display(),
                weights_hash(adapter)?
            ),
            (Self::Start | Self::Base, _) => {
                format!("reference: {} ({}) without an adapter", model.display(), weights_hash(model)?)
            }
            (Self::Other(folder), _) => format!("reference: {} ({})", folder.display(), weights_hash(folder)?),
        })
    }

    /// Log-probs of every response of every group in `packs`, pack after pack, in nats.
    ///
    /// `session` must hold the policy as the run starts from it. Packs that are those of training make the first
    /// implicit rewards exactly zero: float32 sums depend on what is computed together.
    pub(crate) fn logps(
        &self,
        session: &mut dyn Session,
        recipe: &Recipe,
        options: &SessionOptions,
        packs: &[Vec<&TokenizedGroup>],
        observer: &mut dyn Observer,
    ) -> Result<Vec<Vec<f64>>, TrainError> {
        let count: usize = packs.iter().map(Vec::len).sum();
        observer.stage("reference log-probs", Some(count as u64));
        let logps = match self {
            Self::Start => score_packs(session, packs, recipe.share_prompt, true, observer),
            Self::Base => score_packs(session, packs, recipe.share_prompt, false, observer),
            Self::Other(folder) => {
                let mut other = open_session(&other_options(folder, options))?;
                score_packs(other.as_mut(), packs, recipe.share_prompt, true, observer)
            }
        }?;
        observer.finish();
        Ok(logps)
    }
}

fn other_options(folder: &Path, options: &SessionOptions) -> SessionOptions {
    let is_adapter = folder.join("adapter_config.json").is_file();
    SessionOptions {
        model: if is_adapter { options.model.clone() } else { folder.to_owned() },
        adapter: is_adapter.then(|| folder.to_owned()),
        training: Training::Off,
        ..options.clone()
    }
}

/// A short hash of all safetensors files of a folder, by their bytes.
fn weights_hash(folder: &Path) -> Result<String, TrainError> {
    let entries = std::fs::read_dir(folder).map_err(|source| TrainError::io(folder, source))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| entry.ok().map(|e| e.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "safetensors"));
    paths.sort();
    let mut hasher = blake3::Hasher::new();
    for path in &paths {
        let file = std::fs::File::open(path).map_err(|source| TrainError::io(path, source))?;
        hasher.update_reader(file).map_err(|source| TrainError::io(path, source))?;
    }
    Ok(format!("blake3 {}", &hasher.finalize().to_hex()[..12]))
}
