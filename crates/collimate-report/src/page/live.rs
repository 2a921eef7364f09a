//! The page of runs that go on, for a browser that gets it from a server.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::html::{document, live};
use super::{comparison, render_report};
use crate::charts::escape;
use crate::error::ReportError;
use crate::run_files::RunFiles;

/// The page of a run, or of several compared, which asks its server for newer versions than `version`. Of a run that has not begun
/// the page says so, and of one whose files are damaged, what is wrong.
pub fn live_page(runs: &[PathBuf], version: &str) -> String {
    let files: Result<Vec<_>, _> = runs.iter().map(|run| RunFiles::read(run)).collect();
    let page = match files.as_deref() {
        Ok([run]) => render_report(&run.input()),
        Ok(runs) => comparison::render(runs),
        Err(ReportError::Io { path, source }) if source.kind() == ErrorKind::NotFound => {
            let folder = path.parent().unwrap_or(path).display().to_string();
            message("No step yet", &format!("The run in {folder} has not begun: it has recorded no step."))
        }
        Err(error) => message("Damaged run", &format!("The run cannot be shown: {error}")),
    };
    live(&page, version)
}

fn message(title: &str, text: &str) -> String {
    document(title, &format!("<h1>{}</h1><p>{}</p>", escape(title), escape(text)))
}
