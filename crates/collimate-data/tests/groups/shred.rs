//! Writes JSON rows as Parquet, for tests: we compute the levels, the crate writes the values.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, ConvertedType, Repetition, Type as Physical};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, FloatType,
    Int32Type, Int64Type,
};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::Type;
use serde_json::{Value, json};

/// The levels and values of a column.
#[derive(Default, Clone)]
struct Shredded {
    defs: Vec<i16>,
    reps: Vec<i16>,
    values: Vec<Value>,
}

/// Writes rows in groups of `rows_in_group`, with the properties that `build` sets.
pub(crate) fn write_parquet(
    path: &Path,
    schema: &str,
    rows: &[Value],
    rows_in_group: usize,
    build: impl FnOnce(WriterPropertiesBuilder) -> WriterPropertiesBuilder,
) {
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let properties = build(WriterProperties::builder()).build();
    let mut writer =
        SerializedFileWriter::new(File::create(path).expect("a file"), Arc::clone(&schema), Arc::new(properties))
            .expect("a writer");
    for rows in rows.chunks(rows_in_group.max(1)) {
        let mut columns = vec![Shredded::default(); count_leaves(&schema)];
        for row in rows {
            fields(&schema, row, 0, 0, 0, &mut columns);
        }
        let mut group = writer.next_row_group().expect("a group");
        for (column, shredded) in columns.iter().enumerate() {
            let physical = physical_types(&schema)[column];
            let mut writer = group.next_column().expect("a column").expect("one more");
            write_column(&mut writer, physical, shredded);
            writer.close().expect("a column");
        }
        group.close().expect("a group");
    }
    writer.close().expect("a file");
}

/// [`write_parquet`] with all rows in one group, compressed with `codec`.
pub(crate) fn write_packed(path: &Path, schema: &str, rows: &[Value], codec: Compression) {
    write_parquet(path, schema, rows, usize::MAX, |properties| properties.set_compression(codec));
}

fn write_column(writer: &mut SerializedColumnWriter<'_>, physical: Physical, shredded: &Shredded) {
    fn write<T: DataType>(
        writer: &mut SerializedColumnWriter<'_>,
        shredded: &Shredded,
        convert: impl Fn(&Value) -> T::T,
    ) {
        let values: Vec<T::T> = shredded.values.iter().map(convert).collect();
        writer.typed::<T>().write_batch(&values, Some(&shredded.defs), Some(&shredded.reps)).expect("values");
    }
    let whole = |value: &Value| value.as_i64().expect("a whole number");
    let real = |value: &Value| match value {
        Value::String(text) => text.parse().expect("a number in words"),
        value => value.as_f64().expect("a number"),
    };
    match physical {
        Physical::BOOLEAN => write::<BoolType>(writer, shredded, |value| value.as_bool().expect("a truth value")),
        Physical::INT32 => write::<Int32Type>(writer, shredded, |value| whole(value) as i32),
        Physical::INT64 => write::<Int64Type>(writer, shredded, whole),
        Physical::FLOAT => write::<FloatType>(writer, shredded, |value| real(value) as f32),
        Physical::DOUBLE => write::<DoubleType>(writer, shredded, real),
        Physical::BYTE_ARRAY => write::<ByteArrayType>(writer, shredded, bytes),
        Physical::FIXED_LEN_BYTE_ARRAY => {
            write::<FixedLenByteArrayType>(writer, shredded, |value| FixedLenByteArray::from(bytes(value)));
        }
        other => panic!("no values of {other}"),
    }
}

/// The bytes of a text, or of a list of them.
fn bytes(value: &Value) -> ByteArray {
    match value {
        Value::Array(bytes) => {
            bytes.iter().map(|byte| byte.as_u64().expect("a byte") as u8).collect::<Vec<u8>>().into()
        }
        value => ByteArray::from(value.as_str().expect("text")),
    }
}

fn physical_types(ty: &Type) -> Vec<Physical> {
    match ty.is_primitive() {
        true => vec![ty.get_physical_type()],
        false => ty.get_fields().iter().flat_map(|field| physical_types(field)).collect(),
    }
}

fn count_leaves(ty: &Type) -> usize {
    physical_types(ty).len()
}

fn node(ty: &Type, value: &Value, def: i16, rep: i16, depth: i16, columns: &mut [Shredded]) {
    match ty.get_basic_info().repetition() {
        Repetition::REQUIRED => inner(ty, value, def, rep, depth, columns),
        Repetition::OPTIONAL if value.is_null() => nothing(def, rep, columns),
        Repetition::OPTIONAL => inner(ty, value, def + 1, rep, depth, columns),
        Repetition::REPEATED => match value.as_array().map(Vec::as_slice).unwrap_or_default() {
            [] => nothing(def, rep, columns),
            items => {
                for (index, item) in items.iter().enumerate() {
                    inner(ty, item, def + 1, if index == 0 { rep } else { depth + 1 }, depth + 1, columns);
                }
            }
        },
    }
}

fn inner(ty: &Type, value: &Value, def: i16, rep: i16, depth: i16, columns: &mut [Shredded]) {
    if ty.is_primitive() {
        columns[0].defs.push(def);
        columns[0].reps.push(rep);
        columns[0].values.push(value.clone());
        return;
    }
    if ty.get_basic_info().converted_type() == ConvertedType::LIST {
        // The format wraps each element of a list in a group.
        let repeated = &ty.get_fields()[0];
        let items = value.as_array().expect("a list").iter();
        let wrapped: Vec<Value> = items.map(|item| json!({repeated.get_fields()[0].name(): item})).collect();
        return node(repeated, &Value::Array(wrapped), def, rep, depth, columns);
    }
    fields(ty, value, def, rep, depth, columns);
}

fn fields(ty: &Type, value: &Value, def: i16, rep: i16, depth: i16, columns: &mut [Shredded]) {
    let mut rest = columns;
    for field in ty.get_fields() {
        let (field_columns, after) = rest.split_at_mut(count_leaves(field));
        node(field, &value[field.name()], def, rep, depth, field_columns);
        rest = after;
    }
}

fn nothing(def: i16, rep: i16, columns: &mut [Shredded]) {
    for column in columns {
        column.defs.push(def);
        column.reps.push(rep);
    }
}
