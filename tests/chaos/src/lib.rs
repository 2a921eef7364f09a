//! Kills runs at random moments and resumes them, and watches long runs for growth.
//!
//! A run that was killed and resumed must end with the same bytes as an undisturbed one, and so must any other command that
//! was killed and given again. The harness starts the program as a process, sends it a signal after some time or right after
//! a change to its folder, starts it again, and compares the results. `cargo xtask chaos` and `cargo xtask soak` run it for long ([`chaos()`], [`soak()`]); the tests of the
//! command line use a [`Trial`] of their own for a few kills, and [`compare`] for runs that they disturb in other ways.
//!
//! It sees the program only from outside: its command line, folder, log and exit code. It links no crate of Collimate.
//!
//! Read [`Trial`] first, then [`Workload`] (what a run does), [`Verb`] (the other commands) and [`Trigger`] (when they are
//! interrupted).
//!
//! ```no_run
//! use std::path::Path;
//!
//! use collimate_chaos::{Disturbance, Program, Ready, Run, Trial, WORKLOADS};
//!
//! let program = Program::at("target/release/collimate");
//! let folder = Path::new("target/chaos/full");
//! let ready = Ready::new(WORKLOADS[0], "nca", Path::new("models/tiny"), folder)?;
//! let trial = Trial::begin(&program, ready, folder)?;
//! let mut run = Run::default();
//! trial.attempt(Disturbance { seed: 1, number: 1, most_kills: 8, signals: false, at_checkpoints: true }, &mut run)?;
//! assert!(run.differences.is_empty(), "{:?}", run.differences);
//! # anyhow::Ok(())
//! ```

pub mod compare;

mod chaos;
mod folder;
mod job;
mod phase;
mod process;
mod random;
mod record;
mod report;
mod rows;
mod signal;
mod soak;
mod trial;
mod trigger;
mod verb;
mod workload;

pub use chaos::{ChaosOptions, chaos};
pub use job::Job;
pub use phase::Phase;
pub use process::{Ended, Program};
pub use record::{Interruption, Run};
pub use rows::rows;
pub use signal::{End, Signal};
pub use soak::{SoakOptions, soak};
pub use trial::{Disturbance, Trial};
pub use trigger::{Event, Trigger};
pub use verb::{Inputs, ReadyVerb, VERBS, Verb};
pub use workload::{Ready, WORKLOADS, Workload};
