//! Turns panics of other crates into errors, for the parsers of downloaded files.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static CATCHES: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread will become an error, so that a panic hook should stay silent.
pub fn catches_panics() -> bool {
    CATCHES.get()
}

/// Runs `work` and returns its result, or its panic message as an error. Everything the work owned is dropped, so no
/// half-finished state survives.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let outer = CATCHES.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    CATCHES.set(outer);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message_and_the_flag_is_restored() {
        let problem = caught(|| {
            assert!(catches_panics());
            std::panic::resume_unwind(Box::new("index out of bounds".to_owned()))
        });
        assert_eq!(problem, Err::<(), _>("index out of bounds".to_owned()));
        assert!(!catches_panics());
        assert_eq!(caught(|| 1), Ok(1));
    }
}
