//! Reads the values of one column, row by row.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use collimate_images::is_image;
use collimate_messages::data_uri;
use parquet::basic::{ConvertedType, LogicalType, Type};
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{
    BoolType, ByteArrayType, DataType, DoubleType, FixedLenByteArrayType, FloatType, Int32Type, Int64Type, Int96Type,
};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::schema::types::ColumnDescriptor;
use serde_json::{Number, Value};

use super::budget::Budget;
use super::pages::CheckedPages;

/// The error if the columns of a struct or list have different numbers of values.
pub(super) const DISAGREE: &str = "the columns of the row do not agree";
/// The field with a file's bytes, beside that with its path.
const BYTES: &str = "bytes";

/// A column of a row group, holding the values of the current row.
pub(super) struct Column {
    values: Values,
    name: String,
    converted: ConvertedType,
    /// Decimal digits after the point of numbers that are stored as integers.
    decimal_scale: Option<i32>,
    is_float16: bool,
    /// Whether its bytes are those of files, as data sets store images: `{"bytes", "path"}`.
    holds_files: bool,
    max_def: i16,
    num_levels: usize,
    defs: Vec<i16>,
    reps: Vec<i16>,
    /// Index of the next level.
    next_level: usize,
    /// Index of the next value; there are fewer values than levels, since nulls have none.
    next_value: usize,
    /// Values of the pages read since the row began; shared with [`CheckedPages`].
    pulled: Arc<AtomicU64>,
}

/// Opens the columns of a row group.
pub(super) fn open(file: &Arc<File>, group: &RowGroupMetaData, budget: &Arc<Budget>) -> Result<Vec<Column>, String> {
    let num_rows = usize::try_from(group.num_rows()).map_err(|error| error.to_string())?;
    group.columns().iter().map(|chunk| Column::open(file, chunk, num_rows, budget)).collect()
}

/// A reader for one type, and the values of the current row.
struct Typed<T: DataType> {
    reader: ColumnReaderImpl<T>,
    row: Vec<T::T>,
}

enum Values {
    Bool(Typed<BoolType>),
    Int32(Typed<Int32Type>),
    Int64(Typed<Int64Type>),
    Int96(Typed<Int96Type>),
    Float(Typed<FloatType>),
    Double(Typed<DoubleType>),
    Bytes(Typed<ByteArrayType>),
    Fixed(Typed<FixedLenByteArrayType>),
}

macro_rules! each_type {
    ($values:expr, $typed:ident => $work:expr) => {
        match $values {
            Values::Bool($typed) => $work,
            Values::Int32($typed) => $work,
            Values::Int64($typed) => $work,
            Values::Int96($typed) => $work,
            Values::Float($typed) => $work,
            Values::Double($typed) => $work,
            Values::Bytes($typed) => $work,
            Values::Fixed($typed) => $work,
        }
    };
}

impl Column {
    fn open(
        file: &Arc<File>,
        chunk: &ColumnChunkMetaData,
        num_rows: usize,
        budget: &Arc<Budget>,
    ) -> Result<Self, String> {
        let pulled = Arc::new(AtomicU64::new(0));
        let descr = chunk.column_descr_ptr();
        let name = descr.path().string();
        let pages = CheckedPages::open(file, chunk, num_rows, budget, &pulled);
        let pages = Box::new(pages.map_err(|problem| in_column(&name, problem))?);
        fn typed<T: DataType>(descr: &Arc<ColumnDescriptor>, pages: Box<CheckedPages>) -> Typed<T> {
            Typed { reader: ColumnReaderImpl::new(Arc::clone(descr), pages), row: Vec::new() }
        }
        let values = match descr.physical_type() {
            Type::BOOLEAN => Values::Bool(typed(&descr, pages)),
            Type::INT32 => Values::Int32(typed(&descr, pages)),
            Type::INT64 => Values::Int64(typed(&descr, pages)),
            Type::INT96 => Values::Int96(typed(&descr, pages)),
            Type::FLOAT => Values::Float(typed(&descr, pages)),
            Type::DOUBLE => Values::Double(typed(&descr, pages)),
            Type::BYTE_ARRAY => Values::Bytes(typed(&descr, pages)),
            Type::FIXED_LEN_BYTE_ARRAY => Values::Fixed(typed(&descr, pages)),
        };
        let converted = descr.converted_type();
        Ok(Self {
            values,
            name,
            converted,
            decimal_scale: (converted == ConvertedType::DECIMAL).then(|| descr.type_scale()),
            is_float16: descr.logical_type_ref() == Some(&LogicalType::Float16),
            holds_files: converted == ConvertedType::NONE
                && descr.path().parts().iter().skip(1).next_back().is_some_and(|name| name == BYTES),
            max_def: descr.max_def_level(),
            num_levels: 0,
            defs: Vec::new(),
            reps: Vec::new(),
            next_level: 0,
            next_value: 0,
            pulled,
        })
    }

