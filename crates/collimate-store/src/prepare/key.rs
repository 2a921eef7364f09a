//! What a store is found by: everything that its tokens depend on.

use blake3::Hash;

use super::DataRequest;
use crate::mix::Part;

/// Version of how rows become tokens.
///
/// Increment it with every change of reading, filtering, drawing or tokenizing that alters what comes out, so that stores of
/// earlier versions are not used.
const TOKENS_VERSION: u32 = 2;

/// The key of one part of the requested data. `contents` are the hashes of the files that are read; where they are does not
/// matter, so that data that was moved is not tokenized again; unless rows may name images, whose paths are kept (`with_places`).
pub(super) fn key(request: &DataRequest<'_>, contents: &[Hash], encoder: Hash, part: Part, with_places: bool) -> Hash {
    let mut hasher = blake3::Hasher::new_derive_key("collimate tokens of a run's data");
    hasher.update(&TOKENS_VERSION.to_le_bytes());
    let version = env!("CARGO_PKG_VERSION");
    let mut add = |text: &str| {
        // Lengths precede texts, so that no two requests hash the same bytes.
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    };
    add(version);
    let used = request.parts.iter().filter(|part| part.weight > 0.0);
    for (part, hash) in used.zip(contents) {
        if with_places {
            add(&std::path::absolute(&part.path).unwrap_or_else(|_| part.path.clone()).to_string_lossy());
        }
        // A draw of some of a file's groups depends on its own name, as in [`crate::Selection`].
        let name = part.path.file_name().filter(|_| part.weight < 1.0).unwrap_or_default();
        add(&name.to_string_lossy());
        add(&part.weight.to_bits().to_string());
        add(hash.to_hex().as_str());
    }
    let mut mix = request.mix.clone();
    if !mix.load.skip_unusable {
        // A limit then refuses data, which is checked when a store is found, and leaves nothing out.
        mix.load.most_responses = None;
    }
    add(&format!("{mix:?}"));
    add(&request.hold_out.to_bits().to_string());
    add(&format!("{part:?}"));
    add(encoder.to_hex().as_str());
    hasher.finalize()
}
