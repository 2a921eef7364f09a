//! The command line from end to end.

mod chaos;
mod cli;
mod coupled;
mod docs;
mod experts;
mod faults;
mod generation;
mod golden;
mod harness;
mod hostile;
mod hub;
mod malformed;
mod memory;
mod plan;
mod process;
mod quickstart;
mod real_data;
mod recipes;
mod reference_cache;
mod resume;
mod rewards;
mod rounds;
mod seeing;
mod signals;
mod small_model;
mod training;