    /// Reads the values of the next row.
    pub(super) fn next_row(&mut self, budget: &Budget) -> Result<(), String> {
        let Self { values, defs, reps, pulled, .. } = self;
        defs.clear();
        reps.clear();
        let read = each_type!(values, typed => {
            typed.row.clear();
            typed.reader.read_records(1, Some(defs), Some(reps), &mut typed.row)
        });
        // The rest of the page belongs to the next rows.
        pulled.store(0, Ordering::Relaxed);
        let (records, _, levels) = read.map_err(|error| in_column(&self.name, plain(&error)))?;
        if records != 1 {
            return Err(in_column(&self.name, "it has fewer rows than the file".to_owned()));
        }
        (self.num_levels, self.next_level, self.next_value) = (levels, 0, 0);
        budget.take_row_values(levels as u64)
    }

    /// Whether all values of the row have been taken.
    pub(super) fn is_at_end(&self) -> bool {
        self.next_level == self.num_levels
    }

    /// Definition level of the next value; `None` after the row's last.
    pub(super) fn def(&self) -> Option<i16> {
        match (self.next_level < self.num_levels, self.max_def) {
            (false, _) => None,
            (true, 0) => Some(0),
            (true, _) => self.defs.get(self.next_level).copied(),
        }
    }

    /// Repetition level of the next value; `None` after the row's last.
    pub(super) fn rep(&self) -> Option<i16> {
        (self.next_level < self.num_levels).then(|| self.reps.get(self.next_level).copied().unwrap_or(0))
    }

    /// Takes the next value; null if its definition level says so.
    pub(super) fn take(&mut self, budget: &Budget) -> Result<Value, String> {
        let def = self.def().ok_or(DISAGREE)?;
        self.next_level += 1;
        if def < self.max_def {
            return Ok(Value::Null);
        }
        let index = self.next_value;
        self.next_value += 1;
        self.value(index, budget).map_err(|problem| in_column(&self.name, problem))
    }

    fn value(&self, index: usize, budget: &Budget) -> Result<Value, String> {
        let missing = || DISAGREE.to_owned();
        Ok(match &self.values {
            Values::Bool(typed) => Value::Bool(*typed.row.get(index).ok_or_else(missing)?),
            Values::Int32(typed) => self.integer(i64::from(*typed.row.get(index).ok_or_else(missing)?), 32),
            Values::Int64(typed) => self.integer(*typed.row.get(index).ok_or_else(missing)?, 64),
            Values::Float(typed) => number(f64::from(*typed.row.get(index).ok_or_else(missing)?)),
            Values::Double(typed) => number(*typed.row.get(index).ok_or_else(missing)?),
            Values::Bytes(typed) => self.bytes(typed.row.get(index).ok_or_else(missing)?.data(), budget)?,
            Values::Fixed(typed) => {
                let bytes = typed.row.get(index).ok_or_else(missing)?.data();
                match (self.is_float16, self.decimal_scale, bytes) {
                    (true, _, [low, high]) => number(f64::from(half::f16::from_le_bytes([*low, *high]))),
                    (_, Some(_), _) => self.bytes(bytes, budget)?,
                    _ => Value::Null,
                }
            }
            // Legacy timestamps, which no layout reads.
            Values::Int96(_) => Value::Null,
        })
    }

    fn integer(&self, value: i64, bits: u32) -> Value {
        match (self.converted, self.decimal_scale) {
            (_, Some(scale)) => decimal(value as f64, scale),
            (ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32, _) if bits == 32 => {
                Value::from(value as u32)
            }
            (ConvertedType::UINT_64, _) => Value::from(value as u64),
            _ => Value::from(value),
        }
    }

    /// A text, or a decimal in big-endian bytes.
    fn bytes(&self, bytes: &[u8], budget: &Budget) -> Result<Value, String> {
        if let Some(scale) = self.decimal_scale {
            // Two's complement in big-endian bytes; exact as long as the value has at most 53 bits.
            let sign = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { -1.0 } else { 0.0 };
            let value = bytes.iter().fold(sign, |value: f64, byte| value * 256.0 + f64::from(*byte));
            return Ok(decimal(value, scale));
        }
        budget.take_text(bytes.len() as u64)?;
        // Whatever the bytes of a file are, they are no path, and the path beside them does not stand in for broken ones.
        if self.holds_files || (self.converted == ConvertedType::NONE && is_image(bytes)) {
            budget.take_text(bytes.len() as u64 / 3)?;
            return Ok(Value::String(data_uri("application/octet-stream", bytes)));
        }
        match (std::str::from_utf8(bytes), self.converted) {
            (Ok(text), _) => Ok(Value::String(text.to_owned())),
            // What no layout reads.
            (Err(_), ConvertedType::NONE) => Ok(Value::Null),
            (Err(_), _) => Err("the text is not UTF-8".to_owned()),
        }
    }
}

/// A number in JSON. NaN becomes null, since data frames write it for missing values. An infinity becomes text, so that
/// the error of code that expects a finite number can show it.
fn number(value: f64) -> Value {
    match Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None if value.is_nan() => Value::Null,
        None => Value::String(value.to_string()),
    }
}

fn decimal(value: f64, scale: i32) -> Value {
    number(value / 10_f64.powi(scale))
}

fn in_column(name: &str, problem: String) -> String {
    format!("column \"{name}\": {problem}")
}

/// The crate's message, without the kind of error.
fn plain(error: &parquet::errors::ParquetError) -> String {
    match error {
        parquet::errors::ParquetError::General(text) => text.clone(),
        other => other.to_string(),
    }
}
