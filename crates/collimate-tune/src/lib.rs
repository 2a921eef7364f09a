//! Chooses β, α and the learning rate of a recipe by short runs: successive halving (Jamieson and Talwalkar, arXiv 1502.07943)
//! over one cached reference, within a budget of time.
//!
//! ```text
//! knobs       what is varied, in which range, and the candidates drawn from it
//! ladder      how many candidates go how far, and what that costs
//! short_run   one run, from its last checkpoint to the next rung, and its score there
//! reward      the mean reward of answers drawn to held-out prompts, by the user's program
//! options     the settings, and whether they can be used
//! record      what a tuning was begun with, so that it goes on
//! tuning      the whole: rungs, finalists with several seeds, the choice
//! outcome     how sure the choice is
//! page        every run as rows, as a table and as a page; the recipe that is written
//! ```
//!
//! All candidates have the same data, seed, number of steps and schedule. A rung is a number of steps; the better half of the
//! candidates goes on from its checkpoints to the next, twice as far. The last two are run again with other seeds. Every run is
//! a run like any other, in a folder of its own, so an interrupted tuning goes on where it stopped.
//!
//! Start at [`tune`]. This crate must not know the command line.

mod error;
mod knobs;
mod ladder;
mod options;
mod outcome;
mod page;
mod record;
mod reward;
mod short_run;
mod tuning;

pub use error::TuneError;
pub use knobs::{Candidate, Knob, Range};
pub use ladder::Ladder;
pub use options::{TuneOptions, check};
pub use outcome::{Outcome, Sureness};
pub use reward::RewardScore;
pub use short_run::Score;
pub use tuning::{RunRecord, Tuned, tune};
