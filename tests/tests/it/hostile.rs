//! Hostile input for every parser of downloaded files: the committed corpora, and inputs derived from them.
//!
//! `cargo xtask fuzz` tries a million inputs per parser; every test run makes the same checks on a few.

mod corpora;
mod folders;
mod generated;
#[cfg(unix)]
mod kinds;
mod long_texts;
mod memory;
mod outputs;
mod packed;
mod run_folder;
mod runs;
mod sizes;

use std::path::{Path, PathBuf};
use std::sync::Once;

use collimate_hostile::{Answer, Corpus, Counting, InputFolders, STACK_BYTES, Target, try_input};

/// Memory is part of the check. It is counted per thread, so concurrent tests don't disturb it.
#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn corpus(target: Target) -> Corpus {
    Corpus::read(&fuzz_folder(), target).expect("a corpus")
}

/// Silences panics that become errors: printing a backtrace takes more memory than any parser may.
fn keep_caught_panics_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !collimate_data::catches_panics() {
                before(panic);
            }
        }));
    });
}

/// Feeds inputs to a parser on a thread with Rust's default stack; a faulty input fails the test by name.
fn try_all(target: Target, inputs: impl Iterator<Item = (String, Vec<u8>)> + Send) -> Vec<(String, Answer)> {
    keep_caught_panics_quiet();
    let work = || {
        let folders = InputFolders::new().expect("folders");
        let tried = |(name, input): (String, Vec<u8>)| {
            let trial = try_input(target, &folders, &input);
            if let Some(fault) = trial.fault(target, &input) {
                panic!("{target}, {name}: {fault}; the input is {:?}", String::from_utf8_lossy(&input));
            }
            (name, trial.answer.expect("an answer, since nothing is at fault"))
        };
        inputs.map(tried).collect()
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work).expect("a thread");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
