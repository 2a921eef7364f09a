//! Tensors that do not fit together: named errors, no panics, no weights that are infinite or undefined.

mod common;

use collimate_quantized::{Dtype, PackedMatrix, TensorPiece, read};
use common::{Case, Tensors, golden_cases};
use proptest::prelude::*;
use rstest::rstest;

const STATE: &str = ".weight.quant_state.bitsandbytes__nf4";

/// The error for a changed case, the first with this beginning of its name.
fn error_of(name: &str, change: impl Fn(&mut Tensors)) -> String {
    let case = golden_cases().into_iter().find(|case| case.name.starts_with(name));
    let case = case.unwrap_or_else(|| panic!("no case {name}"));
    let mut tensors = case.pieces();
    change(&mut tensors);
    case.read(&tensors, None).err().map_or_else(|| panic!("{name} was read"), |error| error.to_string())
}

fn floats(values: &[f32]) -> TensorPiece {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into();
    TensorPiece { dtype: Dtype::F32, shape: vec![values.len()], bytes }
}

fn state(json: &str) -> TensorPiece {
    TensorPiece { dtype: Dtype::U8, shape: vec![json.len()], bytes: json.as_bytes().to_vec().into() }
}

/// Replaces a text of the state of a matrix of 3 × 51 with double quantization.
fn error_of_state(from: &str, to: &str) -> String {
    error_of("nf4 3 × 51 normal double", |tensors| {
        let text = String::from_utf8_lossy(&tensors[STATE].bytes).into_owned();
        assert!(text.contains(from), "{text}");
        tensors.insert(STATE.to_owned(), state(&text.replace(from, to)));
    })
}

#[rstest]
#[case("nf4 3 × 51 normal double", ".weight.absmax")]
#[case("nf4 3 × 51 normal double", ".weight.quant_map")]
#[case("nf4 3 × 51 normal double", ".weight.nested_absmax")]
#[case("nf4 3 × 51 normal double", ".weight.nested_quant_map")]
#[case("nf4 3 × 51 normal double", STATE)]
#[case("int8 5 × 33", ".SCB")]
#[case("fp8", ".weight_scale_inv")]
#[case("gptq 4", ".qzeros")]
#[case("gptq 4", ".scales")]
#[case("awq", ".qzeros")]
#[case("mxfp4", "_scales")]
#[case("mxfp4", "_blocks")]
fn a_missing_tensor_is_named(#[case] name: &str, #[case] suffix: &str) {
    let error = error_of(name, |tensors| assert!(tensors.remove(suffix).is_some()));
    // Eight-bit weights without anything beside them could be of several formats.
    let alone = name.starts_with("int8");
    assert!(error.contains(if alone { "h.0.q.weight" } else { suffix }), "{error}");
}

#[test]
fn every_tensor_that_is_too_short_is_named() {
    for case in golden_cases() {
        for suffix in case.tensors.keys().filter(|suffix| *suffix != ".weight_format") {
            let mut tensors = case.pieces();
            let piece = tensors.get_mut(suffix).unwrap();
            piece.bytes.truncate(piece.bytes.len() - 1);
            let error = case.read(&tensors, None).unwrap_err().to_string();
            assert!(error.contains(&format!("\"h.0.q{suffix}\"")), "{}: {error}", case.name);
        }
    }
}

