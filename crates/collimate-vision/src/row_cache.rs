//! The rows of images that a tower computed before, as long as nothing of it is trained.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// Most bytes of rows that are kept.
const MAX_BYTES: usize = 64 << 20;

/// Rows by the hash of their image; the oldest go first.
pub struct RowCache<B: Backend>(Mutex<Rows<B>>);

struct Rows<B: Backend> {
    by_image: HashMap<[u8; 32], Tensor<B, 2>>,
    order: VecDeque<[u8; 32]>,
    bytes: usize,
}

impl<B: Backend> RowCache<B> {
    /// The rows of an image, if they are there.
    pub fn get(&self, image: &[u8; 32]) -> Option<Tensor<B, 2>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_image.get(image).cloned()
    }

    /// Keeps the rows of an image.
    pub fn insert(&self, image: [u8; 32], rows: Tensor<B, 2>) {
        let size = |rows: &Tensor<B, 2>| rows.dims().iter().product::<usize>() * rows.dtype().size();
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let added = size(&rows);
        if added > MAX_BYTES || held.by_image.contains_key(&image) {
            return;
        }
        held.bytes += added;
        held.by_image.insert(image, rows);
        held.order.push_back(image);
        while held.bytes > MAX_BYTES {
            let Some(oldest) = held.order.pop_front() else { break };
            if let Some(rows) = held.by_image.remove(&oldest) {
                held.bytes -= size(&rows);
            }
        }
    }
}

impl<B: Backend> Default for RowCache<B> {
    fn default() -> Self {
        Self(Mutex::new(Rows { by_image: HashMap::new(), order: VecDeque::new(), bytes: 0 }))
    }
}

impl<B: Backend> fmt::Debug for RowCache<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RowCache")
    }
}

#[cfg(test)]
mod tests {
    use burn_flex::Flex;

    use super::*;

    #[test]
    fn the_oldest_rows_go_when_there_are_too_many() {
        let cache = RowCache::<Flex>::default();
        let rows = || Tensor::zeros([MAX_BYTES / 4 / 8, 4], &Default::default());
        for image in 0..3 {
            cache.insert([image; 32], rows());
        }
        assert!(cache.get(&[0; 32]).is_none() && cache.get(&[1; 32]).is_some() && cache.get(&[2; 32]).is_some());
        cache.insert([9; 32], Tensor::zeros([MAX_BYTES / 4 + 1, 1], &Default::default()));
        assert!(cache.get(&[9; 32]).is_none(), "more than fits is not kept");
    }
}
