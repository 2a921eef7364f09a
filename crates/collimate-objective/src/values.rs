//! Evaluates objectives on rows of JSON, for `collimate objective-values`.
//!
//! A row is an object:
//!
//! ```json
//! {"objective": "nca", "params": {"beta": 0.1, "alpha": 0.33}, "policy_logps": [[-9.0, -8.0]],
//!  "reference_logps": [[-9.5, -7.0]], "rewards": [[1.0, 0.0]], "lengths": [[12, 10]]}
//! ```
//!
//! `params` is optional, as is `reference_logps` if the objective needs no reference. K may differ between the prompts of
//! a row.

use serde_json::{Map, Value, json};

use crate::{GroupScores, ObjectiveError, evaluate, registry};

/// Evaluates every row of a JSON array or of JSON Lines.
///
/// Returns each row with four fields added: `loss` (`[B]`), `mean_loss`, `grad_of_mean` (`[B, K]`, the gradient of the
/// mean loss in `policy_logps`) and `implicit_rewards` (`[B, K]`).
///
/// # Errors
/// A row is not JSON, or has a missing or invalid field, an unknown objective or an invalid parameter; the error names
/// the row and field.
pub fn evaluate_rows(text: &str) -> Result<Vec<Value>, ObjectiveError> {
    parse(text)?.into_iter().enumerate().map(|(index, row)| evaluate_row(index + 1, row)).collect()
}

fn parse(text: &str) -> Result<Vec<Value>, ObjectiveError> {
    let mut rows = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        match value {
            Ok(Value::Array(values)) => rows.extend(values),
            Ok(value) => rows.push(value),
            Err(error) => {
                return Err(ObjectiveError::InvalidJson { row: rows.len() + 1, reason: error.to_string() });
            }
        }
    }
    Ok(rows)
}

fn evaluate_row(row: usize, value: Value) -> Result<Value, ObjectiveError> {
    let Value::Object(mut fields) = value else {
        return Err(invalid(row, "", format!("expected an object, found {}", kind(&value))));
    };
    let name = match fields.get("objective") {
        Some(Value::String(name)) => name,
        other => return Err(invalid(row, "objective", expected("a name", other))),
    };
    let no_params = Map::new();
    let params = match fields.get("params") {
        Some(Value::Object(params)) => params,
        None | Some(Value::Null) => &no_params,
        other => return Err(invalid(row, "params", expected("an object", other))),
    };
    let objective = registry::build(name, params).map_err(|error| in_row(row, error))?;
    let groups = read_groups(row, &fields)?;
    let evaluation = evaluate(objective.as_ref(), &groups).map_err(|error| in_row(row, error))?;
    fields.insert("loss".to_owned(), json!(evaluation.losses));
    fields.insert("mean_loss".to_owned(), json!(evaluation.mean_loss()));
    fields.insert("grad_of_mean".to_owned(), json!(evaluation.coefficients));
    fields.insert("implicit_rewards".to_owned(), json!(evaluation.implicit_rewards));
    Ok(Value::Object(fields))
}

fn read_groups(row: usize, fields: &Map<String, Value>) -> Result<Vec<GroupScores>, ObjectiveError> {
    let policy = read_matrix(row, fields, "policy_logps", "a number", Value::as_f64)?;
    let rewards = read_matrix(row, fields, "rewards", "a number", Value::as_f64)?;
    let lengths = read_matrix(row, fields, "lengths", "a whole number", Value::as_u64)?;
    let reference = match fields.get("reference_logps") {
        None | Some(Value::Null) => None,
        Some(_) => Some(read_matrix(row, fields, "reference_logps", "a number", Value::as_f64)?),
    };
    let counts = [("rewards", rewards.len()), ("lengths", lengths.len())];
    let reference_count = reference.as_ref().map(|r| ("reference_logps", r.len()));
    if let Some((field, found)) = counts.into_iter().chain(reference_count).find(|(_, n)| *n != policy.len()) {
        return Err(invalid(row, field, format!("expected {} lists as in policy_logps, found {found}", policy.len())));
    }
    let mut references = reference.map(Vec::into_iter);
    let columns = policy.into_iter().zip(rewards).zip(lengths);
    Ok(columns
        .map(|((policy_logps, rewards), lengths)| GroupScores {
            policy_logps,
            reference_logps: references.as_mut().and_then(Iterator::next),
            rewards,
            lengths: lengths.into_iter().map(|n| n as usize).collect(),
        })
        .collect())
}

fn read_matrix<T>(
    row: usize,
    fields: &Map<String, Value>,
    field: &str,
    what: &str,
    read: fn(&Value) -> Option<T>,
) -> Result<Vec<Vec<T>>, ObjectiveError> {
    let Some(Value::Array(lists)) = fields.get(field) else {
        return Err(invalid(row, field, expected("a list of lists", fields.get(field))));
    };
    let read_list = |(b, list): (usize, &Value)| {
        let Value::Array(values) = list else {
            return Err(invalid(row, &format!("{field}[{b}]"), expected("a list", Some(list))));
        };
        let read_one = |(k, value): (usize, &Value)| {
            read(value).ok_or_else(|| invalid(row, &format!("{field}[{b}][{k}]"), expected(what, Some(value))))
        };
        values.iter().enumerate().map(read_one).collect()
    };
    lists.iter().enumerate().map(read_list).collect()
}

/// Turns an error about an objective or a group into one about a row and its field.
fn in_row(row: usize, error: ObjectiveError) -> ObjectiveError {
    let field = match &error {
        ObjectiveError::UnknownParameter { key, .. } | ObjectiveError::InvalidParameter { key, .. } => {
            format!("params.{key}")
        }
        ObjectiveError::InvalidGroup { group, field, reason } => {
            let (name, index) = field.split_at(field.find('[').unwrap_or(field.len()));
            return invalid(row, &format!("{name}[{group}]{index}"), reason.clone());
        }
        ObjectiveError::EmptyBatch => "policy_logps".to_owned(),
        _ => "objective".to_owned(),
    };
    invalid(row, &field, error.to_string())
}

fn invalid(row: usize, field: &str, reason: String) -> ObjectiveError {
    ObjectiveError::InvalidRow { row, field: field.to_owned(), reason }
}

fn expected(what: &str, found: Option<&Value>) -> String {
    match found {
        None => format!("expected {what}, but the field is missing"),
        Some(value) => format!("expected {what}, found {}", kind(value)),
    }
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        scalar => scalar.to_string(),
    }
}
