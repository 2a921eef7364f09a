//! Assembles a row's columns into one JSON value: structs, lists and maps, by definition and repetition levels.

use std::collections::BTreeSet;
use std::ops::Range;

use parquet::basic::{ConvertedType, Repetition};
use parquet::schema::types::{SchemaDescriptor, Type};
use serde_json::{Map, Value};

use super::budget::Budget;
use super::columns::{Column, DISAGREE};

/// A node of the schema.
#[derive(Debug)]
pub(super) struct Node {
    name: String,
    /// The columns below it.
    columns: Range<usize>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Column,
    Struct {
        /// Lowest definition level at which the struct is present.
        present: i16,
        fields: Vec<Node>,
    },
    List {
        /// Lowest definition level at which the list is present.
        present: i16,
        /// Lowest definition level at which it has an element.
        filled: i16,
        /// Repetition level of its second and later elements.
        again: i16,
        element: Box<Node>,
    },
    /// A list of entries, which becomes an object.
    Map(Box<Node>),
}

/// Builds nodes, assigning columns in order.
struct Builder {
    next_column: usize,
}

impl Node {
    /// The root, whose values are rows.
    pub(super) fn from_schema(schema: &SchemaDescriptor) -> Result<Self, String> {
        let mut builder = Builder { next_column: 0 };
        let root = builder.fields(schema.root_schema(), "", 0, 0)?;
        match builder.next_column == schema.num_columns() && builder.next_column > 0 {
            true => Ok(root),
            false => Err("it has no columns".to_owned()),
        }
    }

    /// Names of the fields of a struct.
    pub(super) fn field_names(&self) -> Vec<String> {
        match &self.kind {
            Kind::Struct { fields, .. } => fields.iter().map(|field| field.name.clone()).collect(),
            _ => Vec::new(),
        }
    }

    /// Takes this node's next value from the columns.
    pub(super) fn read(&self, columns: &mut [Column], budget: &Budget) -> Result<Value, String> {
        match &self.kind {
            Kind::Column => columns[self.columns.start].take(budget),
            Kind::Struct { present, .. } if self.def(columns)? < *present => self.pass(columns, budget, Value::Null),
            Kind::Struct { fields, .. } => {
                budget.take_row_values(1)?;
                let mut object = Map::new();
                for field in fields {
                    match field.read(columns, budget)? {
                        Value::Null => {}
                        value => _ = object.insert(field.name.clone(), value),
                    }
                }
                Ok(Value::Object(object))
            }
            Kind::List { present, .. } if self.def(columns)? < *present => self.pass(columns, budget, Value::Null),
            Kind::List { filled, .. } if self.def(columns)? < *filled => {
                self.pass(columns, budget, Value::Array(Vec::new()))
            }
            Kind::List { again, element, .. } => {
                budget.take_row_values(1)?;
                let mut items = vec![element.read(columns, budget)?];
                while columns[self.columns.start].rep() == Some(*again) {
                    items.push(element.read(columns, budget)?);
                }
                Ok(Value::Array(items))
            }
            Kind::Map(list) => Ok(match list.read(columns, budget)? {
                Value::Array(entries) => Value::Object(entries.into_iter().filter_map(entry).collect()),
                other => other,
            }),
        }
    }

    fn def(&self, columns: &[Column]) -> Result<i16, String> {
        columns[self.columns.start].def().ok_or_else(|| DISAGREE.to_owned())
    }

    /// Returns `value`, which is null or empty and takes one null level from every column below.
    fn pass(&self, columns: &mut [Column], budget: &Budget, value: Value) -> Result<Value, String> {
        for column in &mut columns[self.columns.clone()] {
            match column.take(budget)? {
                Value::Null => {}
                _ => return Err(DISAGREE.to_owned()),
            }
        }
        Ok(value)
    }
}

