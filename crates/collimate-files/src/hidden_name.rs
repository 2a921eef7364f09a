//! Hidden names of what is not yet, or no longer, under its final name.

use std::ffi::OsString;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Component, Path, PathBuf};

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
pub(crate) struct Hidden<'a> {
    pub(crate) name: &'a str,
    /// By an earlier version, whose processes hold no lock.
    pub(crate) is_old: bool,
}

impl<'a> Hidden<'a> {
    pub(crate) fn parse(file_name: &'a str) -> Option<Self> {
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
    pub(crate) fn replaced(&self) -> Option<&'a str> {
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
