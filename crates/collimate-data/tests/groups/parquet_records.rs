//! Why we do not assemble rows with the `parquet` crate's record reader.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use collimate_data::JsonRows;
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::RowAccessor;
use parquet::schema::parser::parse_message_type;

/// Writes two rows whose columns disagree: contents `[a, b]` with rewards `[1]`, contents `[c]` with rewards `[2, 3]`.
fn write_disagreeing(path: &Path) {
    let schema = "message schema { required group responses (LIST) { repeated group list { required group element {
        required binary content (UTF8); required double reward; } } } }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut file = SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::default()).unwrap();
    let mut rows = file.next_row_group().unwrap();
    let mut contents = rows.next_column().unwrap().unwrap();
    let texts = ["a", "b", "c"].map(ByteArray::from);
    contents.typed::<ByteArrayType>().write_batch(&texts, Some(&[1, 1, 1]), Some(&[0, 1, 0])).unwrap();
    contents.close().unwrap();
    let mut rewards = rows.next_column().unwrap().unwrap();
    rewards.typed::<DoubleType>().write_batch(&[1.0, 2.0, 3.0], Some(&[1, 1, 1]), Some(&[0, 0, 1])).unwrap();
    rewards.close().unwrap();
    rows.close().unwrap();
    file.close().unwrap();
}

#[test]
fn a_row_whose_columns_disagree_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.parquet");
    write_disagreeing(&path);
    let error = JsonRows::open(&path).unwrap().next().unwrap().unwrap_err().to_string();
    assert!(error.ends_with("data.parquet:1: the columns of the row do not agree"), "{error}");
}

/// If this fails, the crate now refuses such rows, and its record reader deserves another look.
#[test]
fn the_crates_record_reader_gives_a_response_the_reward_of_another_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.parquet");
    write_disagreeing(&path);
    let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
    let first = reader.get_row_iter(None).unwrap().next().unwrap().unwrap();
    let responses = first.get_list(0).unwrap().elements();
    assert_eq!(responses[1].to_string(), r#"{content: "b", reward: 2.0}"#);
}
