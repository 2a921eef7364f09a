//! Weights in every format that is read. bitsandbytes' are packed by the library; the others, which it does not pack, are
//! rounded here.

use collimate_hf::HostTensor;
use collimate_oracle::StoredTensor;
use collimate_quantized::{Format, FourBitKind, PackedMatrix, Values};
use serde_json::{Value, json};

/// Every format.
pub(crate) const FORMATS: [&str; 7] = ["nf4", "nf4-double", "fp4", "int8", "fp8", "gptq", "awq"];

/// Inputs that share a scale in GPTQ and AWQ.
const GROUP: usize = 32;
/// Rows and columns that share a scale in FP8: more than one block in every matrix.
const BLOCK: usize = 24;
/// Zero points of GPTQ and AWQ.
const ZERO: u32 = 8;
/// Scales of GPTQ and AWQ, with their bits in float16.
const SCALES: [(f32, u16); 2] = [(0.0625, 0x2c00), (0.09375, 0x2e00)];
/// The place of each of eight outputs in a word of AWQ.
const AWQ_ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

/// What `config.json` says of a format.
pub(super) fn quantization_config(format: &str) -> Value {
    let four_bit = |kind: &str, double: bool| {
        json!({"quant_method": "bitsandbytes", "load_in_4bit": true, "load_in_8bit": false, "bnb_4bit_quant_type": kind,
               "bnb_4bit_use_double_quant": double, "bnb_4bit_compute_dtype": "float32"})
    };
    match format {
        "nf4" | "fp4" => four_bit(format, false),
        "nf4-double" => four_bit("nf4", true),
        "int8" => json!({"quant_method": "bitsandbytes", "load_in_4bit": false, "load_in_8bit": true}),
        "fp8" => json!({"quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK], "activation_scheme": "dynamic"}),
        "gptq" => json!({"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": false}),
        "awq" => json!({"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": true, "version": "gemm"}),
        other => panic!("no format {other}"),
    }
}

/// The tensors of a packed weight.
pub(super) fn packed(name: &str, tensor: &HostTensor, format: &str) -> Vec<StoredTensor> {
    match format {
        "nf4" => bitsandbytes(name, tensor, Format::NF4),
        "nf4-double" => bitsandbytes(name, tensor, Format::NF4_DOUBLE),
        "fp4" => bitsandbytes(name, tensor, Format::FourBit { kind: FourBitKind::Fp4, block: 64, double: false }),
        "int8" => bitsandbytes(name, tensor, Format::Int8),
        "fp8" => fp8(name, tensor),
        "gptq" => integers(name, tensor, true),
        _ => integers(name, tensor, false),
    }
}

fn bitsandbytes(name: &str, tensor: &HostTensor, format: Format) -> Vec<StoredTensor> {
    let matrix = PackedMatrix::pack(Values::F32(&tensor.data), tensor.shape[0], tensor.shape[1], format);
    let pieces = matrix.expect("a packed weight").to_pieces(name).expect("a format of bitsandbytes");
    let stored = |(name, piece): (String, collimate_quantized::TensorPiece)| StoredTensor {
        name,
        dtype: piece.dtype.name().to_owned(),
        shape: piece.shape,
        bytes: piece.bytes.to_vec(),
    };
    pieces.into_iter().map(stored).collect()
}

/// The number of a code of E4M3 above zero.
fn e4m3(code: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(code >> 3), f32::from(code & 7));
    if exponent == 0 { mantissa * 2f32.powi(-9) } else { (8.0 + mantissa) * 2f32.powi(exponent - 10) }
}

/// The code of the largest number of E4M3 that is not above this one in magnitude.
fn e4m3_code(value: f32) -> u8 {
    let codes: Vec<f32> = (0..0x7f).map(e4m3).collect();
    let code = codes.partition_point(|known| *known <= value.abs()) - 1;
    code as u8 | if value < 0.0 { 0x80 } else { 0 }
}

fn fp8(name: &str, tensor: &HostTensor) -> Vec<StoredTensor> {
    let (rows, columns) = (tensor.shape[0], tensor.shape[1]);
    let blocks = [rows.div_ceil(BLOCK), columns.div_ceil(BLOCK)];
    // The largest number is 448.
    let scale = |row: usize, column: usize| 0.002 * (1 + (row + column) % 2) as f32;
    let code = |i: usize| e4m3_code(tensor.data[i] / scale(i / columns / BLOCK, i % columns / BLOCK));
    let scales = (0..blocks[0] * blocks[1]).flat_map(|i| scale(i / blocks[1], i % blocks[1]).to_le_bytes());
    vec![
        stored(name.to_owned(), "F8_E4M3", [rows, columns], (0..rows * columns).map(code).collect()),
        stored(format!("{name}_scale_inv"), "F32", blocks, scales.collect()),
    ]
}

/// GPTQ or AWQ, whose matrices are [inputs, outputs].
fn integers(name: &str, tensor: &HostTensor, is_gptq: bool) -> Vec<StoredTensor> {
    let (outputs, inputs) = (tensor.shape[0], tensor.shape[1]);
    let module = name.strip_suffix(".weight").expect("a weight");
    let groups = inputs / GROUP;
    let scale = |group: usize, output: usize| SCALES[(group + output) % 2];
    let code = |input: usize, output: usize| {
        let steps = (tensor.data[output * inputs + input] / scale(input / GROUP, output).0).round();
        (steps + ZERO as f32).clamp(0.0, 15.0) as u32
    };
    let word = |nibble: &dyn Fn(usize) -> u32| (0..8).map(|k| nibble(k) << (4 * k)).sum::<u32>().to_le_bytes();
    let words = |count: usize, nibble: &dyn Fn(usize, usize) -> u32| -> Vec<u8> {
        (0..count).flat_map(|i| word(&|k| nibble(i, k))).collect()
    };
    let eighth = outputs / 8;
    let (codes, shape) = match is_gptq {
        true => (words(inputs / 8 * outputs, &|i, k| code(i / outputs * 8 + k, i % outputs)), [inputs / 8, outputs]),
        false => (words(inputs * eighth, &|i, k| code(i / eighth, i % eighth * 8 + AWQ_ORDER[k])), [inputs, eighth]),
    };
    // GPTQ's first version stores zero points less one.
    let zero = if is_gptq { ZERO - 1 } else { ZERO };
    let scales = (0..groups * outputs).flat_map(|i| scale(i / outputs, i % outputs).1.to_le_bytes()).collect();
    let mut tensors = vec![
        stored(format!("{module}.qweight"), "I32", shape, codes),
        stored(format!("{module}.qzeros"), "I32", [groups, eighth], words(groups * eighth, &|_, _| zero)),
        stored(format!("{module}.scales"), "F16", [groups, outputs], scales),
    ];
    if is_gptq {
        let bytes = (0..inputs).flat_map(|input| ((input / GROUP) as u32).to_le_bytes()).collect();
        tensors.push(stored(format!("{module}.g_idx"), "I32", [inputs], bytes));
    }
    tensors
}

fn stored(name: String, dtype: &str, shape: impl Into<Vec<usize>>, bytes: Vec<u8>) -> StoredTensor {
    StoredTensor { name, dtype: dtype.to_owned(), shape: shape.into(), bytes }
}
