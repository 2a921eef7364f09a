//! The built-in task of images: how many shapes of a kind and color a picture has.
//!
//! ```text
//! scene     pictures with a few shapes
//! question  what is asked about one, and the verifier
//! assets    the small Qwen2-VL in the repository, and how it is made
//! pipeline  the task for `collimate train --quickstart images`
//! ```
//!
//! Everything is generated: nothing is downloaded. The crate must not know the command line.
//!
//! ```
//! use collimate_counting::question::{Split, counting_question};
//!
//! let question = counting_question(1, 0, Split::Train);
//! assert_eq!(question.score(&question.solution()), 1.0);
//! ```

pub mod assets;
mod files;
pub mod pipeline;
pub mod question;
pub mod scene;
