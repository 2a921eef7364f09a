//! Weights packed into four or eight bits: formats, packing and unpacking.
//!
//! A [`PackedMatrix`] is the weight of a linear layer, [rows (outputs), columns (inputs)]. [`read()`] makes one of a
//! checkpoint's tensors (bitsandbytes' NF4, FP4 and int8, FP8 by blocks, GPTQ, AWQ; [`read_experts`] those of MXFP4), and
//! [`PackedMatrix::pack`] packs numbers into NF4, FP4 or int8, to the bytes that bitsandbytes 0.50 writes.
//! [`PackedMatrix::unpack_tile`] gives any part of it as float32. [`QuantizationConfig`] is what config.json says, and
//! [`Format::byte_count`] counts without weights.
//!
//! Bytes are shared ([`bytes::Bytes`]) and may be a part of a mapped file, so a matrix costs what its tensors cost. All
//! checks are made by [`read()`], so unpacking cannot fail. A number has the same bits for any part that is unpacked, any
//! instruction set and any number of threads.
//!
//! Must not know: tensors of a backend, devices, files, models.
//!
//! ```
//! use collimate_quantized::{Format, PackedMatrix, Values, read};
//!
//! // Two rows of 64; the largest magnitude of each is its scale.
//! let weight: Vec<f32> = (0..128).map(|i| (i % 64) as f32 / 63.0 * if i < 64 { 1.0 } else { -2.0 }).collect();
//! let packed = PackedMatrix::pack(Values::F32(&weight), 2, 64, Format::NF4)?;
//! // Half a byte for each number, and 4 bytes for each block of 64.
//! assert_eq!(packed.byte_count(), 64 + 2 * 4);
//!
//! let mut last = [0.0; 2];
//! packed.unpack_tile(0..2, 63..64, &mut last);
//! assert_eq!(last, [1.0, -2.0]);
//!
//! // As bitsandbytes has it in files, and back.
//! let tensors = packed.to_pieces("q_proj.weight").unwrap_or_default();
//! let lookup = |name: &str| tensors.iter().find(|(known, _)| known == name).map(|(_, piece)| piece.clone());
//! let found = read("q_proj.weight", Some([2, 64]), None, &lookup)?;
//! assert_eq!(found.map(|matrix| matrix.format()), Some(Format::NF4));
//! # Ok::<(), collimate_quantized::QuantizedError>(())
//! ```

mod awq;
mod config;
mod dtype;
mod error;
mod format;
mod four_bit;
mod fp8;
mod gptq;
mod groups;
mod int8;
mod matrix;
mod mxfp4;
mod pack;
mod read;
mod unpack;
mod write;

pub use awq::Awq;
pub use config::{QuantizationConfig, QuantizationMethod};
pub use dtype::{Dtype, FloatDtype, Values};
pub use error::QuantizedError;
pub use format::Format;
pub use four_bit::{DoubleScales, FourBit, FourBitKind, ScaleOrder, Scales};
pub use fp8::Fp8;
pub use gptq::{Gptq, ZeroPoints};
pub use int8::Int8;
pub use matrix::{PackedMatrix, Packing};
pub use mxfp4::Mxfp4;
pub use read::{TensorPiece, owner_of_sidecar, read, read_experts, sidecar_names};
