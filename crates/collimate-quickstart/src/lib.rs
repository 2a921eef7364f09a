//! The built-in task: word problems of two or three steps of arithmetic, with a verifier that gives partial credit.
//!
//! ```text
//! problems   questions, their worked solutions, and solutions with a slip
//! tokenizer  a small byte-level BPE trained on them
//! verifier   a reward in [0, 1] for any response
//! base       what base models of built-in tasks have in common
//! assets     the base model in the repository, and how it is made
//! measure    held-out accuracy
//! pipeline   the task's recipe and sizes
//! task       what a built-in task is
//! phases     sample, score, align, measure, for any task
//! ```
//!
//! Start with [`pipeline::run`]. Everything is generated: nothing is downloaded and no text is stored. The crate must not
//! know the command line.
//!
//! ```
//! use collimate_quickstart::problems::{Split, distinct_problems};
//! use collimate_quickstart::verifier::score;
//!
//! let problem = distinct_problems(1, Split::Train).next().unwrap();
//! assert_eq!(score(&problem, &problem.solution), 1.0);
//! assert_eq!(score(&problem, ""), 0.0);
//! ```

pub mod assets;
pub mod base;
pub mod measure;
pub mod phases;
pub mod pipeline;
pub mod problems;
pub mod task;
pub mod tokenizer;
pub mod verifier;
