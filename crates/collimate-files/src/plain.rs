//! Opens plain files, and nothing that only looks like one.
//!
//! Files that a user names may be reached by links ([`open_regular`]). Files of a folder that this program keeps may not: a
//! link there would lead out of it, and what it leads to would be read or written instead ([`open_plain`] and the others).

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// What is said of a link inside a folder that this program keeps. Stores of large files leave links behind.
pub(crate) const LINK: &str =
    "it is a link, which is not followed here; put the file itself in its place (`git annex unlock`, `dvc unprotect`)";

/// Opens a regular file; a link to one is followed.
///
/// # Errors
/// Opening it fails, or the path is not a regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // Looked at before opening: opening a named pipe waits for its other end, and opening a device may do something.
    must_be_file(&fs::metadata(path)?)?;
    let file = without_waiting(OpenOptions::new().read(true)).open(path)?;
    // And afterwards: it may have been exchanged in between.
    must_be_file(&file.metadata()?)?;
    Ok(file)
}

/// Reads a regular file of at most `limit` bytes as text; a link to one is followed.
///
/// # Errors
/// Reading it fails, the path is not a regular file, the file is larger, or its text is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    text_of(open_regular(path)?, limit)
}

/// Reads a regular file of at most `limit` bytes; a link to one is followed. Whatever is read whole is read by this function,
/// by [`read_text`] or by [`read_plain`].
///
/// # Errors
/// Reading it fails, the path is not a regular file, or the file is larger.
pub fn read_bytes(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    bytes_of(open_regular(path)?, limit)
}

/// Opens a plain file of a folder that this program keeps. No link is followed.
///
/// # Errors
/// Opening it fails, or the path is a link, a folder, a device or a pipe.
pub fn open_plain(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true))
}

/// Reads a plain file of at most `limit` bytes as text, like [`open_plain`].
///
/// # Errors
/// Those of [`open_plain`]; the file is larger, or its text is not UTF-8.
pub fn read_plain(path: &Path, limit: u64) -> io::Result<String> {
    text_of(open_plain(path)?, limit)
}

/// Opens a plain file to append to, and creates it if it is not there. No link is followed, and a file that has a second name
/// is refused, since what is appended would stand there as well.
///
/// # Errors
/// Opening it fails, or the path is something else.
pub fn append_plain(path: &Path) -> io::Result<File> {
    only_name(open(path, OpenOptions::new().append(true).create(true))?)
}

/// Opens a plain file to read and to write in place, like [`append_plain`].
///
/// # Errors
/// Opening it fails, or the path is something else.
pub fn update_plain(path: &Path) -> io::Result<File> {
    only_name(open(path, OpenOptions::new().read(true).write(true).create(true).truncate(false))?)
}

/// Creates a plain file that grows in place; nothing may have its name.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] if something has, even a link that leads nowhere; or it cannot be created.
pub fn create_plain(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Makes sure that there is a real folder in a folder that this program keeps: one is created if there is nothing.
///
/// # Errors
/// Something else has the name, even a link to a folder, or it cannot be created.
pub fn plain_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => match fs::symlink_metadata(path)?.is_dir() {
            true => Ok(()),
            false => Err(io::Error::other("it is not a folder; a link to one is not followed here")),
        },
        created => created,
    }
}

/// Checks that a file of this name can be written or replaced: there is a plain file, or nothing.
///
/// # Errors
/// Something else is there: a link, a folder, a device, a pipe.
pub fn check_plain(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) => must_be_file(&found),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Options that follow no link and never wait for the other end of a pipe.
pub(crate) fn without_links(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32);
    }
    options
}

fn without_waiting(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32);
    }
    options
}

fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    check_plain(path)?;
    let file = without_links(options).open(path)?;
    must_be_file(&file.metadata()?)?;
    Ok(file)
}

fn must_be_file(found: &Metadata) -> io::Result<()> {
    match (found.is_file(), found.is_symlink()) {
        (true, _) => Ok(()),
        (false, true) => Err(io::Error::other(LINK)),
        (false, false) => Err(io::Error::other("it is not a regular file")),
    }
}

#[cfg(unix)]
fn only_name(file: File) -> io::Result<File> {
    use std::os::unix::fs::MetadataExt;
    match file.metadata()?.nlink() > 1 {
        true => Err(io::Error::other("it has another name as well (a hard link), where a change would show")),
        false => Ok(file),
    }
}

#[cfg(not(unix))]
fn only_name(file: File) -> io::Result<File> {
    Ok(file)
}

fn text_of(file: File, limit: u64) -> io::Result<String> {
    String::from_utf8(bytes_of(file, limit)?).map_err(|_| io::Error::other("it is not UTF-8 text"))
}

fn bytes_of(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let too_long = || Err(io::Error::other(format!("it has more than {limit} bytes, which no such file needs")));
    let len = file.metadata()?.len();
    if len > limit {
        return too_long();
    }
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
    // What counts is what was read, since the file may grow meanwhile.
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { too_long() } else { Ok(bytes) }
}

#[cfg(all(test, unix))]
mod tests;
