//! Parquet files: the same rows and groups as JSON Lines, and errors that name row and field.

use std::fs;
use std::path::{Path, PathBuf};

use collimate_data::{DataError, DataSource, JsonRows, LoadOptions, PromptGroup};
use parquet::basic::{Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterVersion;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use crate::common::fixture;
use crate::shred::{write_packed, write_parquet};

const MESSAGES: &str = "(LIST) { repeated group list { optional group element {
    optional binary role (UTF8); optional binary content (UTF8); } } }";

fn groups(path: &Path) -> Result<Vec<PromptGroup>, DataError> {
    DataSource::open(path, &LoadOptions::default())?.collect()
}

fn first_error(path: &Path) -> String {
    let named = format!("{}/", path.parent().unwrap().display());
    groups(path).expect_err("an error").to_string().replace(&named, "")
}

/// The rows of a fixture, and its groups as read from JSON Lines.
fn fixture_rows(name: &str) -> (Vec<Value>, Vec<PromptGroup>) {
    let text = fs::read_to_string(fixture(name)).unwrap();
    let rows = text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap());
    (rows.collect(), groups(&fixture(name)).unwrap())
}

/// Clears line numbers, which depend on blank lines.
fn without_lines(groups: Vec<PromptGroup>) -> Vec<PromptGroup> {
    groups.into_iter().map(|group| PromptGroup { line: 0, ..group }).collect()
}

fn schema_of(name: &str) -> String {
    let fields = match name {
        "preference_scored.jsonl" => format!(
            "optional binary prompt (UTF8); optional group chosen {MESSAGES} optional group rejected {MESSAGES}
             optional double score_chosen; optional double score_rejected;"
        ),
        "preference_text.jsonl" => {
            "optional binary prompt (UTF8); optional binary chosen (UTF8); optional binary rejected (UTF8);
             optional double score_chosen; optional double score_rejected;"
                .to_owned()
        }
        "preference_messages.jsonl" => {
            format!(
                "optional group prompt {MESSAGES} optional group chosen {MESSAGES} optional group rejected {MESSAGES}"
            )
        }
        "nectar.jsonl" => "optional binary prompt (UTF8); optional group answers (LIST) { repeated group list {
             optional group element { optional binary answer (UTF8); optional double rank; } } }"
            .to_owned(),
        "ultrafeedback.jsonl" => "required binary instruction (UTF8); required group completions (LIST) {
             repeated group list { required group element { optional binary response (UTF8);
             optional double overall_score; optional group annotations {
             optional group helpfulness { optional binary Rating (UTF8); }
             optional group honesty { optional binary Rating (UTF8); }
             optional group truthfulness { optional binary Rating (UTF8); } } } } }"
            .to_owned(),
        other => panic!("no schema for {other}"),
    };
    format!("message schema {{ {fields} }}")
}

#[rstest]
fn parquet_gives_the_same_groups_as_json_lines(
    #[values(
        "preference_scored.jsonl",
        "preference_text.jsonl",
        "preference_messages.jsonl",
        "nectar.jsonl",
        "ultrafeedback.jsonl"
    )]
    name: &str,
    #[values(1, 2, 1000)] rows_in_group: usize,
) {
    let folder = tempfile::tempdir().unwrap();
    let (rows, expected) = fixture_rows(name);
    let path = folder.path().join("data.parquet");
    write_parquet(&path, &schema_of(name), &rows, rows_in_group, |properties| properties);
    let found = groups(&path).unwrap();
    assert_eq!(found.iter().map(|group| group.line).collect::<Vec<_>>(), (1..=rows.len()).collect::<Vec<_>>());
    assert_eq!(without_lines(found), without_lines(expected));
}

const NESTED: &str = "message schema {
    optional group row (LIST) { repeated group list { optional group element {
        optional binary text (UTF8);
        required boolean flag;
        optional group deep (LIST) { repeated group list { optional group element (LIST) {
            repeated group list { optional int64 element; } } } }
        optional group inside { optional double x; required int32 y; }
    } } }
    repeated int32 bare;
    required group pair { optional group words (LIST) { repeated group list { required binary element (UTF8); } } }
}";

