//! Hidden names of what is not yet, or no longer, under its final name, and whether somebody still writes there.
//!
//! Names are random, and files and folders are created under them exclusively: they follow no links, and no two processes
//! share one, wherever they run. A writer holds a lock on what it writes, which the system releases when the process ends,
//! so what a killed one left is told from what a living one writes. Process ids say nothing about another container.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use crate::plain::without_links;
use crate::{WriteError, name_of};

/// Suffix of everything that is not yet, or no longer, under its final name.
const SUFFIX: &str = ".collimate.tmp";
/// The suffix of earlier versions, after a process id.
const OLD_SUFFIX: &str = ".tmp";
/// Marks an old folder while a new one takes its place.
const REPLACED: &str = ".replaced";
/// Bytes of the final name that a hidden name repeats: file systems allow 255.
const MAX_NAME: usize = 200;

/// A hidden name for `name` that nothing else has.
pub(crate) fn hidden(name: &str) -> String {
    let end = (0..=name.len().min(MAX_NAME)).rev().find(|&end| name.is_char_boundary(end)).unwrap_or(0);
    // The standard library keys its hashes with random numbers of the system.
    format!(".{}.{:016x}{SUFFIX}", &name[..end], RandomState::new().build_hasher().finish())
}

/// A hidden name for the folder that a new one replaces.
pub(crate) fn hidden_replaced(name: &str) -> String {
    hidden(&format!("{name}{REPLACED}"))
}

/// What a hidden name says.
#[derive(Debug, PartialEq, Eq)]
struct Hidden<'a> {
    name: &'a str,
    /// By an earlier version, whose processes hold no lock.
    is_old: bool,
}

impl<'a> Hidden<'a> {
    fn parse(file_name: &'a str) -> Option<Self> {
        let inner = file_name.strip_prefix('.')?;
        let (inner, is_old) = match inner.strip_suffix(SUFFIX) {
            Some(inner) => (inner, false),
            None => (inner.strip_suffix(OLD_SUFFIX)?, true),
        };
        let (name, tag) = inner.rsplit_once('.')?;
        let is_ours = match is_old {
            true => !tag.is_empty() && tag.len() <= 10 && tag.bytes().all(|byte| byte.is_ascii_digit()),
            false => tag.len() == 16 && tag.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
        };
        (is_ours && !name.is_empty()).then_some(Self { name, is_old })
    }

    /// The name of the folder that was replaced, if that is what this is.
    fn replaced(&self) -> Option<&'a str> {
        self.name.strip_suffix(REPLACED)
    }
}

/// A path as it will be called: a hidden name in it would mean nothing to a user.
pub(crate) fn shown(path: &Path) -> PathBuf {
    let part = |part: Component<'_>| {
        let name = part.as_os_str().to_string_lossy();
        Hidden::parse(&name).map_or_else(|| part.as_os_str().to_owned(), |hidden| OsString::from(hidden.name))
    };
    path.components().map(part).collect()
}

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
    use std::os::unix::fs::MetadataExt;
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    matches!((file.metadata(), fs::symlink_metadata(path)), (Ok(a), Ok(b)) if same(&a, &b))
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

/// Whether anything has this name, be it a link that leads nowhere.
pub(crate) fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
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
    for entry in fs::read_dir(folder).map_err(WriteError::of(folder))? {
        let path = entry.map_err(WriteError::of(folder))?.path();
        let name = name_of(&path);
        if let Some(hidden) = Hidden::parse(&name) {
            call(&path, &hidden).map_err(WriteError::of(&path))?;
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
