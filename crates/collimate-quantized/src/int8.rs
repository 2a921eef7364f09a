//! bitsandbytes' eight bits: a signed byte for each number and a scale for each row.

use bytes::Bytes;

use crate::dtype::read_f32;
use crate::unpack::{Expand, Kernel, Tile};

/// Signed bytes, row after row: a number is `code · scale / 127`.
///
/// LLM.int8() rounds activations too while it computes; here weights alone are rounded.
#[derive(Clone, Debug)]
pub struct Int8 {
    pub(crate) codes: Bytes,
    pub(crate) scales: Bytes,
}

impl Int8 {
    /// The codes, row after row.
    pub fn codes(&self) -> &Bytes {
        &self.codes
    }

    /// The scales of the rows (`SCB`): little-endian float32, the largest magnitude of the row.
    pub fn scales(&self) -> &Bytes {
        &self.scales
    }
}

/// Unpacks rows of a tile.
pub(crate) struct UnpackInt8<'a> {
    pub(crate) packed: &'a Int8,
    pub(crate) columns: usize,
    pub(crate) tile: Tile<'a>,
}

impl Kernel for UnpackInt8<'_> {
    #[inline(always)]
    fn run(self, _: impl Expand) {
        let Self { packed, columns, tile } = self;
        let width = tile.columns.len();
        for (row, out) in tile.rows.clone().zip(tile.out.chunks_exact_mut(width)) {
            let scale = read_f32(&packed.scales, row);
            let codes = &packed.codes[row * columns + tile.columns.start..][..width];
            for (number, &code) in out.iter_mut().zip(codes) {
                *number = f32::from(code as i8) * scale / 127.0;
            }
        }
    }
}
