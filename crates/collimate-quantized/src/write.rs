//! The tensors that bitsandbytes writes for a packed weight.

use bytes::Bytes;
use serde_json::json;

use crate::dtype::Dtype;
use crate::four_bit::{FourBit, Scales};
use crate::matrix::{PackedMatrix, Packing};
use crate::read::TensorPiece;

impl PackedMatrix {
    /// The tensors of the weight `X.weight` as bitsandbytes and transformers write them, by name, or `None` for a format that
    /// bitsandbytes does not have. [`read`](crate::read()) reads them back to the same bits.
    pub fn to_pieces(&self, weight: &str) -> Option<Vec<(String, TensorPiece)>> {
        let module = weight.strip_suffix(".weight").unwrap_or(weight);
        match &self.packing {
            Packing::FourBit(packed) => Some(self.four_bit_pieces(weight, packed)),
            Packing::Int8(packed) => {
                let shape = vec![self.rows, self.columns];
                let format = Bytes::from_static(&[0]);
                Some(vec![
                    (weight.to_owned(), TensorPiece { dtype: Dtype::I8, shape, bytes: packed.codes.clone() }),
                    (format!("{module}.SCB"), list(Dtype::F32, packed.scales.clone())),
                    (format!("{module}.weight_format"), TensorPiece { dtype: Dtype::U8, shape: vec![], bytes: format }),
                ])
            }
            _ => None,
        }
    }

    fn four_bit_pieces(&self, weight: &str, packed: &FourBit) -> Vec<(String, TensorPiece)> {
        let quoted = |text: &str| json!(text).to_string();
        // In the order and with the spaces of Python's.
        let mut state = format!(
            "{{\"quant_type\": {}, \"blocksize\": {}, \"dtype\": {}, \"shape\": [{}, {}]",
            quoted(packed.kind.name()),
            packed.block,
            quoted(packed.rounded_to.name()),
            self.rows,
            self.columns,
        );
        let shape = vec![packed.codes.len(), 1];
        let mut pieces = vec![
            (weight.to_owned(), TensorPiece { dtype: Dtype::U8, shape, bytes: packed.codes.clone() }),
            (format!("{weight}.quant_map"), list(Dtype::F32, little_endian(&packed.table))),
        ];
        match &packed.scales {
            Scales::Float32(scales) => pieces.push((format!("{weight}.absmax"), list(Dtype::F32, scales.clone()))),
            Scales::Double(double) => {
                let offset = json!(f64::from(double.offset));
                state += &format!(
                    ", \"nested_blocksize\": {}, \"nested_dtype\": \"float32\", \"nested_offset\": {offset}",
                    double.nested_block,
                );
                pieces.push((format!("{weight}.absmax"), list(Dtype::U8, double.codes.clone())));
                pieces.push((format!("{weight}.nested_absmax"), list(Dtype::F32, little_endian(&double.nested))));
                pieces.push((format!("{weight}.nested_quant_map"), list(Dtype::F32, little_endian(&double.table[..]))));
            }
        }
        let name = format!("{weight}.quant_state.bitsandbytes__{}", packed.kind.name());
        pieces.push((name, list(Dtype::U8, Bytes::from(state + "}"))));
        pieces
    }
}

/// A tensor of one side.
fn list(dtype: Dtype, bytes: Bytes) -> TensorPiece {
    let size = if dtype == Dtype::F32 { 4 } else { 1 };
    TensorPiece { dtype, shape: vec![bytes.len() / size], bytes }
}

fn little_endian(values: &[f32]) -> Bytes {
    values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into()
}
