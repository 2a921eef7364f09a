//! How a pack's segments are divided between cubes.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::client::ComputeClient;
use burn_cubecl::cubecl::features::MmaConfig;
use burn_cubecl::tensor::CubeTensor;
use collimate_kernels::{AttentionShape, Segment};

use super::super::buffers::upload;

/// Numbers of shared memory of a cube's larger tiles; a device with less gets the smaller ones, which all have.
const LARGE: u32 = 64;
const SMALL: u32 = 32;

/// Sizes of an attention kernel, known when it is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Sizes {
    /// Query heads.
    pub(super) heads: u32,
    /// Query heads of one head of keys.
    pub(super) group: u32,
    /// Numbers of a head.
    pub(super) dim: u32,
    /// Rows of a tile of queries, and of a tile of keys.
    pub(super) side: u32,
    /// Heads of a tile of queries.
    pub(super) heads_of_tile: u32,
    /// Whether scores are squashed.
    pub(super) capped: bool,
    /// Whether queries see the last places of their sequence only.
    pub(super) windowed: bool,
    /// Whether the device's units multiply matrices of 16 by 16.
    pub(super) matrix: bool,
}

impl Sizes {
    pub(super) fn new(shape: &AttentionShape, side: u32) -> Self {
        let group = (shape.heads / shape.kv_heads) as u32;
        Self {
            heads: shape.heads as u32,
            group,
            dim: shape.head_dim as u32,
            side,
            heads_of_tile: group.min(side),
            capped: shape.softcap.is_some(),
            windowed: shape.window.is_some(),
            matrix: false,
        }
    }

    /// Numbers of a head with room, a multiple of 16.
    pub(super) fn padded_dim(self) -> u32 {
        self.dim.next_multiple_of(16)
    }

    /// Rows of a pack in a tile of queries.
    pub(super) fn queries(self) -> u32 {
        self.side / self.heads_of_tile
    }

    /// Tiles that the heads of one head of keys take.
    pub(super) fn parts(self) -> u32 {
        self.group.div_ceil(self.heads_of_tile)
    }

    pub(super) fn kv_heads(self) -> u32 {
        self.heads / self.group
    }

    /// Numbers of the memory that rows go through: 16 numbers of each row of two tiles.
    pub(super) fn stage(self) -> u32 {
        2 * 16 * (self.side + 1)
    }

    /// Rows of whole heads that fit there, at most 16.
    pub(super) fn staged_rows(self) -> u32 {
        let fitting = (self.stage() / self.padded_dim()).clamp(1, 16);
        // The largest power of two among them.
        1 << fitting.ilog2()
    }
}

/// The side of tiles that fit the device's shared memory.
fn side<R: CubeRuntime>(client: &ComputeClient<R>) -> u32 {
    let available = client.properties().hardware.max_shared_memory_size;
    let needed = |side: u32| 4 * (2 * 16 * (side + 1) + side * (side + 1)) as usize;
    if needed(LARGE) <= available { LARGE } else { SMALL }
}

/// How a cube multiplies the numbers of its tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in super::super) enum Products {
    /// In float32, from numbers in the units' own registers.
    OfNumbers,
    /// In the tensors' type, sixteen by sixteen, by units for matrices where `units` says that there are some.
    OfSquares {
        /// Otherwise number by number, for tests.
        units: bool,
    },
}

/// A pack's segments as cubes take them.
#[derive(Debug)]
pub struct Blocks<R: CubeRuntime> {
    pub(super) side: u32,
    pub(super) num_queries: u32,
    /// Tiles of queries, [num_queries, 5]: where the context begins and how long it is, the segment's first row, the tile's
    /// first row, and how many it has.
    pub(super) queries: CubeTensor<R>,
    pub(super) num_keys: u32,
    /// Tiles of keys, [num_keys, 4]: the first row, how many there are, and which of [`Blocks::seen_by`] see them, from and
    /// to.
    pub(super) keys: CubeTensor<R>,
    /// Rows that see some of a tile's keys, [.., 6]: the first key that they see and the one after the last, that key's
    /// place in the sequence, the first row and how many there are, and the first's place in the sequence.
    pub(super) seen_by: CubeTensor<R>,
}

impl<R: CubeRuntime> Blocks<R> {
    /// Whether the device has units that multiply squares of this type, and memory for their tiles.
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