/// Rows of the schema above, with nulls and empty lists everywhere.
fn nested_row() -> impl Strategy<Value = Value> {
    let maybe = |strategy: BoxedStrategy<Value>| prop_oneof![1 => Just(Value::Null), 3 => strategy];
    let list = |strategy: BoxedStrategy<Value>| prop::collection::vec(strategy, 0..4).prop_map(Value::Array).boxed();
    let whole = maybe(any::<i64>().prop_map(Value::from).boxed()).boxed();
    let deep = maybe(list(maybe(list(whole)).boxed()));
    let inside = (maybe((-100..100_i32).prop_map(|x| json!(f64::from(x) / 8.0)).boxed()), any::<i32>())
        .prop_map(|(x, y)| json!({"x": x, "y": y}));
    let element = (maybe("[a-zß€]{0,6}".prop_map(Value::from).boxed()), any::<bool>(), deep, maybe(inside.boxed()))
        .prop_map(|(text, flag, deep, inside)| json!({"text": text, "flag": flag, "deep": deep, "inside": inside}));
    let rows = maybe(list(maybe(element.boxed()).boxed()));
    let bare = prop::collection::vec(any::<i32>(), 0..4);
    let words = maybe(list("[a-z]{0,3}".prop_map(Value::from).boxed()));
    (rows, bare, words).prop_map(|(row, bare, words)| json!({"row": row, "bare": bare, "pair": {"words": words}}))
}

/// Removes null fields.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let there = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(there.map(|(name, value)| (name.clone(), without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_of_any_nesting_round_trip(
        rows in prop::collection::vec(nested_row(), 1..12),
        rows_in_group in 1_usize..6,
        second_version in any::<bool>(),
        page_rows in 1_usize..4,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nested.parquet");
        let version = if second_version { WriterVersion::PARQUET_2_0 } else { WriterVersion::PARQUET_1_0 };
        write_parquet(&path, NESTED, &rows, rows_in_group, |properties| {
            properties.set_writer_version(version).set_data_page_row_count_limit(page_rows).set_write_batch_size(1)
        });
        let found: Vec<Value> = JsonRows::open(&path).unwrap().map(|row| row.unwrap().value).collect();
        prop_assert_eq!(found, rows.iter().map(without_nulls).collect::<Vec<_>>());
    }
}

#[rstest]
#[case(Compression::UNCOMPRESSED)]
#[case(Compression::SNAPPY)]
#[case(Compression::GZIP(GzipLevel::default()))]
#[case(Compression::ZSTD(ZstdLevel::default()))]
#[case(Compression::LZ4)]
#[case(Compression::LZ4_RAW)]
fn every_codec_is_decompressed(#[case] codec: Compression) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.parquet");
    let (rows, expected) = fixture_rows("preference_scored.jsonl");
    write_packed(&path, &schema_of("preference_scored.jsonl"), &rows, codec);
    assert_eq!(without_lines(groups(&path).unwrap()), without_lines(expected));
}

#[rstest]
#[case(Encoding::PLAIN)]
#[case(Encoding::DELTA_LENGTH_BYTE_ARRAY)]
fn these_text_encodings_are_supported(#[case] encoding: Encoding, #[values(false, true)] second_version: bool) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.parquet");
    let schema =
        "message schema { optional group a (LIST) { repeated group list { optional binary element (UTF8); } } }";
    let rows = [json!({"a": ["x", null, "yy"]}), json!({"a": []}), json!({"a": ["zzz"]})];
    let version = if second_version { WriterVersion::PARQUET_2_0 } else { WriterVersion::PARQUET_1_0 };
    write_parquet(&path, schema, &rows, 10, |properties| {
        properties.set_dictionary_enabled(false).set_encoding(encoding).set_writer_version(version)
    });
    let found: Vec<Value> = JsonRows::open(&path).unwrap().map(|row| row.unwrap().value).collect();
    assert_eq!(found, rows);
}

#[test]
fn an_encoding_of_unbounded_size_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.parquet");
    let rows = [json!({"prompt": "a"}), json!({"prompt": "ab"})];
    write_parquet(&path, "message schema { required binary prompt (UTF8); }", &rows, 10, |properties| {
        properties.set_dictionary_enabled(false).set_encoding(Encoding::DELTA_BYTE_ARRAY)
    });
    let error = JsonRows::open(&path).unwrap().next().unwrap().unwrap_err().to_string();
    let expected = "data.parquet:1: column \"prompt\": the encoding DELTA_BYTE_ARRAY is not supported; write the file with another";
    assert!(error.ends_with(expected), "{error}");
}

