//! Listing and downloading.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::cache::RepoCache;
use crate::client::{Client, Failure, Request, content_length, content_range, is_empty, read_all};
use crate::transfer::{Remote, Transfer};
use crate::{HubError, HubName, HubOptions, Listing, RepoKind};

/// Size limit of a repository's description. One of a million files has some 100 MB.
const MAX_LISTING_BYTES: u64 = 256 << 20;

/// How deep folders of a cached repository may nest.
const MAX_DEPTH: usize = 16;

/// Asks the hub for a repository's files.
pub(crate) fn list(client: &Client<'_>) -> Result<Listing, HubError> {
    let (name, endpoint) = (client.name, &client.options.endpoint);
    let kind = match name.kind {
        RepoKind::Model => "models",
        RepoKind::Dataset => "datasets",
    };
    let url = format!("{endpoint}/api/{kind}/{}/revision/{}", name.id, encoded(&name.revision, ""));
    let what = "the repository";
    let request = Request { url: &url, what, range: None, if_range: None, timeout: client.options.timeouts.question };
    client.question(request, |answer| {
        let bytes = read_all(client, what, answer.response, MAX_LISTING_BYTES)?;
        let info: Value = serde_json::from_slice(&bytes)
            .map_err(|error| client.unfit(what, &format!("the answer is not a description of it: {error}")))?;
        let commit = info["sha"].as_str().filter(|commit| is_commit(commit));
        let commit = commit.ok_or_else(|| client.unfit(what, "the answer has no commit"))?;
        let listed = info["siblings"].as_array().into_iter().flatten().filter_map(|file| file["rfilename"].as_str());
        let mut files: Vec<String> = listed.filter(|file| is_inside(file)).map(str::to_owned).collect();
        files.sort();
        files.dedup();
        Ok(Listing { commit: commit.to_owned(), files })
    })
}

/// Lists a repository's cached files.
pub(crate) fn list_cache(options: &HubOptions, name: &HubName) -> Result<Listing, HubError> {
    let missing = || HubError::missing(name, "it", &options.cache);
    let cache = RepoCache::new(options, name);
    let commit = match is_commit(&name.revision) {
        true => name.revision.clone(),
        false => cache.commit().ok_or_else(missing)?,
    };
    let folder = cache.snapshot(&commit);
    if !is_commit(&commit) || !folder.is_dir() {
        return Err(missing());
    }
    let mut files = Vec::new();
    let read = files_under(&folder, "", 0, &mut files);
    read.map_err(|error| HubError::file(name, &folder.display().to_string(), error.to_string()))?;
    files.sort();
    Ok(Listing { commit, files })
}

fn files_under(folder: &Path, prefix: &str, depth: usize, files: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().map(|name| format!("{prefix}{name}")) else { continue };
        let path = entry.path();
        if path.is_file() {
            files.push(name);
        } else if entry.file_type()?.is_dir() && depth < MAX_DEPTH {
            files_under(&path, &format!("{name}/"), depth + 1, files)?;
        }
    }
    Ok(())
}

/// The cached path of a file at a commit, if it is there.
pub(crate) fn cached(options: &HubOptions, name: &HubName, commit: &str, file: &str) -> Option<PathBuf> {
    let path = RepoCache::new(options, name).snapshot(commit).join(file);
    (is_inside(file) && path.is_file()).then_some(path)
}

/// Downloads a file into the cache.
pub(crate) fn download(client: &Client<'_>, commit: &str, file: &str) -> Result<PathBuf, HubError> {
    let mut remote = ask(client, &client.name.revision, file)?;
    if remote.commit != commit {
        // The revision moved on after the files were listed.
        remote = ask(client, commit, file)?;
    }
    if remote.commit != commit {
        let problem = format!("{} has it at commit {}, not {commit}", client.options.endpoint, remote.commit);
        return Err(HubError::file(client.name, file, problem));
    }
    let cache = RepoCache::new(client.options, client.name);
    Transfer { client, cache: &cache, remote: &remote, file }.run()?;
    cache.link(&remote.etag, commit, file).map_err(|error| HubError::file(client.name, file, error.to_string()))
}

/// Asks for a file's size, ETag and commit.
fn ask(client: &Client<'_>, revision: &str, file: &str) -> Result<Remote, HubError> {
    let (name, endpoint) = (client.name, &client.options.endpoint);
    let url = format!("{endpoint}/{}/resolve/{}/{}", name.page(), encoded(revision, ""), encoded(file, "/"));
    let timeout = client.options.timeouts.question;
    // Not HEAD, whose answers lack the size where they are compressed on the way.
    let request = Request { url: &url, what: file, range: Some("bytes=0-0"), if_range: None, timeout };
    client.question(request, |answer| {
        let unfit = |problem: &str| client.unfit(file, problem);
        let range = content_range(&answer.response);
        // An empty file has no first byte, and a server without ranges sends all of it.
        let whole = || content_length(&answer.response).filter(|_| answer.response.status() == 200);
        let empty = is_empty(&answer.response).then_some(0);
        let size = answer.size.or(range.map(|(_, size)| size)).or(empty).or_else(whole);
        let size = size.ok_or_else(|| unfit("the answer does not say how long it is"))?;
        let commit =
            answer.commit.filter(|commit| is_commit(commit)).ok_or_else(|| unfit("the answer has no commit"))?;
        let etag = answer.etag.filter(|etag| is_name(etag)).ok_or_else(|| unfit("the answer has no valid ETag"))?;
        Ok::<_, Failure>(Remote { url: url.clone(), commit, etag, size })
    })
}

/// Whether the text is a commit hash, and so safe as the name of a folder.
fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether an ETag is safe as the name of a file.
fn is_name(etag: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+' | b'=');
    (1..=200).contains(&etag.len()) && etag.bytes().all(is_plain) && !etag.starts_with('.')
}

/// Whether a listed path stays inside its folder.
fn is_inside(file: &str) -> bool {
    let parts = Path::new(file).components();
    !file.is_empty()
        && !file.contains(['\\', ':'])
        && parts.into_iter().all(|part| matches!(part, Component::Normal(_)))
}

/// Percent-encodes everything that a URL would interpret, except for the characters in `kept`.
fn encoded(text: &str, kept: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        let character = char::from(byte);
        match byte.is_ascii_alphanumeric() || "-._~".contains(character) || kept.contains(character) {
            true => encoded.push(character),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("refs/convert/parquet", "", "refs%2Fconvert%2Fparquet")]
    #[case("data/a b#1?.jsonl", "/", "data/a%20b%231%3F.jsonl")]
    #[case("ü%", "/", "%C3%BC%25")]
    fn names_are_encoded_for_a_url(#[case] text: &str, #[case] kept: &str, #[case] expected: &str) {
        assert_eq!(encoded(text, kept), expected);
    }

    #[rstest]
    #[case("0123abcd", true)]
    #[case("5d41402abc4b2a76b9719d911017c592-12", true)]
    #[case("", false)]
    #[case("..", false)]
    #[case("a/b", false)]
    #[case("a\0b", false)]
    fn an_etag_names_a_file(#[case] etag: &str, #[case] expected: bool) {
        assert_eq!(is_name(etag), expected);
    }
}
