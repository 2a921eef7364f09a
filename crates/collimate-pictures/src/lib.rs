//! The built-in task of pictures: a small generator learns to draw what it is asked for, without guidance.
//!
//! ```text
//! shapes      black-and-white pictures of ten classes
//! codebook    pictures as 8 × 8 tokens, and back
//! classifier  which class a picture shows, and how cleanly
//! assets      the generator in the repository, and how it is made
//! pipeline    draw, align, draw again
//! ```
//!
//! Everything is generated: nothing is downloaded. The crate must not know the command line.
//!
//! ```
//! use collimate_pictures::{classifier::Classifier, shapes::Shape};
//!
//! let shape = Shape { class: 3, x: 1, y: -2, radius: 9 };
//! let seen = Classifier::new().classify(&shape.draw());
//! assert_eq!((seen.class, seen.distance), (3, 0));
//! ```

pub mod assets;
pub mod classifier;
pub mod codebook;
pub mod pipeline;
pub mod shapes;
