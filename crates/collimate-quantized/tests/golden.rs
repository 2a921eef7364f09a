//! Packed weights as bitsandbytes, AutoGPTQ, AutoAWQ and transformers have them: `tests/golden/quantized.json`.

mod common;

use collimate_quantized::{Format, FourBitKind, PackedMatrix, Packing, QuantizedError, ScaleOrder, Values};
use common::{Packs, bits, golden_cases};
use rstest::rstest;

/// The weight that cases are about.
const WEIGHT: &str = "h.0.q.weight";

#[test]
fn every_format_unpacks_to_the_numbers_of_its_library() {
    for case in golden_cases() {
        let matrices = case.read(&case.pieces(), Some(case.shape)).unwrap();
        let [rows, columns] = case.shape;
        let mut found = vec![0.0; matrices.len() * rows * columns];
        for (matrix, out) in matrices.iter().zip(found.chunks_mut(rows * columns)) {
            matrix.unpack_rows(0..rows, out);
        }
        assert_eq!(bits(&found), bits(&case.unpacked()), "{}", case.name);
    }
}

#[test]
fn every_part_of_a_matrix_unpacks_to_the_same_numbers() {
    for case in golden_cases() {
        let matrix = &case.read(&case.pieces(), Some(case.shape)).unwrap()[0];
        let (rows, columns) = (matrix.rows(), matrix.columns());
        let whole = case.unpacked();
        for (top, left) in [(0, 0), (1, 1), (2, 7), (rows - 1, columns - 1), (rows / 2, columns / 3)] {
            let (bottom, right) = (rows.min(top + 5), columns.min(left + 50));
            let mut out = vec![0.0; (bottom - top) * (right - left)];
            matrix.unpack_tile(top..bottom, left..right, &mut out);
            let part = (top..bottom).flat_map(|row| &whole[row * columns + left..row * columns + right]);
            assert_eq!(bits(&out), bits(&part.copied().collect::<Vec<_>>()), "{} from {top}, {left}", case.name);
        }
    }
}

#[test]
fn packing_writes_the_bytes_of_bitsandbytes() {
    let mut count = 0;
    for case in golden_cases() {
        let Some(packs) = &case.packs else { continue };
        let matrix = pack(packs, case.shape).unwrap();
        let pieces = matrix.to_pieces(WEIGHT).unwrap();
        assert_eq!(pieces.len(), case.tensors.len(), "{}", case.name);
        for (name, piece) in pieces {
            let suffix = name.strip_prefix("h.0.q").unwrap();
            let expected = case.tensors.get(suffix).unwrap_or_else(|| panic!("{}: {name}", case.name)).piece();
            assert_eq!((piece.dtype, &piece.shape), (expected.dtype, &expected.shape), "{}: {name}", case.name);
            assert_eq!(piece.bytes, expected.bytes, "{}: {name}", case.name);
        }
        count += 1;
    }
    assert!(count > 15, "{count} cases");
}

fn pack(packs: &Packs, shape: [usize; 2]) -> Result<PackedMatrix, QuantizedError> {
    let (dtype, bytes) = packs.drawn(shape);
    let format = match &packs.quant_type[..] {
        "nf4" => Format::FourBit { kind: FourBitKind::Nf4, block: packs.block, double: packs.double },
        "fp4" => Format::FourBit { kind: FourBitKind::Fp4, block: packs.block, double: packs.double },
        _ => Format::Int8,
    };
    PackedMatrix::pack(Values::Bytes(dtype, &bytes), shape[0], shape[1], format)
}

#[rstest]
#[case(1)]
#[case(3)]
fn packing_does_not_depend_on_threads(#[case] threads: usize) {
    let numbers: Vec<f32> =
        (0..150_000u32).map(|i| (i.wrapping_mul(2_654_435_761) as f32 / 1e9 - 2.0).tan().clamp(-9e3, 9e3)).collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    for format in [Format::NF4, Format::NF4_DOUBLE, Format::Int8] {
        let pack = || PackedMatrix::pack(Values::F32(&numbers), 300, 500, format).unwrap();
        let feed = |matrix: &PackedMatrix| {
            let mut fed = Vec::new();
            matrix.feed(&mut |bytes| fed.extend_from_slice(bytes));
            fed
        };
        assert!(feed(&pack()) == feed(&pool.install(pack)), "{format} with {threads} threads");
    }
}

#[test]
fn sizes_by_formula_are_those_of_the_tensors() {
    for case in golden_cases() {
        let matrices = case.read(&case.pieces(), Some(case.shape)).unwrap();
        let counted: u64 = matrices.iter().map(PackedMatrix::byte_count).sum();
        let tables = ["quant_map", "quant_state", "weight_format"];
        let mut kept: u64 = 0;
        for (suffix, tensor) in &case.tensors {
            let is_consecutive = suffix == ".g_idx" && !case.name.contains("act-order");
            if !is_consecutive && !tables.iter().any(|table| suffix.contains(table)) {
                // Scales of FP8 are kept as float32.
                let wider = if suffix == ".weight_scale_inv" && tensor.dtype == "BF16" { 2 } else { 1 };
                kept += wider * tensor.piece().bytes.len() as u64;
            }
        }
        assert_eq!(counted, kept, "{}", case.name);
    }
}

#[test]
fn scales_of_partial_rows_are_those_of_the_order_asked_for() {
    let case = golden_cases().into_iter().find(|case| case.name.starts_with("nf4 9 × 80 outliers double")).unwrap();
    let flat = case.read(&case.pieces(), None).unwrap().remove(0);
    let floored = flat.clone().with_scale_order(ScaleOrder::FlooredRows);
    let Packing::FourBit(packed) = flat.packing() else { panic!("{:?}", flat.packing()) };
    let mut row = [0.0; 80];
    for at in 0..9 {
        floored.unpack_rows(at..at + 1, &mut row);
        let code = |column: usize| packed.codes()[(at * 80 + column) / 2] >> (4 - column % 2 * 4) & 15;
        let expected =
            |column: usize| packed.table()[usize::from(code(column))] * packed.scales().get(at + column / 64);
        assert_eq!(bits(&row), bits(&std::array::from_fn::<f32, 80, _>(expected)), "row {at}");
    }
}

#[test]
fn numbers_that_cannot_be_packed_are_named() {
    let error = |values: &[f32], format: Format| {
        PackedMatrix::pack(Values::F32(values), 2, 40, format).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let with = |value: f32| (0..80).map(|i| if i >= 47 { value } else { 0.5 }).collect::<Vec<f32>>();
    assert_eq!(error(&with(f32::NAN), Format::NF4), "row 1, column 7 is NaN, which nf4 cannot hold");
    assert_eq!(error(&with(f32::INFINITY), Format::NF4_DOUBLE), "row 1, column 7 is inf, which nf4 cannot hold");
    assert_eq!(error(&with(7e4), Format::Int8), "row 1, column 7 is 70000, which int8, through float16, cannot hold");
    assert_eq!(error(&[1.0; 79], Format::NF4), "a matrix of 2 × 40 has 80 numbers, found 79");
    let odd = Format::FourBit { kind: FourBitKind::Nf4, block: 48, double: false };
    assert!(error(&[1.0; 80], odd).starts_with("blocks of 48 numbers: expected 32, 64,"));
    assert!(error(&[1.0; 80], Format::Mxfp4).contains("packing into mxfp4 is not supported"));
    let none = PackedMatrix::pack(Values::F32(&[]), 0, 40, Format::NF4).unwrap_err().to_string();
    assert_eq!(none, "a matrix of 0 × 40 cannot be packed");
}
