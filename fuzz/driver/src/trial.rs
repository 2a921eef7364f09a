//! One input: the parser's answer, its time and memory.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::allocation::{held, peak_since, reset_peak};
use crate::answer::Answer;
use crate::input_folders::InputFolders;
use crate::target::Target;

/// Longest time for an input, in seconds.
pub const SLOWEST_SECONDS: f64 = 1.0;

/// The stack of parsers: that of a new thread in Rust.
pub const STACK_BYTES: usize = 2 << 20;

/// The outcome for one input.
#[derive(Debug)]
pub struct Trial {
    /// The parser's answer; `None` if it panicked.
    pub answer: Option<Answer>,
    /// Time it took: the thread's own if the system reports it, so that other work does not count.
    pub time: Duration,
    /// Peak memory in bytes; zero if nothing counts it.
    pub peak_bytes: usize,
}

impl Trial {
    /// What is wrong with the outcome, if anything.
    pub fn fault(&self, target: Target, input: &[u8]) -> Option<String> {
        let limit = target.limit().bytes(input.len());
        if self.answer.is_none() {
            return Some("panicked".to_owned());
        }
        if self.time.as_secs_f64() > SLOWEST_SECONDS {
            return Some(format!("took {:.2} s", self.time.as_secs_f64()));
        }
        (self.peak_bytes > limit).then(|| {
            format!("held {} bytes for an input of {}, at most {limit} are allowed", self.peak_bytes, input.len())
        })
    }
}

/// Feeds one input to a parser on behalf of a fuzzer, which itself detects panics and measures time and memory.
///
/// # Panics
/// The parser panics, or its folders cannot be created.
pub fn fuzz(target: Target, input: &[u8]) {
    static FOLDERS: OnceLock<InputFolders> = OnceLock::new();
    let folders =
        FOLDERS.get_or_init(|| InputFolders::new().unwrap_or_else(|error| panic!("folders for inputs: {error}")));
    target.run(folders, input);
}

/// Feeds one input to a parser.
pub fn try_input(target: Target, folders: &InputFolders, input: &[u8]) -> Trial {
    reset_peak();
    let (before, begun) = (held(), ThreadTime::now());
    let answer = catch_unwind(AssertUnwindSafe(|| target.run(folders, input))).ok();
    Trial { time: begun.elapsed(), peak_bytes: peak_since(before), answer }
}

/// A point in this thread's time.
struct ThreadTime {
    wall: Instant,
    running: Option<Duration>,
}

impl ThreadTime {
    fn now() -> Self {
        Self { wall: Instant::now(), running: running() }
    }

    fn elapsed(&self) -> Duration {
        let wall = self.wall.elapsed();
        match (self.running, running()) {
            (Some(before), Some(now)) => now.saturating_sub(before).min(wall),
            _ => wall,
        }
    }
}

/// This thread's CPU time, from Linux.
fn running() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}
