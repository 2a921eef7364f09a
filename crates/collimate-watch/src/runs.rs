//! The runs that are shown, and their page as it is now.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use collimate_report::live_page;

/// What a page is made of, in a run's folder.
const FILES: [&str; 7] =
    ["metrics.jsonl", "recipe.yaml", "run.json", "results.json", "lengths.json", "samples.json", "pictures.json"];

/// Drawing pages takes at most one part in so many of the time.
const LEAST_SHARE: u32 = 20;

/// The folders of runs; several are compared on one page.
#[derive(Debug)]
pub struct Runs {
    folders: Vec<PathBuf>,
    last: Mutex<Option<Drawn>>,
}

/// A page, and what tells it from an earlier one.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) version: String,
    pub(crate) html: Arc<str>,
}

#[derive(Debug)]
struct Drawn {
    page: Page,
    at: Instant,
    cost: Duration,
}

impl Runs {
    /// Runs that may not have begun yet.
    pub fn new(folders: Vec<PathBuf>) -> Self {
        Self { folders, last: Mutex::new(None) }
    }

    /// The page as the folders' files are now, or as they were shortly before where it takes long to draw.
    pub(crate) fn page(&self) -> Page {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.version();
        if let Some(drawn) = &*last
            && (drawn.page.version == version || drawn.at.elapsed() < drawn.cost * LEAST_SHARE)
        {
            return drawn.page.clone();
        }
        let begun = Instant::now();
        let page = Page { html: live_page(&self.folders, &version).into(), version };
        *last = Some(Drawn { page: page.clone(), at: Instant::now(), cost: begun.elapsed() });
        page
    }

    /// Differs where a file has another size or time.
    fn version(&self) -> String {
        let mut hasher = DefaultHasher::new();
        for folder in &self.folders {
            for name in FILES {
                let stamp = |meta: fs::Metadata| (meta.len(), meta.modified().unwrap_or(SystemTime::UNIX_EPOCH));
                fs::metadata(folder.join(name)).ok().map(stamp).hash(&mut hasher);
            }
        }
        format!("{:016x}", hasher.finish())
    }
}
