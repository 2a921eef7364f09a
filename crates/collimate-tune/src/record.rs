//! What a tuning was begun with, and what it has used of its time.

use std::path::Path;

use collimate_files::{read_plain, write_atomically};
use collimate_train::{Observer, PlanOptions, plan};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::TuneError;
use crate::ladder::Ladder;
use crate::options::{RECORD, TuneOptions};

/// The largest such file, in bytes.
const MAX_RECORD_BYTES: u64 = 16 << 20;
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) settings: Value,
    pub(crate) recipe_steps: usize,
    pub(crate) total_steps: usize,
    pub(crate) seconds: f64,
}

impl Record {
    /// Reads what a tuning was begun with, or measures a few steps and plans one.
    pub(crate) fn open(options: &TuneOptions, observer: &mut dyn Observer) -> Result<Self, TuneError> {
        let path = options.folder.join(RECORD);
        let settings = options.settings()?;
        if path.exists() {
            let text = read_plain(&path, MAX_RECORD_BYTES).map_err(TuneError::read(&path))?;
            let damaged = |error: serde_json::Error| TuneError::read(&path)(std::io::Error::other(error));
            let record: Self = serde_json::from_str(&text).map_err(damaged)?;
            if record.settings != settings {
                let problem = "the recipe, --candidates, --seeds, --range or the program differ from those that the tuning in the \
                               folder was begun with; choose another --work";
                return Err(TuneError::option("--resume", problem));
            }
            return Ok(record);
        }
        let planned = plan(&options.recipe, &PlanOptions { measure: true, num_responses: 1, ranks: 1 }, observer)?;
        let recipe_steps = planned.steps.total.unwrap_or(0);
        let step_seconds = planned.time.map_or(0.0, |time| time.step_seconds);
        let ladder = Ladder::within(options.candidates, options.seeds, recipe_steps, step_seconds, options.budget)?;
        Ok(Self { settings, recipe_steps, total_steps: ladder.total_steps(), seconds: 0.0 })
    }

    /// Writes the record, with the time that was used so far.
    pub(crate) fn write(&self, folder: &Path, seconds: f64) -> Result<(), TuneError> {
        let Self { settings, recipe_steps, total_steps, .. } = self;
        let record = json!({
            "settings": settings, "recipe_steps": recipe_steps, "total_steps": total_steps, "seconds": seconds,
        });
        Ok(write_atomically(&folder.join(RECORD), format!("{record:#}\n").as_bytes())?)
    }
}
