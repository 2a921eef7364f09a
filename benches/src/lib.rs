//! Benchmarks of whole training steps, ours beside PyTorch's; `cargo xtask bench` runs them.
//!
//! A *work* is some training, made of one or several *entrants*: programs that do it, each in a process of its own, which
//! take their steps in turns and are measured from outside. Benchmarks of single kernels live in `benches/`.

pub mod assets;
pub mod contest;
pub mod docs;
pub mod entrant;
pub mod figures;
pub mod machine;
pub mod result;
pub mod rows;
pub mod tokenizer;
pub mod work;