#[rstest]
#[case("nf4 3 × 51 normal, 64", ".weight.absmax", floats(&[1.0, f32::NAN, 1.0]), "[1] is NaN")]
#[case("nf4 3 × 51 normal, 64", ".weight.absmax", floats(&[1.0, 1.0, f32::INFINITY]), "[2] is inf")]
#[case("nf4 3 × 51 normal, 64", ".weight.quant_map", floats(&[f32::NEG_INFINITY; 16]), "[0] is -inf")]
#[case("nf4 3 × 51 normal double", ".weight.nested_absmax", floats(&[f32::NAN]), "[0] is NaN")]
#[case("nf4 3 × 51 normal double", ".weight.nested_absmax", floats(&[f32::MAX]), "weights would be infinite")]
#[case("nf4 3 × 51 normal double", ".weight.nested_absmax", floats(&[]), "expected 4 bytes, found 0")]
#[case("nf4 3 × 51 normal double", ".weight.nested_quant_map", floats(&[0.0; 255]), "expected 1024 bytes")]
#[case("int8 5 × 33", ".SCB", floats(&[1.0, 2.0, 3.0, 4.0, f32::MAX]), "[4] is 340282350000000000000000000000000000000")]
#[case("int8 5 × 33", ".SCB", floats(&[1.0; 4]), "expected 20 bytes, found 16")]
#[case("fp8 [4, 8]", ".weight_scale_inv", floats(&[1.0; 15]), "expected shape [3, 5], found [15]")]
fn a_tensor_that_does_not_fit_is_named(
    #[case] name: &str,
    #[case] suffix: &str,
    #[case] piece: TensorPiece,
    #[case] expected: &str,
) {
    let error = error_of(name, |tensors| assert!(tensors.insert(suffix.to_owned(), piece.clone()).is_some()));
    assert!(error.contains(&format!("\"h.0.q{suffix}\"")) && error.contains(expected), "{error}");
}

#[rstest]
#[case("\"nested_offset\": 0.", "\"nested_offset\": 1e999, \"was\": 0.", "not a quant_state")]
#[case("\"nested_offset\": 0.", "\"nested_offset\": NaN, \"was\": 0.", "not a quant_state")]
#[case("\"nested_offset\": 0.", "\"nested_offset\": 1e300, \"was\": 0.", "nested_offset inf")]
#[case("\"nested_offset\": 0.", "\"was\": 0.", "nested_offset is missing")]
#[case("\"nested_blocksize\": 256", "\"nested_blocksize\": 0", "nested_blocksize")]
#[case("\"nested_blocksize\": 256", "\"nested_blocksize\": 1", "expected 12 bytes, found 4")]
#[case("\"nested_dtype\": \"float32\"", "\"nested_dtype\": \"float16\"", "nested_dtype \"float16\"")]
#[case("\"blocksize\": 64, \"dtype\"", "\"blocksize\": 48, \"dtype\"", "blocksize 48")]
#[case("\"dtype\": \"float32\", \"shape\"", "\"dtype\": \"int8\", \"shape\"", "dtype \"int8\"")]
#[case("[3, 51]", "[3, 53]", "expected 80 bytes, found 77")]
#[case("[3, 51]", "[3, 51, 1]", "expected [rows, columns]")]
#[case("[3, 51]", "[0, 51]", "no numbers")]
#[case("[3, 51]", "[4294967296, 4294967296]", "or too many")]
#[case("[3, 51]", "[18446744073709551615, 1]", "expected 9223372036854775808 bytes")]
#[case("\"quant_type\": \"nf4\"", "\"quant_type\": \"fp4\"", "its name says \"nf4\"")]
fn a_state_that_does_not_fit_is_refused(#[case] from: &str, #[case] to: &str, #[case] expected: &str) {
    let error = error_of_state(from, to);
    assert!(error.contains(expected) && error.contains("h.0.q.weight"), "{error}");
}

#[test]
fn a_state_of_a_gigabyte_is_not_parsed() {
    // One page of zeros, mapped again and again, would be as large; a text of a mebibyte shows the limit.
    let error = error_of("nf4 3 × 51 normal, 64", |tensors| {
        tensors.insert(STATE.to_owned(), state(&"[".repeat(1 << 20)));
    });
    assert!(error.contains("1048576 bytes of JSON: expected at most 65536"), "{error}");
}

#[test]
fn the_models_configuration_decides_the_shape() {
    for case in golden_cases().iter().filter(|case| case.name != "mxfp4") {
        let error = case.read(&case.pieces(), Some([1, 2])).unwrap_err().to_string();
        assert!(error.contains("\"h.0.q.weight\": expected shape [1, 2], found"), "{error}");
    }
}

#[rstest]
#[case(".weight_packed", "compressed-tensors")]
#[case(".codebooks", "AQLM")]
#[case(".W_q", "HQQ")]
fn other_formats_are_refused_by_name(#[case] suffix: &str, #[case] format: &str) {
    let lookup = |name: &str| (name == format!("h.0.q{suffix}")).then(|| floats(&[0.0]));
    let error = read("h.0.q.weight", None, None, &lookup).unwrap_err().to_string();
    assert!(error.contains(format) && error.contains(suffix), "{error}");
}

