//! Which rank updates which of the trained numbers.
//!
//! Numbers are exchanged in buckets of whole parameters. Within a bucket, ranks own consecutive tiles; a tile belongs to one
//! parameter, so the sum of its squares does not depend on how many ranks there are.

use std::ops::Range;

/// Numbers of a tile. The last tile of a parameter may have fewer.
const TILE: usize = 65_536;
/// Numbers of a bucket, from which on the next parameter begins another one.
const BUCKET: usize = 1 << 24;

/// A trained parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trained {
    /// Its index in the model.
    pub(crate) parameter: usize,
    /// How many numbers it has.
    pub(crate) len: usize,
}

/// Consecutive parameters whose numbers are exchanged together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bucket {
    parts: Vec<Part>,
    /// Of the bucket's numbers, by rank.
    ranges: Vec<Range<usize>>,
}

/// A parameter in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its index in the model.
    pub(crate) parameter: usize,
    /// Its place among the bucket's numbers.
    pub(crate) numbers: Range<usize>,
}

/// What a rank owns of a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The parameter's index in the model.
    pub(crate) parameter: usize,
    /// Its place among the parameter's numbers.
    pub(crate) of_parameter: Range<usize>,
    /// Its place among the rank's numbers of the bucket.
    pub(crate) of_shard: Range<usize>,
}

/// Divides parameters into buckets, and each bucket among ranks.
pub(crate) fn buckets(trained: &[Trained], ranks: usize) -> Vec<Bucket> {
    let mut all: Vec<Vec<Part>> = Vec::new();
    for &Trained { parameter, len } in trained {
        let part = |start: usize| Part { parameter, numbers: start..start + len };
        match all.last_mut() {
            Some(parts) if end(parts) < BUCKET => parts.push(part(end(parts))),
            _ => all.push(vec![part(0)]),
        }
    }
    all.into_iter().map(|parts| Bucket { ranges: divide(&parts, ranks), parts }).collect()
}

fn end(parts: &[Part]) -> usize {
    parts.last().map_or(0, |part| part.numbers.end)
}

/// Rank r owns the tiles that start in the r-th of equal parts of the numbers.
fn divide(parts: &[Part], ranks: usize) -> Vec<Range<usize>> {
    let total = end(parts);
    let starts = || parts.iter().flat_map(|part| part.numbers.clone().step_by(TILE));
    let first = |rank: usize| match rank {
        0 => 0,
        _ => starts().find(|start| *start as u128 * ranks as u128 >= rank as u128 * total as u128).unwrap_or(total),
    };
    let bounds: Vec<usize> = (0..ranks).map(first).chain([total]).collect();
    bounds.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

impl Bucket {
    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// What each rank owns of the bucket's numbers.
    pub(crate) fn ranges(&self) -> &[Range<usize>] {
        &self.ranges
    }

    /// How many numbers it has.
    pub(crate) fn len(&self) -> usize {
        end(&self.parts)
    }

    /// What a rank owns, by parameter.
    pub(crate) fn segments(&self, rank: usize) -> impl Iterator<Item = Segment> + '_ {
        let owned = self.ranges[rank].clone();
        self.parts.iter().filter_map(move |part| {
            let (start, end) = (part.numbers.start.max(owned.start), part.numbers.end.min(owned.end));
            (start < end).then(|| Segment {
                parameter: part.parameter,
                of_parameter: start - part.numbers.start..end - part.numbers.start,
                of_shard: start - owned.start..end - owned.start,
            })
        })
    }

    /// The tiles of a rank's numbers.
    pub(crate) fn tiles(&self, rank: usize) -> impl Iterator<Item = Range<usize>> + '_ {
        self.segments(rank).flat_map(|segment| {
            let Range { start, end } = segment.of_shard;
            (start..end).step_by(TILE).map(move |tile| tile..(tile + TILE).min(end))
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn trained(lens: &[usize]) -> Vec<Trained> {
        lens.iter().enumerate().map(|(parameter, &len)| Trained { parameter, len }).collect()
    }

    #[test]
    fn a_parameter_that_fills_a_bucket_ends_it() {
        let of = |lens: &[usize]| {
            let all = buckets(&trained(lens), 2);
            all.iter().map(|bucket| bucket.parts().len()).collect::<Vec<_>>()
        };
        assert_eq!(of(&[1, 2, 3]), [3]);
        assert_eq!(of(&[1, BUCKET, 3]), [2, 1]);
        assert_eq!(of(&[2 * BUCKET, 1, 1]), [1, 2]);
        assert!(of(&[]).is_empty());
    }

    #[rstest]
    fn every_number_has_one_owner_and_tiles_stay_whole(
        #[values(1, 2, 3, 4, 7)] ranks: usize,
        #[values(&[10][..], &[TILE, 3, 5 * TILE + 1, TILE - 1], &[1, 1, 1, 9 * TILE])] lens: &[usize],
    ) {
        let all = buckets(&trained(lens), ranks);
        let mut tiles = Vec::new();
        for bucket in &all {
            let mut next = 0;
            for (rank, range) in bucket.ranges().iter().enumerate() {
                assert_eq!(range.start, next);
                next = range.end;
                for segment in bucket.segments(rank) {
                    assert_eq!(segment.of_parameter.start % TILE, 0);
                    let whole = segment.of_parameter.end == lens[segment.parameter];
                    assert!(whole || segment.of_parameter.end % TILE == 0, "{segment:?}");
                }
                tiles.extend(bucket.tiles(rank).map(|tile| tile.len()));
            }
            assert_eq!(next, bucket.len());
        }
        // The same tiles in the same order, whatever the number of ranks.
        let alone = buckets(&trained(lens), 1);
        assert_eq!(tiles, alone.iter().flat_map(|bucket| bucket.tiles(0)).map(|tile| tile.len()).collect::<Vec<_>>());
    }

    #[test]
    fn shards_are_of_one_size_but_for_a_tile() {
        let all = buckets(&trained(&[40 * TILE + 7, 3, 60 * TILE]), 4);
        let sizes: Vec<usize> = all[0].ranges().iter().map(Range::len).collect();
        let mean = all[0].len() / 4;
        assert!(sizes.iter().all(|size| size.abs_diff(mean) <= TILE), "{sizes:?}");
    }
}
