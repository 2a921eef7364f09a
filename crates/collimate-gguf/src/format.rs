//! The header of a GGUF file: keys with their values, then the list of tensors.

use crate::source::TensorSource;

/// Tensors are aligned to this many bytes.
pub(crate) const ALIGNMENT: usize = 32;
pub(crate) const MAGIC: &[u8; 4] = b"GGUF";
const VERSION: u32 = 3;

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: Value,
}

/// A value of a metadata key, in the types that models need.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Count(u32),
    Number(f32),
    Flag(bool),
    Text(String),
    Texts(Vec<String>),
    Numbers(Vec<f32>),
    Kinds(Vec<i32>),
}

impl Entry {
    fn new(key: &str, value: Value) -> Self {
        Self { key: key.to_owned(), value }
    }

    /// A size. Sizes in checked configurations stay far below 32 bits.
    pub(crate) fn count(key: &str, count: usize) -> Self {
        Self::new(key, Value::Count(u32::try_from(count).unwrap_or(u32::MAX)))
    }

    pub(crate) fn number(key: &str, number: f64) -> Self {
        Self::new(key, Value::Number(number as f32))
    }

    pub(crate) fn flag(key: &str, flag: bool) -> Self {
        Self::new(key, Value::Flag(flag))
    }

    pub(crate) fn text(key: &str, text: &str) -> Self {
        Self::new(key, Value::Text(text.to_owned()))
    }

    pub(crate) fn list(key: &str, value: Value) -> Self {
        Self::new(key, value)
    }
}

/// Encodes the header, padded to the start of the tensors.
pub(crate) fn header(entries: &[Entry], tensors: &[TensorSource]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((entries.len() as u64).to_le_bytes());
    for Entry { key, value } in entries {
        put_text(&mut bytes, key);
        put_value(&mut bytes, value);
    }
    for (tensor, offset) in tensors.iter().zip(offsets(tensors)) {
        put_text(&mut bytes, &tensor.name);
        bytes.extend((tensor.shape.len() as u32).to_le_bytes());
        // ggml lists the fastest dimension first.
        tensor.shape.iter().rev().for_each(|size| bytes.extend((*size as u64).to_le_bytes()));
        bytes.extend(tensor.stored.id().to_le_bytes());
        bytes.extend((offset as u64).to_le_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    bytes
}

/// The offset of each tensor from the end of the header.
pub(crate) fn offsets(tensors: &[TensorSource]) -> impl Iterator<Item = usize> {
    tensors.iter().scan(0, |end, tensor| {
        let start = *end;
        *end = (start + tensor.num_bytes()).next_multiple_of(ALIGNMENT);
        Some(start)
    })
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// Encodes a value after its type id; a list has the items' type id and their count in between.
fn put_value(bytes: &mut Vec<u8>, value: &Value) {
    const COUNT: u32 = 4;
    const KIND: u32 = 5;
    const NUMBER: u32 = 6;
    const FLAG: u32 = 7;
    const TEXT: u32 = 8;
    const LIST: u32 = 9;
    let list = |bytes: &mut Vec<u8>, kind: u32, len: usize| {
        bytes.extend([LIST, kind].iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend((len as u64).to_le_bytes());
    };
    match value {
        Value::Count(count) => bytes.extend([COUNT, *count].iter().flat_map(|number| number.to_le_bytes())),
        Value::Number(number) => {
            bytes.extend(NUMBER.to_le_bytes());
            bytes.extend(number.to_le_bytes());
        }
        Value::Flag(flag) => {
            bytes.extend(FLAG.to_le_bytes());
            bytes.push(u8::from(*flag));
        }
        Value::Text(text) => {
            bytes.extend(TEXT.to_le_bytes());
            put_text(bytes, text);
        }
        Value::Texts(texts) => {
            list(bytes, TEXT, texts.len());
            texts.iter().for_each(|text| put_text(bytes, text));
        }
        Value::Numbers(numbers) => {
            list(bytes, NUMBER, numbers.len());
            bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
        Value::Kinds(kinds) => {
            list(bytes, KIND, kinds.len());
            bytes.extend(kinds.iter().flat_map(|kind| kind.to_le_bytes()));
        }
    }
}
