//! Divides a pack's segments between cubes.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::client::ComputeClient;
use burn_cubecl::cubecl::features::MmaConfig;
use burn_cubecl::tensor::CubeTensor;
use collimate_kernels::{AttentionShape, Segment};

use super::super::buffers::upload;
use super::sizes::Sizes;
use super::tables::{KeyBlock, QueryBlock, Viewer, key_columns, query_columns, viewer_columns};

/// Side of the tiles, if the device has enough shared memory.
const LARGE: u32 = 64;
/// Side of tiles that fit the shared memory of every device.
const SMALL: u32 = 32;

/// The side of tiles that fit the device's shared memory.
fn side<R: CubeRuntime>(client: &ComputeClient<R>) -> u32 {
    let available = client.properties().hardware.max_shared_memory_size;
    let needed = |side: u32| 4 * (2 * 16 * (side + 1) + side * (side + 1)) as usize;
    if needed(LARGE) <= available { LARGE } else { SMALL }
}

/// How a cube multiplies tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in super::super) enum Products {
    /// In float32, from the units' registers.
    Scalar,
    /// In the tensors' dtype, sixteen by sixteen.
    Matrix {
        /// On the device's matrix units; otherwise element by element, so that tests run on any device.
        on_units: bool,
    },
}

/// A pack's segments in tiles, uploaded to the device.
#[derive(Debug)]
pub struct Blocks<R: CubeRuntime> {
    pub(super) side: u32,
    pub(super) num_queries: u32,
    /// Tiles of queries: a table of [`QueryBlock`]s.
    pub(super) queries: CubeTensor<R>,
    pub(super) num_keys: u32,
    /// Tiles of keys: a table of [`KeyBlock`]s.
    pub(super) keys: CubeTensor<R>,
    /// The rows that attend to the tiles of keys: a table of [`Viewer`]s.
    pub(super) viewers: CubeTensor<R>,
}

impl<R: CubeRuntime> Blocks<R> {
    /// Whether the device has matrix units for this dtype, and enough shared memory for their tiles.
    pub(in super::super) fn has_units(&self, shape: &AttentionShape, dtype: DType) -> bool {
        let properties = self.queries.client.properties();
        let bytes = Sizes::new(shape, self.side).matrix_bytes(dtype.size());
        let squares =
            MmaConfig { a_type: dtype.into(), b_type: dtype.into(), cd_type: DType::F32.into(), m: 16, n: 16, k: 16 };
        let hardware = &properties.hardware;
        dtype.size() == 2
            && hardware.plane_size_min == 32
            && hardware.plane_size_max == 32
            && bytes <= hardware.max_shared_memory_size
            && properties.features.matmul.cmma.contains(&squares)
    }

    /// Uses the largest tiles that fit the device.
    pub(in super::super) fn new(segments: &[Segment], shape: &AttentionShape, device: &R::Device) -> Self {
        Self::with_side(segments, shape, side(&R::client(device)), device)
    }

    /// Uses tiles of `side` rows.
    pub(in super::super) fn with_side(
        segments: &[Segment],
        shape: &AttentionShape,
        side: u32,
        device: &R::Device,
    ) -> Self {
        let client = R::client(device);
        let sizes = Sizes::new(shape, side);
        let queries: Vec<_> = query_blocks(segments, sizes.queries()).into_iter().map(query_columns).collect();
        let (keys, viewers) = key_blocks(segments, side);
        let keys: Vec<_> = keys.into_iter().map(key_columns).collect();
        let viewers: Vec<_> = viewers.into_iter().map(viewer_columns).collect();
        let upload = |values: &[u32]| upload(&client, device, values);
        Self {
            side,
            num_queries: queries.len() as u32,
            queries: upload(queries.as_flattened()),
            num_keys: keys.len() as u32,
            keys: upload(keys.as_flattened()),
            viewers: upload(viewers.as_flattened()),
        }
    }
}

/// Divides a segment's own rows into tiles: the first row and the number of rows of each.
fn tiles(segment: &Segment, rows: u32) -> impl Iterator<Item = (u32, u32)> {
    let (start, end) = (segment.rows.start as u32, segment.rows.end as u32);
    (start..end).step_by(rows as usize).map(move |first| (first, rows.min(end - first)))
}