fn scored(rows: &[Value]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.parquet");
    write_parquet(&path, &schema_of("preference_text.jsonl"), rows, 2, |properties| properties);
    (folder, path)
}

#[test]
fn an_error_names_the_row_of_the_file_and_the_field() {
    let sound = json!({"prompt": "a", "chosen": "b", "rejected": "c", "score_chosen": 2.0, "score_rejected": 1.0});
    let (mut missing, mut infinite) = (sound.clone(), sound.clone());
    missing["rejected"] = Value::Null;
    infinite["score_chosen"] = json!("inf");
    let (_folder, path) = scored(&[sound.clone(), sound.clone(), sound.clone(), missing]);
    assert_eq!(
        first_error(&path),
        r#"data.parquet:4: field "rejected": expected a string or a list of messages, found nothing"#
    );
    let (_folder, path) = scored(&[sound.clone(), sound, infinite]);
    assert_eq!(first_error(&path), r#"data.parquet:3: field "score_chosen": expected a finite number, found "inf""#);
}

#[test]
fn columns_that_are_null_in_the_first_row_still_tell_the_layout() {
    let null = json!({"prompt": "a", "chosen": null, "rejected": null});
    let sound = json!({"prompt": "a", "chosen": "b", "rejected": "c"});
    let (_folder, path) = scored(&[null, sound]);
    let mut reader = DataSource::open(&path, &LoadOptions::default()).unwrap();
    assert_eq!(reader.describe().layout.name(), "preference");
    assert!(reader.next().unwrap().is_err());
    assert_eq!(reader.next().unwrap().unwrap().line, 2);
}

#[test]
fn columns_of_an_unknown_layout_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.parquet");
    let schema = "message schema { required binary question (UTF8); required int64 answer; }";
    write_packed(&path, schema, &[json!({"question": "q", "answer": 1})], Compression::SNAPPY);
    let error = first_error(&path);
    assert!(
        error.starts_with("data.parquet:1: no layout is known for a row with question, answer; there are"),
        "{error}"
    );
}

#[rstest]
#[case::cut_off(|bytes: &mut Vec<u8>| bytes.truncate(200), "not a readable Parquet file: it is truncated")]
#[case::encrypted(
    |bytes: &mut Vec<u8>| { let end = bytes.len(); bytes[end - 4..].copy_from_slice(b"PARE"); },
    "not a readable Parquet file: it is encrypted"
)]
#[case::footer_beyond(
    |bytes: &mut Vec<u8>| { let end = bytes.len(); bytes[end - 8..end - 4].copy_from_slice(&[0xff; 4]); },
    "not a readable Parquet file: it claims a footer of 4294967295 bytes"
)]
#[case::only_magic(|bytes: &mut Vec<u8>| bytes.truncate(4), "not a readable Parquet file: it is truncated")]
fn a_damaged_file_is_refused(#[case] damage: fn(&mut Vec<u8>), #[case] expected: &str) {
    let sound = json!({"prompt": "a", "chosen": "b", "rejected": "c"});
    let (_folder, path) = scored(&[sound]);
    let mut bytes = fs::read(&path).unwrap();
    damage(&mut bytes);
    fs::write(&path, bytes).unwrap();
    let error = first_error(&path);
    assert!(error.starts_with(&format!("data.parquet: {expected}")), "{error}");
}

/// Flips every byte of a small file in turn: the result is a value or an error, never a panic.
#[test]
fn a_file_with_any_byte_flipped_does_not_panic() {
    let sound = json!({"prompt": "a", "chosen": "b", "rejected": "c", "score_chosen": 2.0, "score_rejected": 1.0});
    let (_folder, path) = scored(&[sound.clone(), sound]);
    let bytes = fs::read(&path).unwrap();
    let mut refused = 0;
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0xff;
        fs::write(&path, changed).unwrap();
        let rows = DataSource::open(&path, &LoadOptions::default());
        refused += usize::from(rows.and_then(|rows| rows.collect::<Result<Vec<_>, _>>()).is_err());
    }
    assert!(refused > bytes.len() / 8, "{refused} of {} are refused", bytes.len());
}
