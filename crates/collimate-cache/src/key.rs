//! Keys of cached log-probs: everything that a log-prob depends on, and nothing else.

use blake3::{Hash, Hasher};

/// Version of the store's files and keys.
const FORMAT_VERSION: u32 = 1;

/// Version of the arithmetic.
///
/// Increment it with every change that alters log-probs by more than rounding, so that older ones are not reused.
pub const KERNEL_VERSION: u32 = 3;

/// Identifies how a log-prob was computed. Scorers that differ in any field share no log-probs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scorer<'a> {
    /// Hash of the model's weights and configuration.
    pub model: Hash,
    /// Hash of the adapter's matrices and settings.
    pub adapter: Option<Hash>,
    /// Name of the dtype it computes in.
    pub dtype: &'a str,
    /// Name of the precision of float32 products, as they are on this machine.
    pub matmul_precision: &'a str,
    /// Format that weights are packed into as they are read; what is packed in the files is part of `model`.
    pub quantization: Option<&'a str>,
    /// Backend's name.
    pub backend: &'a str,
    /// Whether a prompt is computed once for all its responses.
    pub share_prompt: bool,
    /// [`KERNEL_VERSION`].
    pub kernel_version: u32,
}

impl Scorer<'_> {
    /// A hash of all fields.
    pub fn id(&self) -> Hash {
        let mut hasher = Hasher::new_derive_key("collimate reference log-probs: scorer");
        hasher.update(&FORMAT_VERSION.to_le_bytes()).update(&self.kernel_version.to_le_bytes());
        hasher.update(self.model.as_bytes());
        // Flags precede optional parts and lengths precede text, so that no two scorers hash the same bytes.
        hasher.update(&[u8::from(self.adapter.is_some()), u8::from(self.share_prompt)]);
        hasher.update(self.adapter.as_ref().map_or(&[], |adapter| adapter.as_bytes().as_slice()));
        for text in [self.dtype, self.backend].into_iter().chain(self.quantization) {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        }
        // What is as exact as can be has the names that it had before there was a choice.
        if self.matmul_precision != "highest" {
            hasher.update(b"float32_matmul_precision").update(self.matmul_precision.as_bytes());
        }
        hasher.finalize()
    }
}

/// Key of a response to a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ResponseKey(pub(crate) [u8; 16]);

impl From<[u8; 16]> for ResponseKey {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

/// Keys of the responses, \[K\], to one prompt.
pub fn response_keys<'a>(
    scorer: &Hash,
    prompt_ids: &[u32],
    responses: impl Iterator<Item = &'a [u32]>,
) -> Vec<ResponseKey> {
    let mut prompt = Hasher::new_keyed(scorer.as_bytes());
    update(&mut prompt, prompt_ids);
    let key = |response_ids: &[u32]| {
        let mut hasher = prompt.clone();
        update(&mut hasher, response_ids);
        let mut key = [0; 16];
        hasher.finalize_xof().fill(&mut key);
        ResponseKey(key)
    };
    responses.map(key).collect()
}

/// Hashes the number of ids before the ids, so that the prompt's length is part of the key.
fn update(hasher: &mut Hasher, ids: &[u32]) {
    hasher.update(&(ids.len() as u64).to_le_bytes());
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    hasher.update(&bytes);
}
