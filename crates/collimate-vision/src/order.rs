//! In which order a tower computes patches, where they are in their image, and which attend to each other.

use std::ops::Range;

use collimate_towers::Tower;

/// Patches of an image; both sides are multiples of the tower's `merge_size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatchGrid {
    /// Rows of patches.
    pub rows: usize,
    /// Patches of a row.
    pub columns: usize,
}

impl PatchGrid {
    /// Number of patches.
    pub fn num_patches(self) -> usize {
        self.rows * self.columns
    }
}

/// The order of the patches of some images, one image after the other.
///
/// They come square by square, row by row of squares. With windows they are computed window by window, so that those that attend
/// to each other are neighbors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// For each token in the order of computing, its number in the order in which squares come; empty if both are the same.
    pub tokens: Vec<u32>,
    /// Row and column of each patch in the order of computing.
    pub places: Vec<[u32; 2]>,
    /// Patches of each image.
    pub images: Vec<Range<usize>>,
    /// Patches of each window; empty without windows.
    pub windows: Vec<Range<usize>>,
}

impl Order {
    /// Of images with these patches.
    pub fn new(tower: &Tower, grids: &[PatchGrid]) -> Self {
        let merge = tower.merge_size;
        let mut order = Self { tokens: Vec::new(), places: Vec::new(), images: Vec::new(), windows: Vec::new() };
        let mut first_token = 0;
        for grid in grids {
            let start = order.places.len();
            let (rows, columns) = (grid.rows / merge, grid.columns / merge);
            for window in windows(tower, rows, columns) {
                let first = order.places.len();
                for (row, column) in window.places() {
                    order.tokens.push((first_token + row * columns + column) as u32);
                    order.push_square(row, column, merge);
                }
                if tower.windows.is_some() {
                    order.windows.push(first..order.places.len());
                }
            }
            first_token += rows * columns;
            order.images.push(start..order.places.len());
        }
        if tower.windows.is_none() {
            order.tokens.clear();
        }
        order
    }

    /// Number of patches.
    pub fn num_patches(&self) -> usize {
        self.places.len()
    }

    fn push_square(&mut self, row: usize, column: usize, merge: usize) {
        let inner = (0..merge).flat_map(|y| (0..merge).map(move |x| (y, x)));
        self.places.extend(inner.map(|(y, x)| [(row * merge + y) as u32, (column * merge + x) as u32]));
    }

    /// For each token in the order in which squares come, its number in the order of computing.
    pub(crate) fn back(&self) -> Vec<u32> {
        let mut back = vec![0; self.tokens.len()];
        for (computed, token) in self.tokens.iter().enumerate() {
            back[*token as usize] = computed as u32;
        }
        back
    }

    /// For each patch in the order of computing, its number in the order in which patches come.
    pub(crate) fn patches(&self, merged: usize) -> Vec<u32> {
        let merged = merged as u32;
        self.tokens.iter().flat_map(|token| (0..merged).map(move |inner| token * merged + inner)).collect()
    }

    /// Cosines and sines of the patches' places, [N, head_dim / 2] each: a half of the frequencies turns with the row, the other
    /// with the column.
    ///
    /// In float32, like the published code.
    pub(crate) fn rotations(&self, tower: &Tower) -> (Vec<f32>, Vec<f32>) {
        let dim = tower.head_dim() / 2;
        let base = tower.rope_theta as f32;
        let frequencies: Vec<f32> = (0..dim / 2).map(|i| 1.0 / base.powf((2 * i) as f32 / dim as f32)).collect();
        let angles = self.places.iter().flat_map(|place| place.map(|at| at as f32));
        angles
            .flat_map(|at| frequencies.iter().map(move |frequency| at * frequency))
            .map(|a| (a.cos(), a.sin()))
            .unzip()
    }
}

/// A window in merged tokens.
struct Window {
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Window {
    fn places(&self) -> impl Iterator<Item = (usize, usize)> {
        let columns = self.columns.clone();
        self.rows.clone().flat_map(move |row| columns.clone().map(move |column| (row, column)))
    }
}

/// The windows of an image of so many tokens, row by row; without windows, the image.
fn windows(tower: &Tower, rows: usize, columns: usize) -> Vec<Window> {
    let Some(windows) = &tower.windows else { return vec![Window { rows: 0..rows, columns: 0..columns }] };
    let parts = |count: usize| (0..count).step_by(windows.side).map(move |at| at..(at + windows.side).min(count));
    parts(rows).flat_map(|rows| parts(columns).map(move |columns| Window { rows: rows.clone(), columns })).collect()
}

#[cfg(test)]
mod tests {
    use collimate_towers::TowerFamily;
    use serde_json::json;

    use super::*;

    fn tower(model_type: &str) -> Tower {
        let json = json!({
            "depth": 1, "embed_dim": 8, "hidden_size": 8, "out_hidden_size": 8, "num_heads": 1, "window_size": 56
        });
        let family = TowerFamily::of(model_type).expect("a tower");
        family.read(json.as_object().expect("fields"), 8).expect("a sound configuration")
    }

    #[test]
    fn patches_come_square_by_square() {
        let order = Order::new(&tower("qwen2_vl"), &[PatchGrid { rows: 2, columns: 4 }]);
        assert_eq!(order.places, [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2], [0, 3], [1, 2], [1, 3]]);
        let whole: Vec<_> = std::iter::once(0..8).collect();
        assert_eq!((order.images, order.windows, order.tokens), (whole, vec![], vec![]));
    }

    #[test]
    fn windows_are_computed_one_after_the_other() {
        // Three rows of three tokens in windows of two by two.
        let order =
            Order::new(&tower("qwen2_5_vl"), &[PatchGrid { rows: 6, columns: 6 }, PatchGrid { rows: 2, columns: 2 }]);
        assert_eq!(order.tokens, [0, 1, 3, 4, 2, 5, 6, 7, 8, 9]);
        assert_eq!(order.windows, [0..16, 16..24, 24..32, 32..36, 36..40]);
        assert_eq!(order.images, [0..36, 36..40]);
        assert_eq!(order.back(), [0, 1, 4, 2, 3, 5, 6, 7, 8, 9]);
        assert_eq!(order.places[16], [0, 4]);
    }
}
