//! Work tables for the cubes, written by the host and read by the kernels.
//!
//! Each is an array of rows of `u32`; a row's columns are defined once, by the pair of functions beside its type.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// A tile of queries: rows of one segment.
#[derive(CubeType, Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueryBlock {
    /// The segment's context: its first row and length.
    pub(super) context: u32,
    pub(super) context_len: u32,
    /// The segment's first row.
    pub(super) segment: u32,
    /// The tile's first row and number of rows.
    pub(super) row: u32,
    pub(super) rows: u32,
}

const QUERY_COLUMNS: u32 = 5;

pub(super) fn query_columns(block: QueryBlock) -> [u32; QUERY_COLUMNS as usize] {
    [block.context, block.context_len, block.segment, block.row, block.rows]
}

#[cube]
pub(super) fn query_block(table: &Array<u32>, index: u32) -> QueryBlock {
    let start = (index * QUERY_COLUMNS) as usize;
    QueryBlock {
        context: table[start],
        context_len: table[start + 1],
        segment: table[start + 2],
        row: table[start + 3],
        rows: table[start + 4],
    }
}

/// A tile of keys: rows of one segment.
#[derive(CubeType, Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyBlock {
    /// Its first row and number of rows.
    pub(super) row: u32,
    pub(super) rows: u32,
    /// The range of viewers that attend to it.
    pub(super) viewers_start: u32,
    pub(super) viewers_end: u32,
}

const KEY_COLUMNS: u32 = 4;

pub(super) fn key_columns(block: KeyBlock) -> [u32; KEY_COLUMNS as usize] {
    [block.row, block.rows, block.viewers_start, block.viewers_end]
}

#[cube]
pub(super) fn key_block(table: &Array<u32>, index: u32) -> KeyBlock {
    let start = (index * KEY_COLUMNS) as usize;
    KeyBlock {
        row: table[start],
        rows: table[start + 1],
        viewers_start: table[start + 2],
        viewers_end: table[start + 3],
    }
}

/// Rows that attend to some of a tile's keys.
#[derive(CubeType, Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Viewer {
    /// The range of rows of the keys they attend to, and the first key's position in their sequence.
    pub(super) low: u32,
    pub(super) high: u32,
    pub(super) key_position: u32,
    /// The first of these rows, their number, and the first's position in the sequence.
    pub(super) row: u32,
    pub(super) rows: u32,
    pub(super) position: u32,
}

const VIEWER_COLUMNS: u32 = 6;

pub(super) fn viewer_columns(viewer: Viewer) -> [u32; VIEWER_COLUMNS as usize] {
    [viewer.low, viewer.high, viewer.key_position, viewer.row, viewer.rows, viewer.position]
}

#[cube]
pub(super) fn viewer(table: &Array<u32>, index: u32) -> Viewer {
    let start = (index * VIEWER_COLUMNS) as usize;
    Viewer {
        low: table[start],
        high: table[start + 1],
        key_position: table[start + 2],
        row: table[start + 3],
        rows: table[start + 4],
        position: table[start + 5],
    }
}
