//! AWQ: integers of four bits along rows, with a scale and a zero for each group of columns and row.

use std::ops::Range;

use bytes::Bytes;

use crate::dtype::{FloatDtype, read_u32};
use crate::groups::{GroupTable, LINES, ROWS_AT_ONCE, STREAMS, Turned};
use crate::unpack::{Expand, Kernel, Tile};

/// Rows in a word.
const PER_WORD: usize = 8;
/// Where in a word each of its eight rows is: files hold rows 0, 2, 4, 6, 1, 3, 5 and 7 from the lowest bits on.
const PLACES: [u32; PER_WORD] = [0, 4, 1, 5, 2, 6, 3, 7];

/// Codes of four bits: a number is `(code − zero) · scale`. Files hold [columns, rows], eight rows in a word.
#[derive(Clone, Debug)]
pub struct Awq {
    /// Columns of a group.
    pub(crate) group: usize,
    /// Little-endian words [columns, rows / 8].
    pub(crate) codes: Bytes,
    /// Little-endian words [groups, rows / 8].
    pub(crate) zeros: Bytes,
    /// [groups, rows].
    pub(crate) scales: Bytes,
    pub(crate) scale_dtype: FloatDtype,
}

impl Awq {
    /// Unpacks some columns of some rows: words are turned, so that a row's codes stand side by side.
    #[inline(always)]
    fn unpack(&self, table: &GroupTable, columns: &Range<usize>, rows: Range<usize>, stride: usize, out: &mut [f32]) {
        let mut turned = Turned::new();
        let words = rows.start / PER_WORD..rows.end.div_ceil(PER_WORD);
        for first in words.clone().step_by(STREAMS) {
            let positions = first..words.end.min(first + STREAMS);
            let mut start = columns.start;
            while start < columns.end {
                // To the end of the group, or less.
                let group = start / self.group;
                let end = columns.end.min(start + LINES).min((group + 1) * self.group);
                turned.copy(&self.codes, stride / PER_WORD, start..end, positions.clone());
                let these = rows.start.max(positions.start * PER_WORD)..rows.end.min(positions.end * PER_WORD);
                for row in these {
                    let (scale, zero) = table.at(group, row - rows.start);
                    let shift = 4 * PLACES[row % PER_WORD];
                    let out = &mut out[(row - rows.start) * columns.len() + start - columns.start..][..end - start];
                    let words = turned.stream(row / PER_WORD - first, end - start);
                    for (number, &word) in out.iter_mut().zip(words) {
                        *number = (((word >> shift) & 15) as f32 - zero) * scale;
                    }
                }
                start = end;
            }
        }
    }
}

/// The code of a row in one of the rows of words.
#[inline(always)]
fn code(words: &[u8], line: usize, row: usize, rows: usize) -> f32 {
    let word = read_u32(words, line * (rows / PER_WORD) + row / PER_WORD);
    ((word >> (4 * PLACES[row % PER_WORD])) & 15) as f32
}

/// Unpacks rows of a tile.
pub(crate) struct UnpackAwq<'a> {
    pub(crate) packed: &'a Awq,
    pub(crate) rows: usize,
    pub(crate) tile: Tile<'a>,
}

impl Kernel for UnpackAwq<'_> {
    #[inline(always)]
    fn run(self, _: impl Expand) {
        let Self { packed, rows, tile } = self;
        let width = tile.columns.len();
        let groups = tile.columns.start / packed.group..tile.columns.end.div_ceil(packed.group);
        let mut row = tile.rows.start;
        for out in tile.out.chunks_mut(ROWS_AT_ONCE * width) {
            let some = row..row + out.len() / width;
            let table = GroupTable::new(groups.clone(), some.clone(), |group, row| {
                (packed.scale_dtype.read(&packed.scales, group * rows + row), code(&packed.zeros, group, row, rows))
            });
            packed.unpack(&table, &tile.columns, some.clone(), rows, out);
            row = some.end;
        }
    }
}
