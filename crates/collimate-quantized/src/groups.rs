//! Scales and zeros of groups of columns, looked up once for some rows.

use std::ops::Range;

use crate::dtype::read_u32;

/// Rows whose scales and zeros are looked up together.
pub(crate) const ROWS_AT_ONCE: usize = 128;
/// Neighboring words of a line of packed codes that are copied together: a line of the cache.
pub(crate) const STREAMS: usize = 16;
/// Lines that are copied together.
pub(crate) const LINES: usize = 64;

/// Words of some lines, turned: a stream has the words at one position of every line.
pub(crate) struct Turned([[u32; LINES]; STREAMS]);

impl Turned {
    pub(crate) fn new() -> Self {
        Self([[0; LINES]; STREAMS])
    }

    /// Copies words, as many from each line as `positions` has, and at most [`STREAMS`] and [`LINES`].
    #[inline(always)]
    pub(crate) fn copy(&mut self, words: &[u8], stride: usize, lines: Range<usize>, positions: Range<usize>) {
        for (i, line) in lines.enumerate() {
            for (stream, position) in self.0.iter_mut().zip(positions.clone()) {
                stream[i] = read_u32(words, line * stride + position);
            }
        }
    }

    /// The words of the first lines at a position.
    #[inline(always)]
    pub(crate) fn stream(&self, position: usize, lines: usize) -> &[u32] {
        &self.0[position][..lines]
    }
}

/// Scales and zeros of some groups and rows.
pub(crate) struct GroupTable {
    first: usize,
    rows: usize,
    scales: Vec<f32>,
    zeros: Vec<f32>,
}

impl GroupTable {
    pub(crate) fn new(groups: Range<usize>, rows: Range<usize>, of: impl Fn(usize, usize) -> (f32, f32)) -> Self {
        let all = groups.clone().flat_map(|group| rows.clone().map(move |row| (group, row)));
        let (scales, zeros) = all.map(|(group, row)| of(group, row)).unzip();
        Self { first: groups.start, rows: rows.len(), scales, zeros }
    }

    /// The scale and the zero of a group and row.
    #[inline(always)]
    pub(crate) fn at(&self, group: usize, row: usize) -> (f32, f32) {
        let index = (group - self.first) * self.rows + row;
        (self.scales[index], self.zeros[index])
    }

    /// Scales and zeros of a group, by row.
    #[inline(always)]
    pub(crate) fn of(&self, group: usize) -> (&[f32], &[f32]) {
        let start = (group - self.first) * self.rows;
        (&self.scales[start..start + self.rows], &self.zeros[start..start + self.rows])
    }
}
