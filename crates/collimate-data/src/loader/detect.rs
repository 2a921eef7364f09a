//! Recognizes a file's layout, and says what to do where there is none.

use std::path::Path;

use serde_json::{Map, Value};

use crate::Layout;
use crate::layout::node::names;
use crate::layout::scored_lists;

/// The layout of a file with this first row; `columns` are those that its format declares.
///
/// # Errors
/// A message: which fields the row has, which the layouts have, and how to name others.
pub(super) fn detect(columns: Vec<String>, row: &Value, path: &Path) -> Result<Layout, String> {
    // Columns are better evidence than the first row, in which some may be null.
    let mut fields: Map<String, Value> = columns.into_iter().map(|name| (name, Value::Null)).collect();
    let mut doubt = String::new();
    let found = match row {
        Value::Object(row) => {
            fields.extend(row.iter().map(|(name, value)| (name.clone(), value.clone())));
            match Layout::detect(&fields) {
                Some(layout) => return Ok(layout),
                None => {
                    doubt = scored_lists::doubt(&fields).map_or_else(String::new, |doubt| format!("\n{doubt}"));
                    names(&fields)
                }
            }
        }
        _ => "no fields: it is not an object".to_owned(),
    };
    let layouts: String = Layout::ALL.iter().map(|layout| format!("\n  {layout}: {}", layout.fields())).collect();
    Err(format!(
        "no layout is known for a row with {found}; there are{layouts}{doubt}\n\
         `data convert` reads any other row by the fields that you name:\n  \
         collimate data convert {} --prompt-field a --response-field b --reward-field c --output rewards.jsonl\n\
         a path such as answers.*.text goes into objects and lists; --chosen-field and --rejected-field are for pairs",
        path.display()
    ))
}

/// Removes a field from a row, and from the messages and responses in its lists.
pub(super) fn forget(row: &mut Value, name: &str) {
    let Some(fields) = row.as_object_mut() else { return };
    fields.shift_remove(name);
    for item in fields.values_mut().filter_map(Value::as_array_mut).flatten() {
        item.as_object_mut().map(|item| item.shift_remove(name));
    }
}
