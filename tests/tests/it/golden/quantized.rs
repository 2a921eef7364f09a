//! Log-probs over packed weights: those of float64 over the numbers that they stand for.

use std::path::{Path, PathBuf};

use collimate_oracle::golden_name;
use collimate_oracle::tolerances::{PACKED_LOGPS, PACKED_TOKEN_LOGPS, assert_relative};
use rstest::rstest;
use serde_json::{Value, json};

use super::parity::{array, golden_groups, number, pairs, read_json, score, write_data};
use super::{golden, golden_arg};
use crate::harness::Folder;
use crate::packed::{packed_tensors, write_packed};

/// Compares what `score` finds with the golden values that `value` takes from a row.
#[track_caller]
fn check(groups: &[Vec<Value>], found: &[Value], value: impl Fn(&Value, &str) -> Value, what: &str) {
    let pairs = pairs(groups, found);
    assert!(pairs.len() >= 8, "{what}: {} responses", pairs.len());
    for (i, (row, response)) in pairs.into_iter().enumerate() {
        assert_eq!(response["response_ids"], row["response_ids"], "{what}, row {i}");
        let sum = number(&value(row, "logps"));
        assert_relative(number(&response["logps"]), sum, PACKED_LOGPS, &format!("{what}, row {i}"));
        let tokens = value(row, "token_logps");
        assert_eq!(array(&response["token_logps"]).len(), array(&tokens).len());
        for (t, (found, token)) in array(&response["token_logps"]).iter().zip(array(&tokens)).enumerate() {
            assert_relative(number(found), number(token), PACKED_TOKEN_LOGPS, &format!("{what}, row {i}, token {t}"));
        }
    }
}

#[rstest]
fn scores_over_packed_weights_are_those_of_pytorch(
    #[files("golden/quantized/*/golden.json")] family: PathBuf,
    #[values("nf4", "nf4-double", "int8")] format: &str,
) {
    let family = format!("{}.quantized", golden_name(&family));
    let folder = Folder::new();
    let groups = golden_groups(&family);
    let data = write_data(&folder, &groups);
    let value = |row: &Value, name: &str| row[name][format].clone();
    let plain = golden_arg(&format!("models/{family}"));
    let found = score(&folder, &data, &["--model", &plain, "--quantization", format]);
    check(&groups, &found, value, "packed when it is read");
    // The same as bitsandbytes and transformers write it.
    let model = golden(&format!("models/{family}"));
    write_packed(&model, &folder.path("packed"), format, &packed_tensors(&model, format));
    for weights in ["resident", "mapped"] {
        let again = score(&folder, &data, &["--model", &folder.arg("packed"), "--weights", weights]);
        assert_eq!(again, found, "{weights}");
    }
    let unpacked = score(&folder, &data, &["--model", &plain]);
    let moved = |(row, response): (&Value, &Value)| {
        (number(&response["logps"]) / number(&value(row, "logps")) - 1.0).abs() > 10.0 * PACKED_LOGPS
    };
    assert!(pairs(&groups, &unpacked).into_iter().any(moved), "packing that changes nothing shows nothing");
}

/// Folders as transformers writes them, where they are beside the checkout.
#[rstest]
fn scores_of_folders_of_transformers_are_those_of_pytorch(#[values("resident", "mapped")] weights: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/parity/quantised");
    let Ok(files) = root.join("logps").read_dir() else {
        println!("left out: {} is not there", root.display());
        return;
    };
    let mut count = 0;
    for file in files.map(|entry| entry.expect("an entry").path()) {
        let name = file.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
        let folder = Folder::new();
        let rows = read_json(&file);
        let groups: Vec<Vec<Value>> =
            array(&rows).chunk_by(|a, b| a["prompt"] == b["prompt"]).map(<[Value]>::to_vec).collect();
        let data = write_data(&folder, &groups);
        let model = root.join("models").join(&name).display().to_string();
        let found = score(&folder, &data, &["--model", &model, "--weights", weights]);
        check(&groups, &found, |row, key| json!(row[format!("{key}64")]), &name);
        count += 1;
    }
    assert_eq!(count, 8, "folders");
}
