//! SIGINT and SIGTERM: a run stops after its step, everything else at once. SIGXFSZ, a quota's, becomes an error.

use std::io::{Write, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use collimate_train::StopFlag;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_shutdown, register_usize};

/// The flags that the process's signal handlers set.
#[derive(Debug, Clone)]
pub struct Signals {
    stop: StopFlag,
    /// Whether the next signal ends the process.
    at_once: Arc<AtomicBool>,
    /// Whether a request to stop is acknowledged at once.
    announces: bool,
}

impl Default for Signals {
    /// Without handlers: signals have the system's default effect.
    fn default() -> Self {
        Self { stop: StopFlag::default(), at_once: Arc::new(AtomicBool::new(true)), announces: true }
    }
}

impl Signals {
    /// Installs the handlers. Inside [`Signals::after_the_step`] the first signal asks the run to stop and the second
    /// ends the process; elsewhere the first one ends it. The exit code is then 128 plus the signal's number.
    pub(crate) fn install() -> Self {
        let signals = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // Handlers run in this order. If one cannot be installed, the system's default ends the process.
            let shutdown = register_conditional_shutdown(signal, 128 + signal, Arc::clone(&signals.at_once));
            if shutdown.is_ok() {
                let _ = register(signal, Arc::clone(&signals.at_once));
                let _ = register_usize(signal, signals.stop.number(), signal as usize);
            }
        }
        fail_at_quotas();
        signals
    }

    /// The same flags, for a process that leaves it to another to say what happens.
    pub(crate) fn silent(&self) -> Self {
        Self { announces: false, ..self.clone() }
    }

    /// Runs code that checks the flag and stops on its own.
    pub(crate) fn after_the_step<T>(&self, run: impl FnOnce(&StopFlag) -> T) -> T {
        self.at_once.store(false, Ordering::SeqCst);
        let ended = AtomicBool::new(false);
        let result = thread::scope(|scope| {
            if self.announces {
                scope.spawn(|| self.announce(&ended));
            }
            let _end = OnDrop(&ended);
            run(&self.stop)
        });
        self.at_once.store(true, Ordering::SeqCst);
        result
    }

    /// Acknowledges a signal immediately, since a step may take long.
    fn announce(&self, ended: &AtomicBool) {
        while !ended.load(Ordering::SeqCst) {
            if self.stop.requested().is_some() {
                // `eprintln` panics if nobody reads standard error any more.
                let _ = writeln!(stderr(), "\nstopping after this step; the same signal again stops at once");
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Makes a file that grows beyond a quota (`ulimit -f`) an error that names it: the system's default effect of SIGXFSZ ends the
/// process. A handler that does nothing, unlike ignoring the signal, does not pass to the programs that this one starts.
fn fail_at_quotas() {
    #[cfg(unix)]
    let _ = register(signal_hook::consts::SIGXFSZ, Arc::new(AtomicBool::new(false)));
}

/// Sets its flag when dropped, even by a panic.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
