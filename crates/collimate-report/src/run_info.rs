//! What a run is: `run.json` of its folder, for the head of its page and for advice.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use collimate_files::{WriteError, read_plain, write_atomically};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Name of the file in a run's folder.
const RUN_FILE: &str = "run.json";

/// Size limit of the file, in bytes; it has some twenty fields.
const MAX_RUN_BYTES: u64 = 1 << 20;

/// What a run trains, on what, where and since when.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// When the run's first process began, in UTC, as `2026-11-29T14:05:00Z`.
    pub started: String,
    /// Wall-clock seconds of all processes of the run until this was written.
    pub seconds: f64,
    /// Version of Collimate.
    pub version: String,
    /// The model by its name on the hub, or else its folder's.
    pub model: String,
    /// Its architecture, such as `llama`.
    pub architecture: String,
    /// All parameters, including an adapter's.
    pub num_parameters: usize,
    /// Parameters that training changes.
    pub num_trainable: usize,
    /// What is trained: `LoRA r 16`, or `all weights`.
    pub trained: String,
    /// Type in which the model computes.
    pub compute_dtype: String,
    /// Backend and device.
    pub device: String,
    /// Name of the objective.
    pub objective: String,
    /// All parameters of the objective, defaults included.
    pub parameters: Map<String, Value>,
    /// Whether the objective holds each response's likelihood, or only differences.
    pub holds_likelihood: bool,
    /// Names of the files to train on.
    pub data: String,
    /// Prompts to train on.
    pub num_prompts: usize,
    /// Their responses.
    pub num_responses: usize,
    /// Held-out prompts.
    pub num_held_out: usize,
    /// Optimizer steps of the whole run.
    pub total_steps: usize,
}

impl RunInfo {
    /// Reads the file of a run's folder; `None` if it is missing or damaged, since runs of earlier versions have none.
    pub fn read(run: &Path) -> Option<Self> {
        serde_json::from_str(&read_plain(&run.join(RUN_FILE), MAX_RUN_BYTES).ok()?).ok()
    }

    /// Writes the file into a run's folder, in place of an earlier one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, run: &Path) -> Result<(), WriteError> {
        let text = serde_json::to_string_pretty(self).unwrap_or_default() + "\n";
        write_atomically(&run.join(RUN_FILE), text.as_bytes())
    }
}

/// The current time in UTC, to the second.
pub fn utc_now() -> String {
    utc(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// Seconds since 1970 as a date and time in UTC.
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years are counted from 1 March, so that a leap day ends one (H. Hinnant, `civil_from_days`).
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    // As `date -u -d @SECONDS` prints them.
    #[rstest]
    #[case(0, "1970-01-01T00:00:00Z")]
    #[case(951_782_399, "2000-02-28T23:59:59Z")]
    #[case(951_782_400, "2000-02-29T00:00:00Z")]
    #[case(1_796_040_305, "2026-11-30T12:05:05Z")]
    #[case(4_107_542_400, "2100-03-01T00:00:00Z")]
    fn dates(#[case] seconds: u64, #[case] expected: &str) {
        assert_eq!(utc(seconds), expected);
    }

    #[test]
    fn a_run_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(RunInfo::read(folder.path()), None);
        let info = RunInfo { started: utc_now(), seconds: 1.5, model: "m".to_owned(), ..RunInfo::default() };
        info.write(folder.path()).expect("a file");
        assert_eq!(RunInfo::read(folder.path()), Some(info));
    }
}
