//! Compressed files, lists, folders and patterns instead of a single JSON Lines file.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use collimate_data::{DataSource, JsonRows, LoadOptions, data_files, data_stem};
use rstest::rstest;
use serde_json::json;

const ROWS: [&str; 3] = [
    r#"{"prompt": "a", "chosen": "b", "rejected": "c"}"#,
    r#"{"prompt": "d", "chosen": "e", "rejected": "f"}"#,
    r#"{"prompt": "g", "chosen": "h", "rejected": "i"}"#,
];

fn lines() -> Vec<u8> {
    ROWS.map(|row| format!("{row}\n")).concat().into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

fn prompts(path: &Path) -> Vec<(usize, String)> {
    let files = data_files(path).unwrap();
    let groups = DataSource::open_all(files, &LoadOptions::default()).unwrap();
    groups
        .map(|group| group.unwrap())
        .map(|group| (group.index, serde_json::to_string(&group.prompt).unwrap()))
        .collect()
}

#[rstest]
#[case::gzip("rows.jsonl.gz", gzip(&lines()))]
// Two members, as written by `cat a.gz b.gz`.
#[case::members("rows.jsonl.gz", [gzip(ROWS[0].as_bytes()), gzip(format!("\n{}\n{}", ROWS[1], ROWS[2]).as_bytes())].concat())]
#[case::zstd("rows.jsonl.zst", zstd(&lines()))]
#[case::list("rows.json", format!("[\n  {}\n]\n", ROWS.join(",\n  ")).into_bytes())]
#[case::list_on_a_line("rows.json", format!("[{}]", ROWS.join(",")).into_bytes())]
#[case::packed_list("rows.json.gz", gzip(format!("[{}]", ROWS.join(", ")).as_bytes()))]
// Recognized by content, not by name.
#[case::other_name("rows.txt", zstd(&lines()))]
fn the_same_rows_are_read(#[case] name: &str, #[case] bytes: Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    let expected: Vec<_> = ["\"a\"", "\"d\"", "\"g\""].into_iter().map(str::to_owned).enumerate().collect();
    assert_eq!(prompts(&path), expected);
}

#[rstest]
#[case::gzip(gzip(&lines())[..40].to_vec())]
#[case::zstd(zstd(&lines())[..40].to_vec())]
fn a_truncated_compressed_file_is_an_error(#[case] bytes: Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    fs::write(&path, bytes).unwrap();
    let rows = DataSource::open(&path, &LoadOptions::default()).and_then(|rows| rows.collect::<Result<Vec<_>, _>>());
    let error = rows.unwrap_err().to_string();
    assert!(error.contains("rows") && error.contains("its compressed data is damaged"), "{error}");
}

#[test]
fn a_decompression_bomb_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb.jsonl.zst");
    // 200 MiB of blank lines, compressed to a few kilobytes.
    fs::write(&path, zstd(&vec![b'\n'; 200 << 20])).unwrap();
    let error = DataSource::open(&path, &LoadOptions::default()).unwrap_err().to_string();
    assert!(error.contains("decompresses to more than 1000 times its size"), "{error}");
}

#[rstest]
#[case("train-*.jsonl", &["train-0.jsonl", "train-1.jsonl", "train-10.jsonl"])]
#[case("**/*.jsonl.gz", &["more/deep/x.jsonl.gz"])]
#[case("train-?.jsonl", &["train-0.jsonl", "train-1.jsonl"])]
#[case("more", &["more/a.parquet", "more/b.jsonl"])]
#[case("clone", &["clone/data/train.parquet"])]
#[case("described", &["described/rows.json"])]
#[case("train-0.jsonl", &["train-0.jsonl"])]
fn files_are_found_sorted_by_name(#[case] name: &str, #[case] expected: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    for file in [
        "train-10.jsonl",
        "train-0.jsonl",
        "train-1.jsonl",
        "test.jsonl",
        "more/b.jsonl",
        "more/a.parquet",
        "more/dataset_info.json",
        "more/.hidden.jsonl",
        "more/deep/x.jsonl.gz",
        "clone/README.md",
        "clone/data/train.parquet",
        "described/rows.json",
    ] {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    let found = data_files(&folder.path().join(name)).unwrap();
    let expected: Vec<PathBuf> = expected.iter().map(|file| folder.path().join(file)).collect();
    assert_eq!(found, expected);
}