    pub(in super::super) fn of(segments: &[Segment], shape: &AttentionShape, device: &R::Device) -> Self {
        Self::of_side(segments, shape, side(&R::client(device)), device)
    }

    /// With tiles of so many rows.
    pub(in super::super) fn of_side(
        segments: &[Segment],
        shape: &AttentionShape,
        side: u32,
        device: &R::Device,
    ) -> Self {
        let client = R::client(device);
        let sizes = Sizes::new(shape, side);
        let queries = query_blocks(segments, sizes.queries());
        let (keys, seen_by) = key_blocks(segments, side);
        let upload = |values: &[u32]| upload(&client, device, values);
        Self {
            side,
            num_queries: queries.len() as u32,
            queries: upload(queries.as_flattened()),
            num_keys: keys.len() as u32,
            keys: upload(keys.as_flattened()),
            seen_by: upload(seen_by.as_flattened()),
        }
    }
}

fn blocks_of(segment: &Segment, rows: u32) -> impl Iterator<Item = (u32, u32)> {
    let (start, end) = (segment.rows.start as u32, segment.rows.end as u32);
    (start..end).step_by(rows as usize).map(move |first| (first, rows.min(end - first)))
}

/// Tiles of queries, those with the most keys first: what is started last should be short.
fn query_blocks(segments: &[Segment], rows: u32) -> Vec<[u32; 5]> {
    let blocks = segments.iter().flat_map(|segment| {
        blocks_of(segment, rows).map(|(first, count)| {
            let context = [segment.context.start as u32, segment.context.len() as u32];
            [context[0], context[1], segment.rows.start as u32, first, count]
        })
    });
    let mut blocks: Vec<_> = blocks.collect();
    blocks.sort_by_key(|&[_, length, start, first, count]| std::cmp::Reverse(length + first - start + count));
    blocks
}

/// Tiles of keys, those that the most rows see first, and who sees them.
fn key_blocks(segments: &[Segment], rows: u32) -> (Vec<[u32; 4]>, Vec<[u32; 6]>) {
    let mut blocks = Vec::new();
    for segment in segments {
        for (first, count) in blocks_of(segment, rows) {
            let seen_by: Vec<_> = segments.iter().filter_map(|other| sees(other, first, first + count)).collect();
            let total: u32 = seen_by.iter().map(|entry| entry[4]).sum();
            blocks.push((total, first, count, seen_by));
        }
    }
    blocks.sort_by_key(|block| std::cmp::Reverse(block.0));
    let mut entries = Vec::new();
    let keys = blocks.into_iter().map(|(_, first, count, seen_by)| {
        let from = entries.len() as u32;
        entries.extend(seen_by);
        [first, count, from, entries.len() as u32]
    });
    (keys.collect(), entries)
}

/// How a segment's rows see the keys `first..end`, which are of one segment: as context, or as its own.
fn sees(segment: &Segment, first: u32, end: u32) -> Option<[u32; 6]> {
    let [start, stop] = [segment.context.start, segment.context.end].map(|row| row as u32);
    let own = [segment.rows.start, segment.rows.end].map(|row| row as u32);
    let length = stop - start;
    if own[0] <= first && end <= own[1] {
        return Some([first, end, length + first - own[0], first, own[1] - first, length + first - own[0]]);
    }
    let (from, to) = (first.max(start), end.min(stop));
    (from < to && own[0] < own[1]).then(|| [from, to, from - start, own[0], own[1] - own[0], length])
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
        let (keys, entries) = key_blocks(&segments, 32);
        let mut pairs = std::collections::HashMap::new();
        for [first, count, from, to] in keys {
            for &[low, high, key_place, row, rows, place] in &entries[from as usize..to as usize] {
                assert!(first <= low && high <= first + count);
                for query in 0..rows {
                    for key in low..high {
                        if key_place + key - low <= place + query {
                            *pairs.entry((row + query, key)).or_insert(0) += 1;
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
        assert_eq!(blocks[0], [0, 70, 70, 70, 5]);
        assert_eq!(blocks.iter().map(|block| block[4]).sum::<u32>(), 90);
        assert_eq!(blocks.last(), Some(&[0, 0, 80, 80, 10]));
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
