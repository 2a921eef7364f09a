//! Every numeric type of Parquet can be a reward.

use collimate_data::{DataError, DataSource, LoadOptions, PromptGroup};
use parquet::basic::Compression;
use rstest::rstest;
use serde_json::{Value, json};

use crate::common::rewards;
use crate::shred::write_packed;

/// A file of one row whose scores have a type, beside a column that nobody reads.
fn read(ty: &str, annotation: &str, scores: [Value; 2], unread: Value) -> Result<Vec<PromptGroup>, DataError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.parquet");
    let schema = format!(
        "message row {{ required binary prompt (UTF8); required binary chosen (UTF8); required binary rejected (UTF8);
           optional {ty} score_chosen {annotation}; optional {ty} score_rejected {annotation};
           optional double unread; }}"
    );
    let [chosen, rejected] = scores;
    let row = json!({"prompt": "Q", "chosen": "A", "rejected": "B", "score_chosen": chosen, "score_rejected": rejected,
                     "unread": unread});
    write_packed(&path, &schema, &[row], Compression::UNCOMPRESSED);
    DataSource::open(&path, &LoadOptions::default())?.collect()
}

#[rstest]
#[case::int8("int32", "(INTEGER(8,true))", [json!(3), json!(-2)], [3.0, -2.0])]
#[case::int16("int32", "(INTEGER(16,true))", [json!(300), json!(-2)], [300.0, -2.0])]
#[case::int32("int32", "", [json!(3), json!(-2)], [3.0, -2.0])]
#[case::int64("int64", "(INTEGER(64,true))", [json!(3), json!(-2)], [3.0, -2.0])]
#[case::uint8("int32", "(INTEGER(8,false))", [json!(200), json!(2)], [200.0, 2.0])]
#[case::uint16("int32", "(INTEGER(16,false))", [json!(60_000), json!(2)], [60_000.0, 2.0])]
#[case::uint32("int32", "(INTEGER(32,false))", [json!(-1), json!(2)], [4_294_967_295.0, 2.0])]
#[case::uint64("int64", "(INTEGER(64,false))", [json!(-1), json!(2)], [18_446_744_073_709_551_615.0, 2.0])]
// 1.5 and −2 with five bits of exponent, little end first.
#[case::float16("fixed_len_byte_array(2)", "(FLOAT16)", [json!([0x00, 0x3e]), json!([0x00, 0xc0])], [1.5, -2.0])]
#[case::float32("float", "", [json!(1.5), json!(-2.0)], [1.5, -2.0])]
#[case::float64("double", "", [json!(1.5), json!(-2.0)], [1.5, -2.0])]
#[case::decimal32("int32", "(DECIMAL(9,2))", [json!(150), json!(-200)], [1.5, -2.0])]
#[case::decimal64("int64", "(DECIMAL(18,2))", [json!(150), json!(-200)], [1.5, -2.0])]
#[case::decimal_in_bytes("binary", "(DECIMAL(5,2))", [json!([0x00, 0x96]), json!([0xff, 0x38])], [1.5, -2.0])]
#[case::decimal_of_fixed_length("fixed_len_byte_array(3)", "(DECIMAL(5,2))", [json!([0, 0, 0x96]), json!([0xff, 0xff, 0x38])],
                                [1.5, -2.0])]
#[case::truth("boolean", "", [json!(true), json!(false)], [1.0, 0.0])]
fn a_score_may_have_any_type(
    #[case] ty: &str,
    #[case] annotation: &str,
    #[case] scores: [Value; 2],
    #[case] expected: [f64; 2],
) {
    let groups = read(ty, annotation, scores, json!("NaN")).unwrap();
    assert_eq!(rewards(&groups[0]), expected);
}

/// 256 bits, as Arrow's widest decimals.
#[test]
fn a_decimal_may_be_wide() {
    let bytes = |low: [u8; 2], fill: u8| {
        let mut bytes = vec![fill; 32];
        bytes[30..].copy_from_slice(&low);
        json!(bytes)
    };
    let scores = [bytes([0x00, 0x96], 0), bytes([0xff, 0x38], 0xff)];
    let groups = read("fixed_len_byte_array(32)", "(DECIMAL(70,2))", scores, Value::Null).unwrap();
    assert_eq!(rewards(&groups[0]), [1.5, -2.0]);
}

#[test]
fn a_half_that_is_not_a_number_is_missing() {
    let scores = [json!([0x00, 0x7e]), json!([0x00, 0xc0])];
    let error = read("fixed_len_byte_array(2)", "(FLOAT16)", scores, Value::Null).unwrap_err().to_string();
    assert!(
        error.contains("field \"score_chosen\": expected a finite number, like the other response's, found nothing"),
        "{error}"
    );
}