#[rstest]
#[case("none-*.jsonl", "no file matches")]
#[case("a[", "not a valid pattern: ")]
#[case("empty", "the folder has no data files (.jsonl, ")]
fn names_without_files_are_errors(#[case] name: &str, #[case] expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    let error = data_files(&folder.path().join(name)).unwrap_err().to_string();
    assert!(error.contains(expected) && error.contains(name), "{error}");
}

#[rstest]
#[case("train-00000-of-00002.parquet", Some("train-00000-of-00002"))]
#[case("a/train.jsonl.gz", Some("train"))]
#[case("rows.json", Some("rows"))]
#[case("README.md", None)]
fn the_stem_has_no_extensions(#[case] name: &str, #[case] expected: Option<&str>) {
    assert_eq!(data_stem(Path::new(name)), expected);
}

#[test]
fn several_files_are_read_as_one_and_errors_name_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.jsonl"), format!("{}\n\n{}\n", ROWS[0], ROWS[1])).unwrap();
    fs::write(folder.path().join("b.jsonl"), format!("\n{}\n{{\"prompt\": \"x\"}}\n", ROWS[2])).unwrap();
    let files = data_files(folder.path()).unwrap();
    let mut groups = DataSource::open_all(files, &LoadOptions::default()).unwrap();
    let places: Vec<_> =
        groups.by_ref().take(3).map(|group| group.unwrap()).map(|group| (group.index, group.line)).collect();
    assert_eq!(places, [(0, 1), (1, 3), (2, 2)]);
    assert!(groups.files().location(1, 3).ends_with("a.jsonl:3"));
    assert!(groups.files().location(2, 2).ends_with("b.jsonl:2"));
    let error = groups.next().unwrap().unwrap_err().to_string();
    assert!(error.contains("b.jsonl:3: field \"chosen\": "), "{error}");
    assert!(groups.next().is_none());
    assert_eq!(groups.counts().num_rows, 4);
}

#[test]
fn a_further_file_in_another_layout_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.jsonl"), ROWS[0]).unwrap();
    fs::write(folder.path().join("b.jsonl"), r#"{"prompt": "x", "responses": []}"#).unwrap();
    let groups = DataSource::open_all(data_files(folder.path()).unwrap(), &LoadOptions::default()).unwrap();
    let error = groups.last().unwrap().unwrap_err().to_string();
    assert!(error.contains("b.jsonl: it has the layout collimate, but "), "{error}");
    assert!(error.ends_with("a.jsonl has preference"), "{error}");
}

#[test]
fn a_missing_file_is_an_error_and_the_others_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("a.jsonl"), ROWS[0]).unwrap();
    fs::write(path("c.jsonl"), ROWS[1]).unwrap();
    let files = vec![path("a.jsonl"), path("b.jsonl"), path("c.jsonl")];
    let found: Vec<_> = DataSource::open_all(files, &LoadOptions::default()).unwrap().collect();
    assert_eq!(found.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn json_rows_need_no_layout() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.json");
    fs::write(&path, "[{\"x\": 1},\n {\"y\": [2]}]").unwrap();
    let rows: Vec<_> = JsonRows::open(&path).unwrap().map(|row| row.unwrap()).collect();
    let found: Vec<_> = rows.into_iter().map(|row| (row.line, row.value)).collect();
    assert_eq!(found, [(1, json!({"x": 1})), (2, json!({"y": [2]}))]);
}
