//! Packing: the same bytes as bitsandbytes 0.50 writes on a CPU, for any number of threads.

mod four_bit;
mod int8;
mod mean;

use crate::dtype::Values;
use crate::error::QuantizedError;
use crate::format::Format;
use crate::matrix::{PackedMatrix, Packing};

impl PackedMatrix {
    /// Packs a matrix, [rows, columns], into four or eight bits on all threads of rayon's pool.
    ///
    /// Packed weights remember the type they came in: what is packed from bfloat16 is unpacked to numbers that bfloat16 has, as
    /// bitsandbytes does.
    ///
    /// # Errors
    /// The numbers are not as many as the matrix has, one is not finite (or, for int8, beyond float16, which bitsandbytes
    /// rounds to first), or the format is one that is only read.
    pub fn pack(values: Values<'_>, rows: usize, columns: usize, format: Format) -> Result<Self, QuantizedError> {
        let count = rows.checked_mul(columns).filter(|&count| count > 0 && count <= isize::MAX as usize / 8);
        let Some(count) = count else { return Err(QuantizedError::Size { rows, columns }) };
        if values.len() != count {
            return Err(QuantizedError::Count { rows, columns, found: values.len() });
        }
        let packing = match format {
            Format::FourBit { kind, block, double } => {
                Packing::FourBit(four_bit::pack(values, columns, four_bit::Options { kind, block, double })?)
            }
            Format::Int8 => Packing::Int8(int8::pack(values, columns)?),
            other => {
                let message = format!("packing into {} is not supported: expected nf4, fp4 or int8", other.name());
                return Err(QuantizedError::Unsupported { tensor: "weight".to_owned(), message });
            }
        };
        Ok(Self { rows, columns, packing })
    }
}

/// The first of some positions, which is the same for any order of threads.
fn first(a: Option<usize>, b: Option<usize>) -> Option<usize> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The error for a number that cannot be packed.
fn bad_number(values: Values<'_>, position: usize, columns: usize, format: &'static str) -> QuantizedError {
    let mut value = [0.0];
    values.copy_to(position, &mut value);
    QuantizedError::Number { row: position / columns, column: position % columns, value: value[0], format }
}
