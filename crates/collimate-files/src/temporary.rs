//! Files and folders under hidden names, and whether somebody still writes there.
//!
//! Names are random, and files and folders are created under them exclusively: they follow no links, and no two processes
//! share one, wherever they run. A writer holds a lock on what it writes, which the system releases when the process ends,
//! so what a killed one left is told from what a living one writes. Process ids say nothing about another container.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::hidden_name::{Hidden, hidden};
use crate::plain::without_links;
use crate::same::{is_same_file, is_there};
use crate::{WriteError, name_of};

/// Creates the hidden file for `path`, and keeps it locked while it is open.
pub(crate) fn create_file(path: &Path) -> io::Result<(File, PathBuf)> {
    loop {
        let temporary = path.with_file_name(hidden(&name_of(path)));
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            // A clean-up may have been faster than our lock.
            Ok(file) if hold(&file, &temporary) => return Ok((file, temporary)),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// Creates the hidden folder for `path`, and keeps it locked while the handle lives. Only Unix locks folders.
pub(crate) fn create_folder(path: &Path) -> io::Result<(Option<File>, PathBuf)> {
    loop {
        let staging = path.with_file_name(hidden(&name_of(path)));
        match fs::create_dir(&staging) {
            Ok(()) if cfg!(not(unix)) => return Ok((None, staging)),
            Ok(()) => match File::open(&staging) {
                Ok(handle) if hold(&handle, &staging) => return Ok((Some(handle), staging)),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            },
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// Locks what was just created; false if a clean-up has it. A file system without locks has no clean-up either.
fn hold(file: &File, path: &Path) -> bool {
    !matches!(file.try_lock(), Err(TryLockError::WouldBlock)) && is_at(file, path)
}

/// Whether the open file is still the one at the path.
#[cfg(unix)]
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    matches!((file.metadata(), fs::symlink_metadata(path)), (Ok(a), Ok(b)) if is_same_file(&a, &b))
}

/// Other systems do not let an open file be removed.
#[cfg(not(unix))]
pub(crate) fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
}

/// Removes what killed processes left in a folder under hidden names, those of earlier versions too. The caller must hold
/// the folder's lock. What a living process writes stays: it holds a lock on it.
///
/// # Errors
/// The folder cannot be read, or a leftover cannot be removed.
pub fn remove_leftovers(folder: &Path) -> Result<(), WriteError> {
    each_hidden(folder, &mut |path, hidden| match hidden.replaced() {
        // Only `recover_folders` knows what to do with a folder whose successor never came.
        Some(name) if !is_there(&folder.join(name)) => Ok(()),
        _ => remove_dead(path),
    })
}

/// Removes what killed processes left in a folder that anybody may write to. A failure is passed over: whoever wants to write
/// an output need not be able to remove everything beside it.
pub fn remove_leftovers_beside(output: &Path) {
    let folder = crate::folder_of(output);
    // Processes of earlier versions hold no lock, so theirs might live. A replaced folder might yet be wanted.
    let _ = each_hidden(folder, &mut |path, hidden| {
        if !hidden.is_old && hidden.replaced().is_none() {
            let _ = remove_dead(path);
        }
        Ok(())
    });
}

/// Restores folders in `parent` whose replacement was interrupted by a kill, that is, whose path is empty. The caller must
/// hold the folder's lock.
///
/// # Errors
/// `parent` cannot be read, or a folder cannot be renamed.
pub fn recover_folders(parent: &Path) -> Result<(), WriteError> {
    if !parent.is_dir() {
        return Ok(());
    }
    each_hidden(parent, &mut |old, hidden| {
        let Some(path) = hidden.replaced().map(|name| parent.join(name)) else { return Ok(()) };
        let is_folder = fs::symlink_metadata(old)?.is_dir();
        if is_folder && !is_there(&path) { fs::rename(old, &path) } else { Ok(()) }
    })
}

/// Calls back with the hidden folders for a name in a folder to which nobody writes any more, with their locks held.
pub(crate) fn each_dead_folder(
    folder: &Path,
    name: &str,
    call: &mut dyn FnMut(&Path) -> io::Result<()>,
) -> Result<(), WriteError> {
    each_hidden(folder, &mut |path, hidden| {
        if hidden.is_old || hidden.name != name || cfg!(not(unix)) || !fs::symlink_metadata(path)?.is_dir() {
            return Ok(());
        }
        let Ok(file) = without_links(OpenOptions::new().read(true)).open(path) else { return Ok(()) };
        if file.try_lock().is_err() || !is_at(&file, path) {
            return Ok(());
        }
        call(path)
    })
}

fn each_hidden(folder: &Path, call: &mut dyn FnMut(&Path, &Hidden<'_>) -> io::Result<()>) -> Result<(), WriteError> {
    for entry in fs::read_dir(folder).map_err(WriteError::at(folder))? {
        let path = entry.map_err(WriteError::at(folder))?.path();
        let name = name_of(&path);
        if let Some(hidden) = Hidden::parse(&name) {
            call(&path, &hidden).map_err(WriteError::at(&path))?;
        }
    }
    Ok(())
}

/// Removes a hidden file or folder unless somebody writes to it. Nothing else was created under such a name.
fn remove_dead(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let is_folder = found.is_dir();
    if !(found.is_file() || is_folder) || (is_folder && cfg!(not(unix))) {
        return Ok(());
    }
    let mut options = OpenOptions::new();
    let Ok(file) = without_links(options.read(true).write(!is_folder)).open(path) else { return Ok(()) };
    if file.try_lock().is_err() || !is_at(&file, path) {
        return Ok(());
    }
    let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
