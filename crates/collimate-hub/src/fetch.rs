//! Listing and downloading through the crate `hf-hub`.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use crate::{HubError, HubName, HubOptions, Listing, RepoKind};

/// Asks the hub for a repository's files.
pub(crate) fn list(options: &HubOptions, name: &HubName) -> Result<Listing, HubError> {
    let repository = open(options, name)?;
    let info = repository.info().map_err(|error| refused(options, name, "the repository", error))?;
    if !is_commit(&info.sha) {
        return Err(HubError::unfit(name, format!("{} did not return a commit", options.endpoint)));
    }
    let mut files: Vec<String> =
        info.siblings.into_iter().map(|file| file.rfilename).filter(|file| is_inside(file)).collect();
    files.sort();
    Ok(Listing { commit: info.sha, files })
}

/// Lists a repository's cached files.
pub(crate) fn list_cache(options: &HubOptions, name: &HubName) -> Result<Listing, HubError> {
    let missing = || HubError::missing(name, "it", &options.cache);
    let cache = cache(options, name);
    let commit = match is_commit(&name.revision) {
        true => name.revision.clone(),
        false => {
            let folder = cache.pointer_path("x");
            let root = folder.parent().and_then(Path::parent).ok_or_else(missing)?;
            let text = fs::read_to_string(root.join("refs").join(&name.revision)).map_err(|_| missing())?;
            text.trim().to_owned()
        }
    };
    let folder = cache.pointer_path(&commit);
    if !is_commit(&commit) || !folder.is_dir() {
        return Err(missing());
    }
    let mut files = Vec::new();
    let read = files_under(&folder, "", 0, &mut files);
    read.map_err(|error| file_error(name, &folder.display().to_string(), error.to_string()))?;
    files.sort();
    Ok(Listing { commit, files })
}

/// How deep folders of a cached repository may nest.
const MAX_DEPTH: usize = 16;

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
    let path = cache(options, name).pointer_path(commit).join(file);
    (is_inside(file) && path.is_file()).then_some(path)
}

/// Downloads a file into the cache.
pub(crate) fn download(options: &HubOptions, name: &HubName, commit: &str, file: &str) -> Result<PathBuf, HubError> {
    let wrong = |problem: String| file_error(name, file, problem);
    let repository = open(options, name)?;
    let api = api(options, name)?;
    let metadata = api.metadata(&repository.url(file)).map_err(|error| refused(options, name, file, error))?;
    let is_name = |text: &str| !text.is_empty() && !text.starts_with('.') && !text.contains(['/', '\\']);
    if metadata.commit_hash() != commit {
        return Err(wrong("the repository changed during the download; start again".to_owned()));
    }
    if !is_name(metadata.etag()) {
        return Err(wrong(format!("{} returned an invalid ETag", options.endpoint)));
    }
    let cache = cache(options, name);
    let (blob, pointer) = (cache.blob_path(metadata.etag()), cache.pointer_path(commit).join(file));
    let is_whole = |path: &Path| fs::metadata(path).is_ok_and(|found| found.len() == metadata.size() as u64);
    if is_whole(&blob) {
        // Another commit already brought the same bytes.
        link(&blob, &pointer).and_then(|()| cache.create_ref(commit)).map_err(|error| wrong(error.to_string()))?;
        return Ok(pointer);
    }
    let path = repository.download(file).map_err(|error| refused(options, name, file, error))?;
    if !is_whole(&path) {
        // Removed, so that the next attempt downloads it again.
        let _ = (fs::remove_file(&path), fs::remove_file(&blob));
        return Err(wrong(format!("the download is incomplete, expected {} bytes; start again", metadata.size())));
    }
    Ok(path)
}

/// Makes cached bytes appear as a file of a commit.
fn link(blob: &Path, pointer: &Path) -> io::Result<()> {
    let parent = pointer.parent().ok_or_else(|| io::Error::other("no folder"))?;
    fs::create_dir_all(parent)?;
    #[cfg(unix)]
    return std::os::unix::fs::symlink(fs::canonicalize(blob)?, pointer);
    #[cfg(not(unix))]
    return fs::copy(blob, pointer).map(|_| ());
}

fn repo(name: &HubName) -> Repo {
    let kind = match name.kind {
        RepoKind::Model => RepoType::Model,
        RepoKind::Dataset => RepoType::Dataset,
    };
    Repo::with_revision(name.id.clone(), kind, name.revision.clone())
}

fn cache(options: &HubOptions, name: &HubName) -> CacheRepo {
    Cache::new(options.cache.clone()).repo(repo(name))
}

fn api(options: &HubOptions, name: &HubName) -> Result<Api, HubError> {
    let builder = ApiBuilder::from_cache(Cache::new(options.cache.clone()))
        .with_endpoint(options.endpoint.clone())
        .with_token(options.token.clone())
        .with_retries(3)
        .with_progress(options.progress)
        .with_user_agent("collimate", env!("CARGO_PKG_VERSION"));
    builder.build().map_err(|error| refused(options, name, "the hub", error))
}

fn open(options: &HubOptions, name: &HubName) -> Result<ApiRepo, HubError> {
    Ok(api(options, name)?.repo(repo(name)))
}

/// Whether the text is a commit hash, and so safe as the name of a folder.
fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a listed path stays inside its folder.
fn is_inside(file: &str) -> bool {
    let parts = Path::new(file).components();
    !file.is_empty()
        && !file.contains(['\\', ':'])
        && parts.into_iter().all(|part| matches!(part, Component::Normal(_)))
}

fn file_error(name: &HubName, file: &str, problem: String) -> HubError {
    HubError::File { name: Box::new(name.clone()), file: file.to_owned(), problem }
}

/// Translates an error of `hf-hub` into one about what the user asked for.
fn refused(options: &HubOptions, name: &HubName, what: &str, error: ApiError) -> HubError {
    let (name, endpoint) = (Box::new(name.clone()), options.endpoint.clone());
    match error {
        ApiError::TooManyRetries(error) => refused(options, &name, what, *error),
        ApiError::RequestError(error) => match *error {
            ureq::Error::StatusCode(404) => HubError::NotFound { name, endpoint, what: what.to_owned() },
            ureq::Error::StatusCode(status @ (401 | 403)) => {
                HubError::Access { name, endpoint, status, has_token: options.token.is_some() }
            }
            ureq::Error::StatusCode(status) => {
                HubError::Network { name, endpoint, problem: format!("it returned status {status}") }
            }
            error => HubError::Network { name, endpoint, problem: error.to_string() },
        },
        ApiError::IoError(error) => file_error(&name, what, error.to_string()),
        ApiError::LockAcquisition(path) => {
            file_error(&name, what, format!("another program is downloading it ({})", path.display()))
        }
        ApiError::InvalidResume => {
            let problem = "an earlier partial download is damaged; remove its .part file from the cache";
            file_error(&name, what, problem.to_owned())
        }
        other => HubError::Network { name, endpoint, problem: format!("unexpected response: {other}") },
    }
}
