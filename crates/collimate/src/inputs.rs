//! Resolves arguments to folders, files and rows, local or on the hub.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use collimate_data::{JsonRows, data_files, data_stem};
use collimate_hub::{Hub, HubError, HubName, RepoKind, Snapshot};

use crate::error::CliError;
use crate::io::Io;

/// The folder of a model, fetched from the hub if it is not local.
pub(crate) fn model_folder(path: &Path, io: &mut Io<'_>) -> Result<PathBuf, CliError> {
    folder(path, io, Hub::model)
}

/// The folder of an adapter, fetched from the hub if it is not local.
pub(crate) fn adapter_folder(path: &Path, io: &mut Io<'_>) -> Result<PathBuf, CliError> {
    folder(path, io, Hub::adapter)
}

fn folder(
    path: &Path,
    io: &mut Io<'_>,
    fetch: fn(&Hub, &HubName) -> Result<Snapshot, HubError>,
) -> Result<PathBuf, CliError> {
    let Some(name) = HubName::from_path(path, RepoKind::Model, None).transpose().map_err(HubError::from)? else {
        return Ok(path.to_owned());
    };
    let snapshot = fetch(&io.hub, &name)?;
    io.note(format_args!("{name}: commit {} of the hub", snapshot.commit));
    Ok(snapshot.folder)
}

/// Expands names to data files, in order: files, folders, patterns, data sets on the hub.
pub(crate) fn files_of(names: &[PathBuf], io: &mut Io<'_>) -> Result<Vec<PathBuf>, CliError> {
    let mut files = Vec::new();
    for path in names {
        let Some(name) = HubName::from_path(path, RepoKind::Dataset, None).transpose().map_err(HubError::from)? else {
            files.extend(data_files(path)?);
            continue;
        };
        let listing = io.hub.list(&name)?;
        for file in io.hub.data_files(&name, &listing, &|file| data_stem(file).is_some())? {
            files.push(io.hub.file(&name, &listing, &file)?);
        }
        io.note(format_args!("{name}: commit {} of the hub", listing.commit));
    }
    Ok(files)
}

/// Opens the rows of a file, folder or pattern, or of standard input if the path is `-`; also returns the name for
/// messages.
///
/// # Errors
/// The file does not exist or cannot be read.
pub(crate) fn open_rows(path: &Path, io: &mut Io<'_>) -> Result<(PathBuf, JsonRows), CliError> {
    if path == Path::new("-") {
        let name = PathBuf::from("standard input");
        let rows = JsonRows::from_reader(BufReader::new(std::io::stdin()), &name)?;
        return Ok((name, rows));
    }
    let files = files_of(&[path.to_owned()], io)?;
    Ok((path.to_owned(), JsonRows::open_all(files)?))
}
