//! Rows of token maps in a safetensors file: the tensors `condition`, [N], and `tokens`, [N, …], and perhaps `reward`, [N].
//!
//! A row is the JSON that a line of the layout `pictures` would be. The header is read at once, and rows as they are asked for.

use std::fs::File;

use collimate_files::read_exact_at;
use serde_json::{Map, Value, json};

use super::kind::READ;
use super::strict_json;

/// Largest header, in bytes; that of three tensors has some hundreds.
const MAX_HEADER_BYTES: u64 = 1 << 20;
/// Most tokens of a row, as of a model's picture.
const MAX_TOKENS: u64 = 1 << 22;

/// The tensors, by name.
const CONDITION: &str = "condition";
const TOKENS: &str = "tokens";
const REWARD: &str = "reward";

/// Iterates over the rows of a file. One row is in memory.
pub(super) struct MapRows {
    file: File,
    condition: Column,
    tokens: Column,
    reward: Option<Column>,
    num_rows: u64,
    /// Number of the current row, from 1; 0 before the first.
    pub(super) number: usize,
}

/// A tensor whose first axis is the rows.
#[derive(Debug, Clone, Copy)]
struct Column {
    name: &'static str,
    kind: Kind,
    /// Where its bytes begin in the file.
    start: u64,
    /// Numbers of a row.
    width: u64,
    num_rows: u64,
}

/// The number types that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    U8,
    U16,
    U32,
    I16,
    I32,
    I64,
    F32,
    F64,
}

impl Kind {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "U8" => Self::U8,
            "U16" => Self::U16,
            "U32" => Self::U32,
            "I16" => Self::I16,
            "I32" => Self::I32,
            "I64" => Self::I64,
            "F32" => Self::F32,
            "F64" => Self::F64,
            _ => return None,
        })
    }

    fn num_bytes(self) -> u64 {
        match self {
            Self::U8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }

    fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }

    /// A number from its bytes, of which there are as many as it has.
    fn value(self, bytes: &[u8]) -> Value {
        fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
            bytes.first_chunk().copied().unwrap_or([0; N])
        }
        match self {
            Self::U8 => json!(u8::from_le_bytes(array(bytes))),
            Self::U16 => json!(u16::from_le_bytes(array(bytes))),
            Self::U32 => json!(u32::from_le_bytes(array(bytes))),
            Self::I16 => json!(i16::from_le_bytes(array(bytes))),
            Self::I32 => json!(i32::from_le_bytes(array(bytes))),
            Self::I64 => json!(i64::from_le_bytes(array(bytes))),
            // One that is not finite becomes null, which rows refuse.
            Self::F32 => json!(f64::from(f32::from_le_bytes(array(bytes)))),
            Self::F64 => json!(f64::from_le_bytes(array(bytes))),
        }
    }
}

impl MapRows {
    /// Reads the header.
    ///
    /// # Errors
    /// A message that names the tensor: one is missing, unknown, of another type or another number of rows, or the header does
    /// not describe the file.
    pub(super) fn open(file: File) -> Result<Self, String> {
        let of_file = |problem: String| format!("this is a safetensors file: {problem}");
        let (tensors, place) = header(&file).map_err(|problem| format!("{}; {READ}", of_file(problem)))?;
        if !tensors.contains_key(TOKENS) {
            let problem = "weights, not data (token maps have the tensors condition and tokens)".to_owned();
            return Err(format!("{}; {READ}", of_file(problem)));
        }
        Self::of_header(file, &tensors, place).map_err(of_file)
    }

    fn of_header(file: File, tensors: &Map<String, Value>, place: Place) -> Result<Self, String> {
        check_names(tensors)?;
        let column = |name: &'static str| tensors.get(name).map(|tensor| place.column(name, tensor)).transpose();
        let missing = |name: &str| {
            format!("tensor \"{name}\": it is missing; token maps have condition, [N], and tokens, [N, …]")
        };
        let tokens = column(TOKENS)?.ok_or_else(|| missing(TOKENS))?;
        let condition = column(CONDITION)?.ok_or_else(|| missing(CONDITION))?;
        let reward = column(REWARD)?;
        if tokens.kind.is_float() || condition.kind.is_float() {
            let name = if tokens.kind.is_float() { TOKENS } else { CONDITION };
            return Err(format!("tensor \"{name}\": expected whole numbers, found floats"));
        }
        for column in [Some(condition), reward].into_iter().flatten() {
            if column.width != 1 || column.num_rows != tokens.num_rows {
                let (name, found) = (column.name, [column.num_rows, column.width]);
                return Err(format!(
                    "tensor \"{name}\": expected one number for each of the {} rows of tokens, found {} rows of {}",
                    tokens.num_rows, found[0], found[1]
                ));
            }
        }
        Ok(Self { file, condition, tokens, reward, num_rows: tokens.num_rows, number: 0 })
    }

