//! The built-in task: word problems of two or three steps of arithmetic, with a verifier that gives partial credit.
//!
//! ```text
//! problems   what is asked, its worked solution, and solutions with a slip
//! tokenizer  a small byte-level BPE trained on them
//! verifier   a reward in [0, 1] for any response
//! assets     the base model that the repository holds, and how it is made
//! measure    held-out accuracy
//! pipeline   sample, score, align, measure
//! ```
//!
//! Everything is generated: nothing is downloaded and no text is stored.

pub mod assets;
pub mod measure;
pub mod pipeline;
pub mod problems;
pub mod tokenizer;
pub mod verifier;
