//! All golden values of `../shared`, where that is beside the checkout; the repository has some of their kind
//! (`tests/golden.rs`).

mod common;

use std::collections::BTreeMap;

use bytes::Bytes;
use collimate_quantized::{
    Dtype, Format, PackedMatrix, Packing, QuantizationConfig, ScaleOrder, Scales, TensorPiece, Values,
    owner_of_sidecar, read,
};
use common::{base64, bits, floats, shared};
use serde::Deserialize;
use serde_json::Value;

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_else(|| panic!("{key} of {}", row["kind"]))
}

#[test]
fn bitsandbytes_bytes_scales_and_numbers() {
    let Some(file) = shared("requantise.json") else { return };
    let rows: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    for row in &rows {
        let (rows, columns) = (row["shape"][0].as_u64().unwrap() as usize, row["shape"][1].as_u64().unwrap() as usize);
        let double = row["double"].as_bool().unwrap();
        let name = format!("{} {rows} × {columns}, double {double}", row["kind"]);
        let format = if double { Format::NF4_DOUBLE } else { Format::NF4 };
        let values = floats(text(row, "values"));
        let matrix = PackedMatrix::pack(Values::F32(&values), rows, columns, format).unwrap();
        let Packing::FourBit(packed) = matrix.packing() else { panic!("{name}") };
        assert_eq!(packed.codes(), &base64(text(row, "codes")), "{name}");
        match packed.scales() {
            Scales::Float32(scales) => assert_eq!(scales, &base64(text(row, "absmax")), "{name}"),
            Scales::Double(double) => {
                assert_eq!(double.codes(), &base64(text(row, "absmax_u8")), "{name}");
                assert_eq!(bits(double.nested()), bits(&floats(text(row, "nested_absmax"))), "{name}");
                assert_eq!(bits(double.table()), bits(&floats(text(row, "nested_code"))), "{name}");
                assert_eq!(f64::from(double.offset()), row["offset"].as_f64().unwrap(), "{name}");
            }
        }
        // These were unpacked with AVX-512, where rows that are not whole blocks have other scales.
        let mut found = vec![0.0; rows * columns];
        matrix.with_scale_order(ScaleOrder::FlooredRows).unpack_rows(0..rows, &mut found);
        assert_eq!(bits(&found), bits(&floats(text(row, "dequantised"))), "{name}");
    }
    assert_eq!(rows.len(), 12);
}

/// What the header of a safetensors file says of a tensor.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

/// The tensors of a safetensors file.
fn tensors(file: &[u8]) -> Result<BTreeMap<String, TensorPiece>, serde_json::Error> {
    let (length, _) = file.split_first_chunk().unwrap_or_else(|| panic!("no header"));
    let (header, data) = file[8..].split_at(u64::from_le_bytes(*length) as usize);
    let mut header: BTreeMap<String, Value> = serde_json::from_slice(header)?;
    header.remove("__metadata__");
    let data = Bytes::from(data.to_vec());
    let piece = |(name, entry): (String, Value)| {
        let Entry { dtype, shape, data_offsets: [start, end] } = serde_json::from_value(entry)?;
        let dtype = Dtype::from_safetensors(&dtype);
        Ok((name, TensorPiece { dtype, shape, bytes: data.slice(start..end) }))
    };
    header.into_iter().map(piece).collect()
}

#[test]
fn folders_of_transformers_are_read_and_written_back() {
    let Some(models) = shared("models") else { return };
    let mut count = 0;
    for folder in std::fs::read_dir(models).unwrap().map(|entry| entry.unwrap().path()) {
        let config: Value =
            serde_json::from_str(&std::fs::read_to_string(folder.join("config.json")).unwrap()).unwrap();
        let config = QuantizationConfig::from_json(&config["quantization_config"]).unwrap();
        let tensors = tensors(&std::fs::read(folder.join("model.safetensors")).unwrap()).unwrap();
        let lookup = |name: &str| tensors.get(name).cloned();
        let mut written = 0;
        for name in tensors.keys().filter(|name| owner_of_sidecar(name).is_none()) {
            let Some(matrix) = read(name, None, Some(&config), &lookup).unwrap() else {
                assert_eq!(tensors[name].dtype, Dtype::F32, "{name}");
                continue;
            };
            for (name, piece) in matrix.to_pieces(name).unwrap() {
                let expected = &tensors[&name];
                assert_eq!((piece.dtype, &piece.shape), (expected.dtype, &expected.shape), "{name}");
                assert_eq!(piece.bytes, expected.bytes, "{name}");
                written += usize::from(owner_of_sidecar(&name).is_some());
            }
            count += 1;
        }
        let sidecars = tensors.keys().filter(|name| owner_of_sidecar(name).is_some()).count();
        assert_eq!(written, sidecars, "{}", folder.display());
    }
    assert!(count > 80, "{count} weights");
}
