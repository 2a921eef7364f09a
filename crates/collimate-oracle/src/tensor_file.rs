//! Writes safetensors files of tensors of any type, sound or not.

use std::fmt::Write;

/// A tensor as a file holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTensor {
    /// Its name.
    pub name: String,
    /// Its type, as safetensors names it.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The bytes of a safetensors file with these tensors, in this order. Nothing is checked.
pub fn safetensors_file(tensors: &[StoredTensor]) -> Vec<u8> {
    let (mut header, mut data) = (String::from("{"), Vec::new());
    for (number, StoredTensor { name, dtype, shape, bytes }) in tensors.iter().enumerate() {
        let (comma, end) = (if number > 0 { "," } else { "" }, data.len() + bytes.len());
        // Writing to a string cannot fail.
        let _ = write!(
            header,
            "{comma}{name:?}:{{\"dtype\":{dtype:?},\"shape\":{shape:?},\"data_offsets\":[{},{end}]}}",
            data.len()
        );
        data.extend(bytes);
    }
    header.push('}');
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}
