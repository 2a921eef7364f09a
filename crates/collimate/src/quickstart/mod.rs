//! The built-in task: word problems of two or three steps of arithmetic, with a verifier that gives partial credit.
//!
//! ```text
//! problems   what is asked, its worked solution, and solutions with a slip
//! tokenizer  a small byte-level BPE trained on them
//! verifier   a reward in [0, 1] for any response
//! ```
//!
//! Everything is generated: nothing is downloaded and no text is stored.

pub mod problems;
pub mod tokenizer;
pub mod verifier;