/// Key and value of a map's entry.
fn entry(entry: Value) -> Option<(String, Value)> {
    let Value::Object(mut fields) = entry else { return None };
    let key = match fields.shift_remove("key")? {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Some((key, fields.shift_remove("value").unwrap_or(Value::Null)))
}

impl Builder {
    fn node(&mut self, ty: &Type, def: i16, rep: i16) -> Result<Node, String> {
        match ty.get_basic_info().repetition() {
            Repetition::REQUIRED => self.value(ty, def, rep),
            Repetition::OPTIONAL => self.value(ty, def + 1, rep),
            // A repeated field outside a LIST group: it can be empty, but not null.
            Repetition::REPEATED => self.list(ty.name(), def, rep, |builder| builder.value(ty, def + 1, rep + 1)),
        }
    }

    /// The node of a type, apart from its repetition.
    fn value(&mut self, ty: &Type, def: i16, rep: i16) -> Result<Node, String> {
        if ty.is_primitive() {
            let column = self.next_column;
            self.next_column += 1;
            return Ok(Node { name: ty.name().to_owned(), columns: column..self.next_column, kind: Kind::Column });
        }
        let repeated = match ty.get_fields() {
            [only] if only.get_basic_info().repetition() == Repetition::REPEATED => Some(only),
            _ => None,
        };
        match (ty.get_basic_info().converted_type(), repeated) {
            (ConvertedType::LIST, Some(items)) => {
                self.list(ty.name(), def, rep, |builder| builder.element(ty.name(), items, def + 1, rep + 1))
            }
            (ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE, Some(entries)) if is_entry(entries) => {
                let list = self.list(ty.name(), def, rep, |builder| {
                    let mut entry = builder.fields(entries, entries.name(), def + 1, rep + 1)?;
                    if let Kind::Struct { fields, .. } = &mut entry.kind {
                        for (field, name) in fields.iter_mut().zip(["key", "value"]) {
                            field.name = name.to_owned();
                        }
                    }
                    Ok(entry)
                })?;
                Ok(Node { name: list.name.clone(), columns: list.columns.clone(), kind: Kind::Map(Box::new(list)) })
            }
            _ => self.fields(ty, ty.name(), def, rep),
        }
    }

    /// The element of a list: the repeated type itself, or its only field if it is a mere wrapper. The format's rules for
    /// files of old writers decide which.
    fn element(&mut self, list: &str, items: &Type, def: i16, rep: i16) -> Result<Node, String> {
        let is_wrapper = items.is_group()
            && items.get_fields().len() == 1
            && items.name() != "array"
            && items.name() != format!("{list}_tuple");
        match items.is_group().then(|| items.get_fields()) {
            Some([only]) if is_wrapper => self.node(only, def, rep),
            _ => self.value(items, def, rep),
        }
    }

    fn list(
        &mut self,
        name: &str,
        def: i16,
        rep: i16,
        element: impl FnOnce(&mut Self) -> Result<Node, String>,
    ) -> Result<Node, String> {
        let first = self.next_column;
        let element = Box::new(element(self)?);
        let kind = Kind::List { present: def, filled: def + 1, again: rep + 1, element };
        Ok(Node { name: name.to_owned(), columns: first..self.next_column, kind })
    }

    fn fields(&mut self, ty: &Type, name: &str, def: i16, rep: i16) -> Result<Node, String> {
        let first = self.next_column;
        let mut names = BTreeSet::new();
        let mut fields = Vec::new();
        for field in ty.get_fields() {
            if !names.insert(field.name()) {
                return Err(format!("two columns are called \"{}\"", field.name()));
            }
            fields.push(self.node(field, def, rep)?);
        }
        match fields.is_empty() {
            true => Err(format!("the group \"{name}\" has no columns")),
            false => Ok(Node {
                name: name.to_owned(),
                columns: first..self.next_column,
                kind: Kind::Struct { present: def, fields },
            }),
        }
    }
}

/// Whether a group is a key and a value.
fn is_entry(ty: &Type) -> bool {
    ty.is_group() && matches!(ty.get_fields(), [key, _] if key.is_primitive())
}
