//! The groups of a run, without holding them: which rows are used, and their tokens in a file that later runs find again.
//!
//! ```text
//! files → Selection (first pass: counts, draws) → second pass → Encoder, window by window → GroupStore
//! ```
//!
//! Read [`Preparation`] first, which does all of that, or finds what an earlier run did; then [`GroupStore`], which reads groups
//! by position, and [`StoreFolder`], the folder of stores. [`Selection`] is of use without tokens, too.
//!
//! A store is a file named by a hash of everything that its tokens depend on: the content of the data files, the tokenizer
//! with its template, and the settings that choose and cut groups. It appears complete or not at all, every record has a
//! checksum, and the folder's size is bounded. Several processes may write and read the same store at once.
//!
//! The crate must not know models, tensors or objectives.

mod ahead;
mod bits;
mod contents;
mod error;
mod facts;
mod format;
mod group_images;
mod groups;
mod head;
mod images;
mod made_up;
mod memo;
mod mix;
mod numbers;
mod order;
mod pairs;
mod prepare;
mod scan;
mod sources;
mod stamp;
mod store_folder;
mod writer;

pub use error::StoreError;
pub use facts::Totals;
pub use format::ResponseHead;
pub use groups::GroupStore;
pub use head::GroupHead;
#[doc(hidden)]
pub use made_up::store_of;
pub use mix::{Duplicates, FileReport, MixOptions, Part, SelectedGroups, Selection};
pub use numbers::GroupNumbers;
pub use order::epoch_order;
pub use pairs::{Pairs, pair_bytes};
pub use prepare::{DataRequest, Encoder, Preparation, PreparedGroups, memory_of};
pub use scan::{GroupScan, HeadScan};
pub use store_folder::{MAX_CACHE_BYTES, StoreFolder};
