//! Downloads a file's bytes, in as many attempts as it takes.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::thread;
use std::time::{Duration, Instant};

use collimate_files::{free_space, update_plain};
use ureq::Body;
use ureq::http::Response;

use crate::HubError;
use crate::cache::RepoCache;
use crate::client::{Client, Failure, Request, content_length, content_range, in_words, seconds, strong_etag};
use crate::patience::Patience;
use crate::verify::verify;

/// A download that brings fewer bytes than this in [`SLOW_TIMEOUTS`] timeouts stands still for all practical purposes.
const SLOW_BYTES: u64 = 1000;
const SLOW_TIMEOUTS: u32 = 6;

/// How often the lock of another process is tried.
const LOCK_INTERVAL: Duration = Duration::from_millis(200);

/// A file on the hub.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) url: String,
    pub(crate) commit: String,
    /// Names the bytes.
    pub(crate) etag: String,
    pub(crate) size: u64,
}

/// The download of one file into the cache.
#[derive(Debug)]
pub(crate) struct Transfer<'a> {
    pub(crate) client: &'a Client<'a>,
    pub(crate) cache: &'a RepoCache,
    pub(crate) remote: &'a Remote,
    pub(crate) file: &'a str,
}

/// The bytes that are there.
#[derive(Debug)]
struct Partial {
    file: File,
    done: u64,
    /// ETag of the server that sends the bytes, which need not be the hub's.
    sender_etag: Option<String>,
}

