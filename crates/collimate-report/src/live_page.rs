//! Keeps `run.json` and `report.html` of a run up to date while it goes on.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::error::ReportError;
use crate::run_files::RunFiles;
use crate::run_info::{RunInfo, utc_now};
use crate::verdict::RunFacts;
use crate::write::write_report_from;

/// Between two pages at least so much time passes, whatever happens.
const LEAST_PAUSE: Duration = Duration::from_secs(5);

/// Without an evaluation or checkpoint, a page is written after so much time.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Writing pages takes at most one part in so many of a run's time.
const LEAST_SHARE: u32 = 50;

/// The page of a run that goes on, and what stands at its head.
#[derive(Debug)]
pub struct LivePage {
    folder: PathBuf,
    info: RunInfo,
    /// Seconds of the run's earlier processes.
    seconds_before: f64,
    begun: Instant,
    /// When the last page was written, and how long that took.
    written: Option<(Instant, Duration)>,
    /// Whether a page could not be written; said once.
    failed: bool,
}

impl LivePage {
    /// Writes `run.json`. A resumed run keeps its date, and adds to its time.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn begin(folder: PathBuf, info: RunInfo, begun: Instant, resumed: bool) -> Result<Self, ReportError> {
        let earlier = RunInfo::read(&folder).filter(|_| resumed);
        let (started, seconds_before) = earlier.map_or_else(|| (utc_now(), 0.0), |info| (info.started, info.seconds));
        let info = RunInfo { started, ..info };
        let mut page = Self { folder, info, seconds_before, begun, written: None, failed: false };
        page.write_info()?;
        Ok(page)
    }

    /// What advice about the run depends on.
    pub fn facts(&self, recipe_yaml: &str) -> RunFacts {
        RunFacts::new(recipe_yaml, Some(&self.info))
    }

    /// The run's name, and one that no other run has.
    pub fn names(&self) -> (String, String) {
        let name = self.folder.file_name().map_or_else(|| "run".to_owned(), |name| name.display().to_string());
        let digits: String = self.info.started.chars().filter(char::is_ascii_digit).collect();
        let id = format!("{}-{digits}", name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
        (name, id)
    }

    /// Writes the page if that is due: soon after an evaluation or a checkpoint (`landmark`), else from time to time. Returns a
    /// warning if that fails, once.
    pub fn refresh_if_due(&mut self, landmark: bool) -> Option<String> {
        let (written, cost) = self.written.unwrap_or((self.begun, Duration::ZERO));
        if is_due(written.elapsed(), cost, landmark) { self.refresh() } else { None }
    }

    /// Writes the page from what is in the folder. A page is not worth a run: the first failure is returned as a warning.
    pub fn refresh(&mut self) -> Option<String> {
        let before = Instant::now();
        let result = self.write_info().and_then(|()| write_report_from(&RunFiles::read(&self.folder)?, &self.folder));
        self.written = Some((Instant::now(), before.elapsed()));
        let error = result.err().filter(|_| !std::mem::replace(&mut self.failed, true))?;
        Some(format!("warning: the report cannot be written for now: {error}"))
    }

    /// Writes `run.json` with the time until now.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_info(&mut self) -> Result<(), ReportError> {
        self.info.seconds = self.seconds_before + self.begun.elapsed().as_secs_f64();
        Ok(self.info.write(&self.folder)?)
    }
}

/// Whether a page is due so long after the last one, which took `cost`.
fn is_due(since: Duration, cost: Duration, landmark: bool) -> bool {
    let pause = if landmark { LEAST_PAUSE } else { LONGEST_PAUSE };
    since >= pause.max(cost * LEAST_SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_come_soon_after_a_landmark_and_take_little_of_the_time() {
        let due = |since: u64, cost_millis: u64, landmark| {
            is_due(Duration::from_secs(since), Duration::from_millis(cost_millis), landmark)
        };
        assert!(due(5, 10, true) && !due(4, 10, true));
        assert!(due(60, 10, false) && !due(59, 10, false));
        // A page that takes 4 s is written every 200 s.
        assert!(!due(199, 4000, true) && due(200, 4000, true) && !due(199, 4000, false));
    }

    #[test]
    fn a_page_follows_its_run_and_a_resumed_one_keeps_its_date() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (path, begun) = (folder.path().to_owned(), Instant::now());
        let info = || RunInfo { total_steps: 9, ..RunInfo::default() };
        let mut page = LivePage::begin(path.clone(), info(), begun, false).expect("a page");
        let warning = page.refresh().expect("no metrics yet");
        assert!(warning.starts_with("warning: the report cannot be written for now: ") && page.refresh().is_none());
        std::fs::write(path.join("metrics.jsonl"), "{\"step\": 4, \"loss\": 0.5}\n").expect("a file");
        std::fs::write(path.join("recipe.yaml"), "seed: 1\n").expect("a file");
        assert_eq!(page.refresh(), None);
        let html = std::fs::read_to_string(path.join("report.html")).expect("a page");
        assert!(html.contains("<strong>4 of 9</strong>: not finished"), "{html}");
        let earlier = RunInfo { started: "2026-01-02T03:04:05Z".to_owned(), seconds: 1000.0, ..info() };
        earlier.write(&path).expect("a file");
        let resumed = LivePage::begin(path.clone(), info(), begun, true).expect("a page");
        assert_eq!((resumed.info.started.as_str(), resumed.info.seconds >= 1000.0), ("2026-01-02T03:04:05Z", true));
        assert!(resumed.names().1.ends_with("-20260102030405"));
        let anew = LivePage::begin(path, info(), begun, false).expect("a page");
        assert!(anew.info.seconds < 1000.0);
    }
}
