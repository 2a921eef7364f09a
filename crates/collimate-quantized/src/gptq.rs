//! GPTQ: integers of 2, 3, 4 or 8 bits along columns, with a scale and a zero for each group of columns and row.

use std::ops::Range;

use bytes::Bytes;

use crate::dtype::{FloatDtype, read_u32};
use crate::groups::{GroupTable, LINES, ROWS_AT_ONCE, STREAMS, Turned};
use crate::unpack::{Expand, Kernel, Tile};

/// How zeros are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ZeroPoints {
    /// Less one, as AutoGPTQ does.
    LessOne,
    /// As they are (`gptq_v2`).
    Plain,
}

/// Codes of a few bits: a number is `(code − zero) · scale`. Files hold [columns, rows], so a row's codes are far apart.
#[derive(Clone, Debug)]
pub struct Gptq {
    /// Bits of a code.
    pub(crate) bits: u32,
    /// Columns of a group.
    pub(crate) group: usize,
    /// Little-endian words [columns · bits / 32, rows], bits along columns from the lowest on.
    pub(crate) codes: Bytes,
    /// Little-endian words [groups, rows · bits / 32].
    pub(crate) zeros: Bytes,
    pub(crate) zero_points: ZeroPoints,
    /// [groups, rows].
    pub(crate) scales: Bytes,
    pub(crate) scale_dtype: FloatDtype,
    /// The group of each column as a little-endian word, where columns were sorted by their activations.
    pub(crate) groups: Option<Bytes>,
}

impl Gptq {
    #[inline(always)]
    fn group_of(&self, column: usize) -> usize {
        match &self.groups {
            Some(groups) => read_u32(groups, column) as usize,
            None => column / self.group,
        }
    }

    /// The first and last group of some columns.
    fn groups_of(&self, mut columns: Range<usize>) -> Range<usize> {
        let first = self.group_of(columns.start);
        columns.next();
        columns.fold(first..first + 1, |range, column| {
            let group = self.group_of(column);
            range.start.min(group)..range.end.max(group + 1)
        })
    }

    /// The code at a position of a stream of bits whose words are `stride` words apart.
    #[inline(always)]
    fn code(&self, words: &[u8], first: usize, stride: usize, index: usize) -> u32 {
        let bit = index as u64 * u64::from(self.bits);
        let (word, shift) = ((bit / 32) as usize, (bit % 32) as u32);
        let low = read_u32(words, first + word * stride) >> shift;
        let high =
            if shift + self.bits > 32 { read_u32(words, first + (word + 1) * stride) << (32 - shift) } else { 0 };
        (low | high) & ((1 << self.bits) - 1)
    }

    /// The zero of a group and row.
    fn zero(&self, group: usize, row: usize, rows: usize) -> f32 {
        let words = rows * self.bits as usize / 32;
        let zero = self.code(&self.zeros, group * words, 1, row);
        (zero + u32::from(self.zero_points == ZeroPoints::LessOne)) as f32
    }
}

impl Gptq {
    /// Unpacks some columns of some rows, word by word where a word has whole codes of one group.
    #[inline(always)]
    fn unpack(&self, table: &GroupTable, columns: &Range<usize>, rows: Range<usize>, stride: usize, out: &mut [f32]) {
        let per_word = 32 / self.bits as usize;
        let whole_words = self.bits != 3 && self.groups.is_none() && self.group.is_multiple_of(per_word);
        let words = columns.start.div_ceil(per_word)..columns.end / per_word;
        if !whole_words || words.is_empty() {
            return self.by_column(table, columns, columns.clone(), rows, stride, out);
        }
        match self.bits {
            2 => self.by_word::<2, 16>(table, columns, words.clone(), rows.clone(), stride, out),
            4 => self.by_word::<4, 8>(table, columns, words.clone(), rows.clone(), stride, out),
            _ => self.by_word::<8, 4>(table, columns, words.clone(), rows.clone(), stride, out),
        }
        self.by_column(table, columns, columns.start..words.start * per_word, rows.clone(), stride, out);
        self.by_column(table, columns, words.end * per_word..columns.end, rows, stride, out);
    }

    #[inline(always)]
    fn by_column(
        &self,
        table: &GroupTable,
        columns: &Range<usize>,
        some: Range<usize>,
        rows: Range<usize>,
        stride: usize,
        out: &mut [f32],
    ) {
        for column in some {
            let (scales, zeros) = table.of(self.group_of(column));
            for ((row, &scale), (r, &zero)) in rows.clone().zip(scales).zip(zeros.iter().enumerate()) {
                let code = self.code(&self.codes, row, stride, column) as f32;
                out[r * columns.len() + column - columns.start] = (code - zero) * scale;
            }
        }
    }

    /// Words are turned, so that a row's codes stand side by side.
    #[inline(always)]
    fn by_word<const BITS: u32, const PER_WORD: usize>(
        &self,
        table: &GroupTable,
        columns: &Range<usize>,
        words: Range<usize>,
        rows: Range<usize>,
        stride: usize,
        out: &mut [f32],
    ) {
        let mut turned = Turned::new();
        for first in rows.clone().step_by(STREAMS) {
            let these = first..rows.end.min(first + STREAMS);
            for start in words.clone().step_by(LINES) {
                let lines = start..words.end.min(start + LINES);
                turned.copy(&self.codes, stride, lines.clone(), these.clone());
                for row in these.clone() {
                    let from = (row - rows.start) * columns.len() + start * PER_WORD - columns.start;
                    let out = out[from..][..lines.len() * PER_WORD].as_chunks_mut::<PER_WORD>().0;
                    let words = turned.stream(row - first, lines.len());
                    for ((numbers, &word), line) in out.iter_mut().zip(words).zip(lines.clone()) {
                        let (scale, zero) = table.at(line * PER_WORD / self.group, row - rows.start);
                        for (number, i) in numbers.iter_mut().zip(0u32..) {
                            *number = (((word >> (BITS * i)) & ((1 << BITS) - 1)) as f32 - zero) * scale;
                        }
                    }
                }
            }
        }
    }
}

/// Unpacks rows of a tile.
pub(crate) struct UnpackGptq<'a> {
    pub(crate) packed: &'a Gptq,
    pub(crate) rows: usize,
    pub(crate) tile: Tile<'a>,
}

impl Kernel for UnpackGptq<'_> {
    #[inline(always)]
    fn run(self, _: impl Expand) {
        let Self { packed, rows, tile } = self;
        let width = tile.columns.len();
        let groups = packed.groups_of(tile.columns.clone());
        let mut row = tile.rows.start;
        for out in tile.out.chunks_mut(ROWS_AT_ONCE * width) {
            let some = row..row + out.len() / width;
            let table = GroupTable::new(groups.clone(), some.clone(), |group, row| {
                (packed.scale_dtype.read(&packed.scales, group * rows + row), packed.zero(group, row, rows))
            });
            packed.unpack(&table, &tile.columns, some.clone(), rows, out);
            row = some.end;
        }
    }
}