impl Transfer<'_> {
    /// Leaves the bytes under their final name. Does nothing if they are there already.
    pub(crate) fn run(&self) -> Result<(), HubError> {
        let blob = self.cache.blob(&self.remote.etag);
        let is_there = || fs::metadata(&blob).is_ok_and(|found| found.is_file() && found.len() == self.remote.size);
        if is_there() {
            // Another commit already brought the same bytes.
            return Ok(());
        }
        let _lock = self.lock()?;
        if is_there() {
            return Ok(());
        }
        let path = self.cache.partial(&self.remote.etag);
        let file = update_plain(&path).map_err(|error| self.local(&error))?;
        let done = file.metadata().map_err(|error| self.local(&error))?.len();
        let mut partial = Partial { file, done, sender_etag: None };
        self.check_room(done)?;
        // Twice, since the part that was there before may be damaged.
        for is_last in [done == 0, true] {
            self.fetch(&mut partial)?;
            let checked = verify(&mut partial.file, self.remote.size, &self.remote.etag);
            match checked.map_err(|error| self.local(&error))? {
                Ok(()) => return self.cache.complete(&self.remote.etag).map_err(|error| self.local(&error)),
                Err(problem) => {
                    partial.restart().map_err(|error| self.local(&error))?;
                    if is_last {
                        // What is left has no use.
                        self.cache.forget(&self.remote.etag);
                        let problem = format!("what was downloaded is not the file: {problem}; try again later");
                        return Err(HubError::file(self.client.name, self.file, problem));
                    }
                    self.note(&format!("{problem}; the download begins anew"));
                }
            }
        }
        Ok(())
    }

    /// Downloads what is missing and syncs it.
    fn fetch(&self, partial: &mut Partial) -> Result<(), HubError> {
        if partial.done > self.remote.size {
            partial.restart().map_err(|error| self.local(&error))?;
        }
        self.client.watch.begin(&format!("{}/{}", self.client.name.id, self.file), partial.done, self.remote.size);
        let fetched = self.fetch_rest(partial);
        self.client.watch.end();
        fetched?;
        partial.file.sync_all().map_err(|error| self.local(&error))
    }

    fn fetch_rest(&self, partial: &mut Partial) -> Result<(), HubError> {
        let limit = self.client.options.timeouts.download;
        let mut patience = Patience::for_file(limit, partial.done);
        while partial.done < self.remote.size {
            let timeout = patience.next_timeout();
            let mut arrived = Instant::now();
            let attempt = self.attempt(partial, timeout, &mut arrived);
            let (problem, asked) = match attempt {
                Ok(()) => continue,
                Err(Failure::Lasting(error)) => return Err(error),
                Err(Failure::Passing { problem, asked }) => (problem, asked),
            };
            let waited = arrived.elapsed();
            let problem = match problem.as_str() {
                "nothing arrives" => format!("nothing arrived for {}", seconds(waited)),
                _ => problem,
            };
            let Some(pause) = patience.failed(waited, partial.done, asked) else {
                return Err(self.stopped(partial.done, problem));
            };
            self.note(&format!("{problem} at {} of {} bytes; trying again", partial.done, self.remote.size));
            thread::sleep(pause);
        }
        Ok(())
    }

    /// One request for what is missing. `arrived` becomes the time of the last byte.
    fn attempt(&self, partial: &mut Partial, timeout: Duration, arrived: &mut Instant) -> Result<(), Failure> {
        let range = format!("bytes={}-", partial.done);
        let request = Request {
            url: &self.remote.url,
            what: self.file,
            range: (partial.done > 0).then_some(&range),
            if_range: partial.sender_etag.as_deref().filter(|_| partial.done > 0),
            timeout,
        };
        let answer = self.client.get(request)?;
        let etag = answer.etag.as_ref().filter(|etag| **etag != self.remote.etag);
        if let Some(etag) = etag.filter(|_| answer.commit.is_some()) {
            let problem = format!("the file changed on the hub during the download ({etag}); start again");
            return Err(Failure::Lasting(HubError::file(self.client.name, self.file, problem)));
        }
        self.position(partial, &answer.response)?;
        partial.sender_etag = strong_etag(&answer.response);
        self.copy(partial, answer.response, arrived)
    }

    /// Makes sure that the answer's bytes belong where the next one is written: a server without ranges begins with the
    /// first, and so does one whose file changed.
    fn position(&self, partial: &mut Partial, response: &Response<Body>) -> Result<(), Failure> {
        let size = self.remote.size;
        let start = match (response.status().as_u16(), content_range(response)) {
            (206, Some((start, whole))) if whole == size => start,
            (206, Some((_, whole))) => return Err(self.lies(&format!("{whole} bytes long"))),
            (206, None) => return Err(self.client.unfit(self.file, "a part of it without its position")),
            (416, _) => u64::MAX,
            _ => 0,
        };
        if let Some(length) = content_length(response).filter(|_| start <= size)
            && start.checked_add(length) != Some(size)
        {
            return Err(self.lies(&format!("{} bytes long", start.saturating_add(length))));
        }
        if start == partial.done {
            return Ok(());
        }
        partial.restart().map_err(|error| self.failed(&error))?;
        match start {
            0 => Ok(()),
            _ => Err(Failure::Passing {
                problem: "the server sends another part than was asked for".to_owned(),
                asked: None,
            }),
        }
    }

    /// Appends the body. Ends early if it has more bytes than the file.
    fn copy(&self, partial: &mut Partial, response: Response<Body>, arrived: &mut Instant) -> Result<(), Failure> {
        let passing = |problem: &str| Failure::Passing { problem: problem.to_owned(), asked: None };
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 17];
        let slow_time = self.client.options.timeouts.download * SLOW_TIMEOUTS;
        let (mut since, mut before) = (Instant::now(), partial.done);
        partial.file.seek(SeekFrom::Start(partial.done)).map_err(|error| self.failed(&error))?;
        while partial.done < self.remote.size {
            let room = usize::try_from(self.remote.size - partial.done).unwrap_or(usize::MAX).min(buffer.len());
            let read = match body.read(&mut buffer[..room]) {
                Ok(0) => return Err(passing("the connection ended")),
                Ok(read) => read,
                Err(error) => return Err(passing(&in_words(&error))),
            };
            partial.file.write_all(&buffer[..read]).map_err(|error| self.failed(&error))?;
            partial.done += read as u64;
            *arrived = Instant::now();
            self.client.watch.advance(read as u64);
            if since.elapsed() > slow_time {
                if partial.done - before < SLOW_BYTES {
                    *arrived = since;
                    return Err(passing(&format!("fewer than {SLOW_BYTES} bytes arrived in {}", seconds(slow_time))));
                }
                (since, before) = (Instant::now(), partial.done);
            }
        }
        Ok(())
    }

    /// Becomes the only process that downloads these bytes, after another one that does so now.
    fn lock(&self) -> Result<File, HubError> {
        let path = self.cache.partial(&self.remote.etag);
        let timeout = self.client.options.timeouts.download;
        let (mut since, mut seen, mut is_told) = (Instant::now(), None, false);
        loop {
            if let Some(lock) = self.cache.try_lock(&self.remote.etag).map_err(|error| self.local(&error))? {
                return Ok(lock);
            }
            if !is_told {
                self.note("another program is downloading it; waiting for that");
                is_told = true;
            }
            let found = fs::metadata(&path).ok().map(|found| found.len());
            if found != seen {
                (since, seen) = (Instant::now(), found);
            }
            // A whole file is being hashed, which takes a while.
            let patience = if found == Some(self.remote.size) { 60 } else { SLOW_TIMEOUTS };
            if since.elapsed() > timeout * patience {
                let problem = format!(
                    "another program holds its lock in {}, and nothing arrives there; end it, or try again later",
                    self.client.options.cache.join(".locks").display()
                );
                return Err(HubError::file(self.client.name, self.file, problem));
            }
            thread::sleep(LOCK_INTERVAL.min(timeout));
        }
    }

    fn check_room(&self, done: u64) -> Result<(), HubError> {
        let missing = self.remote.size.saturating_sub(done);
        match free_space(&self.client.options.cache).filter(|&free| free < missing) {
            None => Ok(()),
            Some(free) => {
                let cache = self.client.options.cache.display();
                let problem = format!(
                    "{missing} bytes are to be downloaded, and {cache} has room for {free}; make room, or set \
                     HF_HUB_CACHE to a folder on another disk"
                );
                Err(HubError::file(self.client.name, self.file, problem))
            }
        }
    }

    fn note(&self, text: &str) {
        self.client.watch.note(&format!("{}: {}: {text}", self.client.name, self.file));
    }

    fn stopped(&self, done: u64, problem: String) -> HubError {
        HubError::Stopped {
            name: Box::new(self.client.name.clone()),
            url: self.remote.url.clone(),
            done,
            size: self.remote.size,
            problem,
        }
    }

    /// The server contradicts what the hub said.
    fn lies(&self, says: &str) -> Failure {
        let problem =
            format!("the hub says that it is {} bytes long, and the server that it is {says}", self.remote.size);
        self.client.unfit(self.file, &problem)
    }

    /// An error of the cache's disk.
    fn local(&self, error: &io::Error) -> HubError {
        let path = self.cache.partial(&self.remote.etag);
        HubError::file(self.client.name, self.file, format!("{}: {error}", path.display()))
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::Lasting(self.local(error))
    }
}

impl Partial {
    /// Forgets what is there.
    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        (self.done, self.sender_etag) = (0, None);
        Ok(())
    }
}
