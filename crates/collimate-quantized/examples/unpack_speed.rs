//! Prints how many weights one thread packs and unpacks in a second, in panels as a product unpacks them. The quickest
//! panel counts, so that what else the machine does matters little.
//!
//! ```console
//! $ cargo run --release -p collimate-quantized --example unpack_speed
//! ```

use std::error::Error;
use std::time::Instant;

use collimate_quantized::{
    Dtype, FloatDtype, Format, FourBitKind, PackedMatrix, QuantizationConfig, TensorPiece, Values, read, read_experts,
};
use serde_json::json;

/// Inputs of a layer of a model with eight billion parameters.
const COLUMNS: usize = 4096;
/// Rows that a product unpacks at a time: 2 MiB as float32.
const PANEL: usize = 128;
const TIMES: usize = 400;

fn main() -> Result<(), Box<dyn Error>> {
    let numbers: Vec<f32> = (0..PANEL * COLUMNS).map(|i| ((i * 7919 % 10_007) as f32 - 5003.0) / 1700.0).collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let fp4 = Format::FourBit { kind: FourBitKind::Fp4, block: 64, double: false };
    let halves: Vec<u8> = numbers.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect();
    for format in [Format::NF4, Format::NF4_DOUBLE, fp4, Format::Int8] {
        let pack = || PackedMatrix::pack(Values::F32(&numbers), PANEL, COLUMNS, format);
        let matrix = pack()?;
        let packing = pool.install(|| quickest(pack));
        let mut panel = vec![0.0; PANEL * COLUMNS];
        let unpacking = quickest(|| matrix.unpack_rows(0..PANEL, std::hint::black_box(&mut panel)));
        let matrix = PackedMatrix::pack(Values::Bytes(FloatDtype::Bf16, &halves), PANEL, COLUMNS, format)?;
        let rounding = quickest(|| matrix.unpack_rows(0..PANEL, std::hint::black_box(&mut panel)));
        println!("{format}: packs {packing:.2}, unpacks {unpacking:.2}, with rounding {rounding:.2} G weights/s");
    }
    let mut panel = vec![0.0; PANEL * COLUMNS];
    for matrix in published()? {
        let unpacking = quickest(|| matrix.unpack_rows(0..PANEL, std::hint::black_box(&mut panel)));
        println!("{}: unpacks {unpacking:.2} G weights/s", matrix.format());
    }
    Ok(())
}

/// A panel in each format that is only read.
fn published() -> Result<Vec<PackedMatrix>, Box<dyn Error>> {
    const GROUPS: usize = COLUMNS / 128;
    let tensor = |dtype: Dtype, shape: &[usize], bytes: usize, byte: u8| {
        let count = shape.iter().product::<usize>() * bytes;
        TensorPiece { dtype, shape: shape.to_vec(), bytes: vec![byte; count].into() }
    };
    let lookup = |name: &str| {
        Some(match name {
            "fp8.weight" => tensor(Dtype::F8E4M3, &[PANEL, COLUMNS], 1, 0x3a),
            "fp8.weight_scale_inv" => tensor(Dtype::F32, &[PANEL / 128, GROUPS], 4, 0x3c),
            "experts_blocks" => tensor(Dtype::U8, &[1, PANEL, COLUMNS / 32, 16], 1, 0x3a),
            "experts_scales" => tensor(Dtype::U8, &[1, PANEL, COLUMNS / 32], 1, 0x7a),
            "gptq.qweight" => tensor(Dtype::I32, &[COLUMNS / 8, PANEL], 4, 0x3a),
            "gptq.qzeros" | "awq.qzeros" => tensor(Dtype::I32, &[GROUPS, PANEL / 8], 4, 0x77),
            "gptq.scales" | "awq.scales" => tensor(Dtype::F16, &[GROUPS, PANEL], 2, 0x2c),
            "awq.qweight" => tensor(Dtype::I32, &[COLUMNS, PANEL / 8], 4, 0x3a),
            _ => return None,
        })
    };
    let mut matrices = read_experts("experts", &lookup)?.unwrap_or_default();
    for method in ["fp8", "gptq", "awq"] {
        let config = QuantizationConfig::from_json(&json!({"quant_method": method, "bits": 4, "group_size": 128}))?;
        matrices.extend(read(&format!("{method}.weight"), None, Some(&config), &lookup)?);
    }
    Ok(matrices)
}

/// Weights by the nanosecond of the quickest of some runs.
fn quickest<R>(mut run: impl FnMut() -> R) -> f64 {
    let nanoseconds = (0..TIMES).map(|_| {
        let start = Instant::now();
        std::hint::black_box(run());
        start.elapsed().as_nanos()
    });
    (PANEL * COLUMNS) as f64 / nanoseconds.min().unwrap_or(1) as f64
}