    /// Names of the fields of rows.
    pub(super) fn columns(&self) -> Vec<String> {
        let reward = self.reward.map(|_| REWARD);
        [Some(CONDITION), Some(TOKENS), reward].into_iter().flatten().map(str::to_owned).collect()
    }

    /// The next row; `None` at the end.
    pub(super) fn next(&mut self) -> Option<Result<Value, String>> {
        if self.number as u64 >= self.num_rows {
            return None;
        }
        self.number += 1;
        Some(self.row())
    }

    fn row(&self) -> Result<Value, String> {
        let mut row = Map::new();
        for column in [Some(self.condition), self.reward].into_iter().flatten() {
            row.insert(column.name.to_owned(), self.numbers(column)?.swap_remove(0));
        }
        row.insert(TOKENS.to_owned(), Value::Array(self.numbers(self.tokens)?));
        Ok(Value::Object(row))
    }

    fn numbers(&self, column: Column) -> Result<Vec<Value>, String> {
        let size = column.kind.num_bytes();
        let mut bytes = vec![0; (column.width * size) as usize];
        let start = column.start + (self.number as u64 - 1) * column.width * size;
        read_exact_at(&self.file, &mut bytes, start).map_err(|error| format!("tensor \"{}\": {error}", column.name))?;
        Ok(bytes.chunks_exact(size as usize).map(|bytes| column.kind.value(bytes)).collect())
    }
}

/// Where the numbers of all tensors are.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: u64,
    bytes: u64,
}

impl Place {
    fn column(self, name: &'static str, tensor: &Value) -> Result<Column, String> {
        let wrong = |problem: String| format!("tensor \"{name}\": {problem}");
        let dtype = tensor["dtype"].as_str().unwrap_or_default();
        let kind = Kind::named(dtype).ok_or_else(|| {
            wrong(format!("numbers of type {dtype:?} are not read: U8, U16, U32, I16, I32, I64, F32 and F64 are"))
        })?;
        let counts = |key: &str| -> Option<Vec<u64>> { tensor[key].as_array()?.iter().map(Value::as_u64).collect() };
        let shape = counts("shape").filter(|shape| !shape.is_empty());
        let (Some(shape), Some([start, end])) =
            (shape, counts("data_offsets").as_deref().and_then(<[u64]>::first_chunk).copied())
        else {
            return Err(wrong("expected a shape with the rows first, and two offsets".to_owned()));
        };
        let width = shape[1..].iter().try_fold(1_u64, |product, side| product.checked_mul(*side));
        let width = width.filter(|width| (1..=MAX_TOKENS).contains(width));
        let width = width
            .ok_or_else(|| wrong(format!("expected 1 to {MAX_TOKENS} numbers a row, found the shape {shape:?}")))?;
        let expected = shape[0].checked_mul(width).and_then(|count| count.checked_mul(kind.num_bytes()));
        if end > self.bytes || start > end || expected != Some(end - start) {
            return Err(wrong(format!("its shape {shape:?} and offsets {start} to {end} do not fit the file")));
        }
        Ok(Column { name, kind, start: self.start + start, width, num_rows: shape[0] })
    }
}

/// The tensors of a file's header, and where their numbers are.
fn header(file: &File) -> Result<(Map<String, Value>, Place), String> {
    let read = |problem: std::io::Error| problem.to_string();
    let file_bytes = file.metadata().map_err(read)?.len();
    let mut length = [0; 8];
    read_exact_at(file, &mut length, 0).map_err(read)?;
    let length = u64::from_le_bytes(length);
    let room = file_bytes.saturating_sub(8);
    if length > room.min(MAX_HEADER_BYTES) {
        return Err(format!(
            "a header of {length} bytes; the file has {room} after its first 8, and {MAX_HEADER_BYTES} are read"
        ));
    }
    let mut header = vec![0; length as usize];
    read_exact_at(file, &mut header, 8).map_err(read)?;
    let header = strict_json::parse(&header).map_err(|error| format!("its header is not valid JSON: {error}"))?;
    let Value::Object(tensors) = header else { return Err("its header is no JSON object".to_owned()) };
    Ok((tensors, Place { start: 8 + length, bytes: room - length }))
}

/// Refuses tensors that would be passed over.
fn check_names(tensors: &Map<String, Value>) -> Result<(), String> {
    let is_known = |name: &str| [CONDITION, TOKENS, REWARD, "__metadata__"].contains(&name);
    match tensors.keys().find(|name| !is_known(name)) {
        Some(name) => Err(format!("tensor \"{name}\": it is unknown; token maps have condition, tokens and reward")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
