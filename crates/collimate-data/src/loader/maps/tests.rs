use std::io::Write;

use rstest::rstest;

use super::*;

/// A file with this header and these bytes after it.
fn file(header: &Value, data: &[u8]) -> File {
    let header = header.to_string();
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&(header.len() as u64).to_le_bytes()).expect("written");
    file.write_all(header.as_bytes()).expect("written");
    file.write_all(data).expect("written");
    file
}

fn header() -> Value {
    json!({
        "__metadata__": {"format": "pt"},
        "condition": {"dtype": "I64", "shape": [2], "data_offsets": [0, 16]},
        "tokens": {"dtype": "U16", "shape": [2, 2, 2], "data_offsets": [16, 32]},
        "reward": {"dtype": "F32", "shape": [2, 1], "data_offsets": [32, 40]},
    })
}

fn data() -> Vec<u8> {
    let conditions = [3_i64, 1].map(i64::to_le_bytes).concat();
    let tokens = [1_u16, 2, 3, 60_000, 5, 6, 7, 8].map(u16::to_le_bytes).concat();
    [conditions, tokens, [0.5_f32, -2.0].map(f32::to_le_bytes).concat()].concat()
}

#[test]
fn a_row_is_that_of_json_lines() {
    let mut rows = MapRows::open(file(&header(), &data())).expect("token maps");
    assert_eq!(rows.columns(), ["condition", "tokens", "reward"]);
    let found: Vec<Value> = std::iter::from_fn(|| rows.next()).collect::<Result<_, _>>().expect("rows");
    let expected = [
        json!({"condition": 3, "tokens": [1, 2, 3, 60_000], "reward": 0.5}),
        json!({"condition": 1, "tokens": [5, 6, 7, 8], "reward": -2.0}),
    ];
    assert_eq!((found.as_slice(), rows.number), (&expected[..], 2));
}

#[rstest]
#[case("tokens", json!(null), "this is a safetensors file: weights, not data")]
#[case("condition", json!(null), "tensor \"condition\": it is missing")]
#[case("labels", json!({"dtype": "I64", "shape": [2], "data_offsets": [0, 16]}), "tensor \"labels\": it is unknown")]
#[case("tokens", json!({"dtype": "BF16", "shape": [2, 4], "data_offsets": [16, 32]}), "tensor \"tokens\": numbers of type \"BF16\"")]
#[case("tokens", json!({"dtype": "F32", "shape": [2, 2], "data_offsets": [16, 32]}), "tensor \"tokens\": expected whole numbers")]
#[case("tokens", json!({"dtype": "U16", "shape": [2, 5], "data_offsets": [16, 32]}), "tensor \"tokens\": its shape [2, 5]")]
#[case("tokens", json!({"dtype": "U16", "shape": [2, 4], "data_offsets": [32, 48]}), "do not fit the file")]
#[case("tokens", json!({"dtype": "U16", "shape": [4, 2], "data_offsets": [16, 32]}), "tensor \"condition\": expected one number for each of the 4 rows")]
#[case("tokens", json!({"dtype": "U16", "shape": [u64::MAX, 4], "data_offsets": [16, 32]}), "do not fit the file")]
#[case("tokens", json!({"dtype": "U16", "shape": [2, 0], "data_offsets": [16, 16]}), "expected 1 to")]
#[case("reward", json!({"dtype": "F32", "shape": [], "data_offsets": [32, 36]}), "tensor \"reward\": expected a shape")]
fn a_tensor_that_cannot_be_used_is_named(#[case] name: &str, #[case] tensor: Value, #[case] problem: &str) {
    let mut header = header();
    match tensor {
        Value::Null => _ = header.as_object_mut().expect("an object").remove(name),
        tensor => header[name] = tensor,
    }
    let error = MapRows::open(file(&header, &data())).err().expect("refused");
    assert!(error.contains(problem), "{error}");
}

#[test]
fn a_header_that_claims_more_than_the_file_is_refused() {
    let mut short = tempfile::tempfile().expect("a file");
    short.write_all(&(1_u64 << 40).to_le_bytes()).expect("written");
    short.write_all(b"{}").expect("written");
    assert!(MapRows::open(short).err().expect("refused").contains("a header of"));
    let cut = file(&header(), &data()[..30]);
    assert!(MapRows::open(cut).err().expect("refused").contains("do not fit the file"));
}
