//! Serves the page of runs to a browser on the same machine, read only, and keeps it up to date.
//!
//! [`Server`] listens on the loopback address alone and answers two paths: the page, and its version, for which the page asks
//! every two seconds. Nothing else can be read, and nothing can be changed. Read first: [`Server`], [`Runs`].
//!
//! Must not know: how a page is drawn, sessions, models.

mod request;
mod runs;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use self::request::{Answer, Request};
pub use self::runs::Runs;

/// The port to listen on unless another is asked for.
pub const PORT: u16 = 8808;
/// Connections at a time; a browser opens six.
const MOST_CONNECTIONS: usize = 16;
/// How often it is looked whether somebody connects, or whether to stop.
const PAUSE: Duration = Duration::from_millis(50);

/// A server of pages that listens already.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Listens on this port of the loopback address, where 0 is any free one; by default on [`PORT`] or, if that is taken, on any
    /// free one.
    ///
    /// # Errors
    /// The port is taken, or may not be used.
    pub fn bind(port: Option<u16>) -> io::Result<Self> {
        let listen = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        let listener = match port {
            Some(port) => listen(port)?,
            None => listen(PORT).or_else(|_| listen(0))?,
        };
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where a browser finds the page.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Answers until it is told to stop.
    pub fn serve(&self, runs: &Runs, stopped: &dyn Fn() -> bool) {
        let open = AtomicUsize::new(0);
        thread::scope(|scope| {
            while !stopped() {
                let Ok((stream, _)) = self.listener.accept() else {
                    thread::sleep(PAUSE);
                    continue;
                };
                // Beyond so many, a connection is closed unanswered.
                if open.load(Ordering::SeqCst) >= MOST_CONNECTIONS {
                    continue;
                }
                open.fetch_add(1, Ordering::SeqCst);
                let open = &open;
                scope.spawn(move || {
                    // A reader that is gone is no reason to stop.
                    let _ = answer(stream, runs);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
    }

    /// Answers on a thread of its own until what it returns is dropped.
    ///
    /// # Errors
    /// There can be no further thread.
    pub fn in_background(self, runs: Runs) -> io::Result<Background> {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let serve = move || self.serve(&runs, &|| flag.load(Ordering::SeqCst));
        let thread = thread::Builder::new().name("watch".to_owned()).spawn(serve)?;
        Ok(Background { stop, thread: Some(thread) })
    }
}

/// A server on a thread of its own, which ends when this is dropped.
#[derive(Debug)]
pub struct Background {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // A panic of the server's is no reason for one here.
        self.thread.take().map(JoinHandle::join);
    }
}

/// Reads a request and answers it.
fn answer(mut stream: TcpStream, runs: &Runs) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    let answer = match Request::read(&mut stream)? {
        Err(refused) => refused,
        Ok(request) => match request.path.as_str() {
            "/" => Answer::page(&runs.page().html),
            "/version" => Answer::text("200 OK", &runs.page().version),
            _ => Answer::text("404 Not Found", "There are only / and /version here."),
        }
        .without_body_if(request.is_head),
    };
    answer.write(&mut stream)
}
