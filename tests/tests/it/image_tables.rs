//! Images whose bytes are in Parquet files, as data sets store them: `{"bytes", "path"}` beside the conversation.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use collimate_counting::assets::write_base;
use collimate_counting::question::{Split, counting_question};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{Folder, collimate, succeed};

/// TRL's columns, each list of one element.
const SCHEMA: &str = "message rows {
    required group prompt (LIST) { repeated group list { required group element {
        required binary role (UTF8); required binary content (UTF8); } } }
    required group chosen (LIST) { repeated group list { required group element {
        required binary role (UTF8); required binary content (UTF8); } } }
    required group rejected (LIST) { repeated group list { required group element {
        required binary role (UTF8); required binary content (UTF8); } } }
    required group images (LIST) { repeated group list { required group element {
        optional binary bytes; optional binary path (UTF8); } } } }";

/// A row: its question, its answers, and the bytes and the path of its image.
struct Row {
    text: String,
    answers: [String; 2],
    bytes: Option<Vec<u8>>,
    path: Option<&'static str>,
}

/// A row whose image is good, and the image's file.
fn row(index: u64) -> (Row, Vec<u8>) {
    let question = counting_question(5, index, Split::Train);
    let image = question.scene.draw().to_png().expect("a file");
    let answers = [question.solution(), "1+1+1+1. Answer: 4".to_owned()];
    (Row { text: question.text(), answers, bytes: Some(image.clone()), path: Some("elsewhere.png") }, image)
}

fn write_table(path: &Path, rows: &[Row]) {
    let schema = Arc::new(parse_message_type(SCHEMA).expect("a schema"));
    let mut file =
        SerializedFileWriter::new(File::create(path).expect("a file"), schema, Arc::default()).expect("a writer");
    let texts = |of: fn(&Row) -> &str| rows.iter().map(|row| Some(of(row).as_bytes().to_vec())).collect::<Vec<_>>();
    let columns: [Vec<Option<Vec<u8>>>; 8] = [
        texts(|_| "user"),
        texts(|row| &row.text),
        texts(|_| "assistant"),
        texts(|row| &row.answers[0]),
        texts(|_| "assistant"),
        texts(|row| &row.answers[1]),
        rows.iter().map(|row| row.bytes.clone()).collect(),
        rows.iter().map(|row| row.path.map(|path| path.as_bytes().to_vec())).collect(),
    ];
    let mut group = file.next_row_group().expect("a group");
    for (number, cells) in columns.into_iter().enumerate() {
        // An element of a list, and where it may be missing whether it is there.
        let defs: Vec<i16> = cells.iter().map(|cell| 1 + i16::from(number >= 6 && cell.is_some())).collect();
        let values: Vec<ByteArray> = cells.iter().flatten().map(|cell| ByteArray::from(cell.clone())).collect();
        let mut column = group.next_column().expect("a column").expect("one more");
        let reps = vec![0; cells.len()];
        column.typed::<ByteArrayType>().write_batch(&values, Some(&defs), Some(&reps)).expect("values");
        column.close().expect("a column");
    }
    group.close().expect("a group");
    file.close().expect("a file");
}

/// Token ids and log-probs of everything in a file of data.
fn scored(folder: &Folder, model: &str, data: &str, name: &str) -> Vec<[Value; 2]> {
    let output = folder.arg(name);
    succeed(&["score", "--tokens", "--model", model, "--data", data, "--output", &output]);
    let rows = folder.rows(name);
    assert!(rows.iter().all(|row| row["prompt_ids"].is_array()), "{rows:?}");
    rows.iter().map(|row| [row["prompt_ids"].clone(), row["responses"].clone()]).collect()
}

#[test]
fn bytes_of_images_in_a_table_are_read_as_their_files() {
    let folder = Folder::new();
    write_base(&folder.path("model")).expect("a model");
    let model = folder.arg("model");
    let mut lines = String::new();
    let mut rows = Vec::new();
    for index in 0..4 {
        let (mut row, image) = row(index);
        folder.write(&format!("images/{index}.png"), image);
        let turn = |role: &str, text: &str| json!([{"role": role, "content": text}]);
        let [chosen, rejected] = row.answers.each_ref().map(|answer| turn("assistant", answer));
        let line = json!({"prompt": turn("user", &row.text), "chosen": chosen, "rejected": rejected,
            "images": [format!("images/{index}.png")]});
        lines += &format!("{line}\n");
        // The last one is a path alone, beside the table.
        if index == 3 {
            (row.bytes, row.path) = (None, Some("images/3.png"));
        }
        rows.push(row);
    }
    let files = folder.write("files.jsonl", lines);
    write_table(&folder.path("table.parquet"), &rows);
    let table = folder.arg("table.parquet");
    let from_files = scored(&folder, &model, &files, "of-files.jsonl");
    assert_eq!(from_files, scored(&folder, &model, &table, "of-table.jsonl"));
    // The log-probs see the pixels: with another image they are others.
    let (other, _) = row(9);
    rows[0].bytes = other.bytes;
    write_table(&folder.path("table.parquet"), &rows);
    let changed = scored(&folder, &model, &table, "of-other.jsonl");
    assert_eq!((&changed[0][0], &changed[1..]), (&from_files[0][0], &from_files[1..]));
    assert_ne!(changed[0][1], from_files[0][1]);
}

#[rstest]
#[case::no_image(b"\xff\xfenothing".to_vec(), "expected a PNG, JPEG or WebP image")]
#[case::text(b"images/0.png".to_vec(), "expected a PNG, JPEG or WebP image")]
#[case::nothing(Vec::new(), "expected a PNG, JPEG or WebP image")]
#[case::broken(b"\x89PNG\r\n\x1a\nnothing".to_vec(), "a broken PNG image")]
fn broken_bytes_in_a_table_are_refused_with_file_row_and_column(#[case] bytes: Vec<u8>, #[case] problem: &str) {
    let folder = Folder::new();
    let (good, image) = row(0);
    folder.write("images/0.png", image);
    // The path beside the bytes would be found.
    let bad = Row { bytes: Some(bytes), path: Some("images/0.png"), ..row(1).0 };
    write_table(&folder.path("table.parquet"), &[good, bad]);
    let table = folder.arg("table.parquet");
    for verb in ["check", "stats"] {
        let outcome = collimate(&["data", verb, &table]);
        let all = outcome.out + &outcome.err;
        let place = "table.parquet:2: field \"prompt[0].content[0].image\"";
        assert!(outcome.code != 0 && all.contains(place) && all.contains(problem), "{verb}: {all}");
    }
}