#[test]
fn weights_that_are_not_packed_are_left_to_others() {
    let plain = |name: &str| (name == "h.0.q.weight").then(|| floats(&[0.0]));
    assert!(read("h.0.q.weight", None, None, &plain).unwrap().is_none());
    assert!(read("h.0.q.weight", None, None, &|_| None).unwrap().is_none());
}

/// One change to a tensor.
#[derive(Clone, Debug)]
enum Change {
    Remove,
    Resize(usize),
    Flip(usize, u8),
    Retype(Dtype),
    Side(usize, usize),
    Sides(Vec<usize>),
}

fn changes() -> impl Strategy<Value = Change> {
    let side = prop_oneof![0usize..300, Just(usize::MAX), Just(usize::MAX / 16 + 1), Just(1 << 32)];
    let dtypes = vec![
        Dtype::U8,
        Dtype::I8,
        Dtype::I32,
        Dtype::F8E4M3,
        Dtype::F8E8M0,
        Dtype::F16,
        Dtype::Bf16,
        Dtype::F32,
        Dtype::Other,
    ];
    prop_oneof![
        1 => Just(Change::Remove),
        2 => (0usize..600).prop_map(Change::Resize),
        6 => (any::<usize>(), any::<u8>()).prop_map(|(at, bits)| Change::Flip(at, bits)),
        1 => proptest::sample::select(dtypes).prop_map(Change::Retype),
        2 => (0usize..4, side.clone()).prop_map(|(at, side)| Change::Side(at, side)),
        1 => proptest::collection::vec(side, 0..5).prop_map(Change::Sides),
    ]
}

fn apply(tensors: &mut Tensors, which: usize, change: &Change) {
    let name = tensors.keys().nth(which % tensors.len().max(1)).cloned();
    let Some(name) = name else { return };
    let Some(piece) = tensors.get_mut(&name) else { return };
    let mut bytes = piece.bytes.to_vec();
    match change {
        Change::Remove => return drop(tensors.remove(&name)),
        Change::Resize(length) => bytes.resize(*length, 0x7c),
        Change::Flip(at, bits) if !bytes.is_empty() => {
            let at = at % bytes.len();
            bytes[at] ^= bits;
        }
        Change::Flip(..) => {}
        Change::Retype(dtype) => piece.dtype = *dtype,
        Change::Side(at, side) if !piece.shape.is_empty() => {
            let at = at % piece.shape.len();
            piece.shape[at] = *side;
        }
        Change::Side(..) => {}
        Change::Sides(sides) => piece.shape.clone_from(sides),
    }
    piece.bytes = bytes.into();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(3000), ..ProptestConfig::default() })]

    #[test]
    fn changed_tensors_are_refused_or_give_finite_weights(
        which in any::<proptest::sample::Index>(),
        changes in proptest::collection::vec((0usize..8, changes()), 1..4),
    ) {
        thread_local!(static CASES: Vec<(Case, Tensors)> = golden_cases().into_iter().map(with_tensors).collect());
        let checked = CASES.with(|cases| {
            let (case, tensors) = &cases[which.index(cases.len())];
            let mut tensors = tensors.clone();
            changes.iter().for_each(|(which, change)| apply(&mut tensors, *which, change));
            match case.read(&tensors, None) {
                Ok(matrices) => matrices.iter().all(is_sound),
                Err(error) => error.to_string().contains("h.0.q"),
            }
        });
        prop_assert!(checked);
    }
}

fn with_tensors(case: Case) -> (Case, Tensors) {
    let tensors = case.pieces();
    (case, tensors)
}

/// Whether the numbers of a matrix are finite, if its codes are numbers.
fn is_sound(matrix: &PackedMatrix) -> bool {
    let mut row = vec![0.0; matrix.columns()];
    let finite = (0..matrix.rows()).all(|at| {
        matrix.unpack_rows(at..at + 1, &mut row);
        row.iter().all(|number| number.is_finite())
    });
    finite != matrix.first_not_finite().is_some()
}
