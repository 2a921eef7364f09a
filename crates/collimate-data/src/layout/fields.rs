//! Rows of any form, read by the fields that the user names.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::conversation::{self, Conversation};
use super::node::{Node, RowError};
use super::raw::{DEMONSTRATED, RawGroup, RawResponse, RowKind};
use crate::{Prompt, counted};

/// Where a value is in a row: keys and positions in lists, `a.b.0.c`; `*` stands for every element of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath(String);

impl FromStr for FieldPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // As other tools write it: a[].b and a[0].b.
        let path = text.replace("[]", ".*").replace('[', ".").replace(']', "");
        match path.is_empty() || path.split('.').any(str::is_empty) {
            true => Err(format!("\"{text}\" is not a path of a field, such as answers.0.text or answers.*.text")),
            false => Ok(Self(path)),
        }
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which fields of a row are its prompt, its responses and their rewards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldMap {
    /// Text or messages. Whole conversations need none.
    pub prompt: Option<FieldPath>,
    /// Texts or messages, or lists of them. A single one per row makes rows with the same prompt one group.
    pub responses: Vec<FieldPath>,
    /// Numbers, or lists of them: one for each response.
    pub rewards: Vec<FieldPath>,
    /// The better response, instead of `responses`.
    pub chosen: Option<FieldPath>,
    /// The worse response, or a list of them.
    pub rejected: Vec<FieldPath>,
}

impl FieldMap {
    /// Checks that the fields make a group.
    ///
    /// # Errors
    /// What is missing, or given twice.
    pub fn check(&self) -> Result<(), String> {
        let is_pair = self.chosen.is_some() || !self.rejected.is_empty();
        if is_pair && !self.responses.is_empty() {
            return Err("give either --response-field, or --chosen-field and --rejected-field".to_owned());
        }
        if is_pair && (self.chosen.is_none() || self.rejected.is_empty()) {
            return Err("--chosen-field and --rejected-field need each other".to_owned());
        }
        if !is_pair && self.responses.is_empty() {
            return Err("give --response-field, or --chosen-field and --rejected-field".to_owned());
        }
        if !is_pair && self.prompt.is_none() {
            return Err("--response-field needs --prompt-field".to_owned());
        }
        Ok(())
    }

    /// Parses a row.
    pub(crate) fn parse(&self, row: &Value) -> Result<RawGroup, RowError> {
        let row = &Node::root(row);
        row.object()?;
        let prompt = self.prompt(row)?;
        let chosen = found_all(row, self.chosen.as_slice())?;
        let num_chosen = chosen.len();
        let mut completions = [chosen, found_all(row, &self.rejected)?].concat();
        if self.chosen.is_none() {
            completions = found_all(row, &self.responses)?;
        }
        let numbers = found_all(row, &self.rewards)?;
        if !self.rewards.is_empty() && numbers.len() != completions.len() {
            let field = self.rewards.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let expected = format!("{}, one for each response", counted(completions.len(), "number"));
            return Err(RowError::Field { field, expected, found: numbers.len().to_string() });
        }
        let Conversation { prompt, replies } = conversation::split_from(prompt, &completions)?;
        let mut responses = Vec::with_capacity(replies.len());
        for (k, (reply, node)) in replies.into_iter().zip(&completions).enumerate() {
            responses.push(match numbers.get(k) {
                Some(number) => RawResponse::new(reply, &node.path, number.as_signal()?, number.path.clone()),
                None => RawResponse::labeled(reply, node, f64::from(u8::from(self.chosen.is_none() || k < num_chosen))),
            });
        }
        self.group(prompt, responses)
    }

    fn prompt(&self, row: &Node) -> Result<Option<Prompt>, RowError> {
        let Some(path) = &self.prompt else { return Ok(None) };
        match found_all(row, std::slice::from_ref(path))?.as_slice() {
            [node] if node.value.is_object() => Ok(Some(Prompt::Messages(vec![node.message()?]))),
            [node] => node.prompt().map(Some),
            several => Err(RowError::Field {
                field: path.to_string(),
                expected: "one text, or messages".to_owned(),
                found: format!("a list of {}", several.len()),
            }),
        }
    }

    fn group(&self, prompt: Prompt, responses: Vec<RawResponse>) -> Result<RawGroup, RowError> {
        let has_rewards = !self.rewards.is_empty();
        if responses.len() == 1 {
            let (kind, name) = match has_rewards {
                true => (RowKind::OneOfMany, NAMED),
                false => (RowKind::Demonstration, DEMONSTRATED),
            };
            return Ok(RawGroup { kind, ..RawGroup::new(prompt, responses, name) });
        }
        if !has_rewards && self.chosen.is_none() {
            let problem = format!("there are {} responses and no --reward-field", responses.len());
            return Err(RowError::Problem(problem));
        }
        Ok(RawGroup::new(prompt, responses, if has_rewards { NAMED } else { CHOSEN }))
    }
}

const NAMED: &str = "the named fields";
const CHOSEN: &str = "the chosen field 1, the rejected 0";

impl fmt::Display for FieldMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("prompt", self.prompt.as_slice()),
            ("response", &self.responses),
            ("reward", &self.rewards),
            ("chosen", self.chosen.as_slice()),
            ("rejected", &self.rejected),
        ];
        let given = parts.into_iter().filter(|(_, paths)| !paths.is_empty());
        let text = given.map(|(name, paths)| {
            let paths: Vec<&str> = paths.iter().map(|path| path.0.as_str()).collect();
            format!("{name} {}", paths.join(", "))
        });
        write!(f, "fields {}", text.collect::<Vec<_>>().join("; "))
    }
}

/// The values at paths; a list of texts, numbers or conversations stands for its elements.
fn found_all<'a>(row: &Node<'a>, paths: &[FieldPath]) -> Result<Vec<Node<'a>>, RowError> {
    let mut nodes = Vec::new();
    for path in paths {
        for node in found(row.clone(), &path.0)? {
            match node.value {
                // Messages are one value; any other list holds several.
                Value::Array(items) if !items.iter().all(Value::is_object) || items.is_empty() => {
                    nodes.extend(node.items("a list")?);
                }
                _ => nodes.push(node),
            }
        }
    }
    Ok(nodes)
}

/// The values at a path. A key may itself contain dots.
fn found<'a>(node: Node<'a>, path: &str) -> Result<Vec<Node<'a>>, RowError> {
    if let Some(whole) = node.get(path) {
        return Ok(vec![whole]);
    }
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let next = match node.value {
        Value::Array(_) if first == "*" => node.items("a list")?,
        Value::Array(_) => {
            let items = node.items("a list")?;
            let index = first.parse::<usize>().ok();
            let item = index.and_then(|index| items.into_iter().nth(index));
            vec![
                item.ok_or_else(|| node.error(&format!("a list with the element \"{first}\" (\"*\" stands for all)")))?,
            ]
        }
        _ if first == "*" => return Err(node.error("a list")),
        _ => vec![node.require(first, "a value")?],
    };
    let Some(rest) = rest else { return Ok(next) };
    let nested = next.into_iter().map(|node| found(node, rest)).collect::<Result<Vec<_>, _>>()?;
    Ok(nested.concat())
}