/// Tiles of queries, those with the most keys first, so that the cubes that start last are short.
fn query_blocks(segments: &[Segment], rows: u32) -> Vec<QueryBlock> {
    let blocks = segments.iter().flat_map(|segment| {
        let [context, context_len] = [segment.context.start, segment.context.len()].map(|n| n as u32);
        let start = segment.rows.start as u32;
        tiles(segment, rows).map(move |(row, rows)| QueryBlock { context, context_len, segment: start, row, rows })
    });
    let mut blocks: Vec<_> = blocks.collect();
    blocks.sort_by_key(|block| std::cmp::Reverse(block.context_len + block.row - block.segment + block.rows));
    blocks
}

/// Tiles of keys, those with the most viewers first, and their viewers.
fn key_blocks(segments: &[Segment], rows: u32) -> (Vec<KeyBlock>, Vec<Viewer>) {
    let mut blocks = Vec::new();
    for segment in segments {
        for (row, rows) in tiles(segment, rows) {
            let viewers: Vec<_> = segments.iter().filter_map(|other| viewer_of(other, row, row + rows)).collect();
            let total: u32 = viewers.iter().map(|viewer| viewer.rows).sum();
            blocks.push((total, row, rows, viewers));
        }
    }
    blocks.sort_by_key(|block| std::cmp::Reverse(block.0));
    let mut all = Vec::new();
    let keys = blocks.into_iter().map(|(_, row, rows, viewers)| {
        let viewers_start = all.len() as u32;
        all.extend(viewers);
        KeyBlock { row, rows, viewers_start, viewers_end: all.len() as u32 }
    });
    (keys.collect(), all)
}

/// How a segment's rows attend to the keys `first..end` of one segment, as their context or as their own rows.
fn viewer_of(segment: &Segment, first: u32, end: u32) -> Option<Viewer> {
    let [start, stop] = [segment.context.start, segment.context.end].map(|row| row as u32);
    let own = [segment.rows.start, segment.rows.end].map(|row| row as u32);
    let length = stop - start;
    if own[0] <= first && end <= own[1] {
        let position = length + first - own[0];
        return Some(Viewer {
            low: first,
            high: end,
            key_position: position,
            row: first,
            rows: own[1] - first,
            position,
        });
    }
    let (low, high) = (first.max(start), end.min(stop));
    (low < high && own[0] < own[1]).then(|| Viewer {
        low,
        high,
        key_position: low - start,
        row: own[0],
        rows: own[1] - own[0],
        position: length,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments() -> Vec<Segment> {
        let segment = |context, rows| Segment { context, rows };
        vec![segment(0..0, 0..70), segment(0..70, 70..75), segment(0..70, 75..80), segment(0..0, 80..90)]
    }

    #[test]
    fn every_pair_of_a_query_and_a_key_is_in_one_entry() {
        let segments = segments();
        let (keys, viewers) = key_blocks(&segments, 32);
        let mut pairs = std::collections::HashMap::new();
        for block in keys {
            for viewer in &viewers[block.viewers_start as usize..block.viewers_end as usize] {
                assert!(block.row <= viewer.low && viewer.high <= block.row + block.rows);
                for query in 0..viewer.rows {
                    for key in viewer.low..viewer.high {
                        if viewer.key_position + key - viewer.low <= viewer.position + query {
                            *pairs.entry((viewer.row + query, key)).or_insert(0) += 1;
                        }
                    }
                }
            }
        }
        let mut expected = std::collections::HashMap::new();
        for segment in &segments {
            for query in segment.rows.clone() {
                for key in segment.context.clone().chain(segment.rows.start..query + 1) {
                    expected.insert((query as u32, key as u32), 1);
                }
            }
        }
        assert_eq!(pairs, expected);
    }

    #[test]
    fn the_longest_work_comes_first() {
        let blocks = query_blocks(&segments(), 32);
        assert_eq!(blocks[0], QueryBlock { context: 0, context_len: 70, segment: 70, row: 70, rows: 5 });
        assert_eq!(blocks.iter().map(|block| block.rows).sum::<u32>(), 90);
        let last = QueryBlock { context: 0, context_len: 0, segment: 80, row: 80, rows: 10 };
        assert_eq!(blocks.last(), Some(&last));
    }

    #[test]
    fn rows_of_whole_heads_fit_the_stage() {
        let shape =
            |head_dim| AttentionShape { heads: 4, kv_heads: 2, head_dim, scale: 1.0, window: None, softcap: None };
        let staged = |head_dim, side| Sizes::new(&shape(head_dim), side).staged_rows();
        assert_eq!([64, 96, 128, 256].map(|dim| staged(dim, LARGE)), [16, 16, 16, 8]);
        assert_eq!([64, 96, 128, 256].map(|dim| staged(dim, SMALL)), [16, 8, 8, 4]);
    }
}
