//! UltraFeedback: `{"instruction", "completions": [{"response", "overall_score"?, "fine-grained_score"?, "annotations"?}]}`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::node::{Node, RowError};
use super::raw::{RawGroup, RawResponse};
use super::spec::{LayoutSpec, Numbers, has};

const SCORES: [(&str, &str); 2] =
    [("overall_score", "completions[].overall_score"), ("fine-grained_score", "completions[].fine-grained_score")];

pub(super) static SPEC: LayoutSpec = LayoutSpec {
    name: "ultrafeedback",
    fields: "instruction, completions[].response, completions[].overall_score",
    prompt: "`instruction`",
    responses: "`completions[].response`",
    rewards: "`.overall_score`, else `.fine-grained_score`, else the mean of `.annotations`",
    numbers: Numbers::Scores,
    reads: &[],
    matches: |row| has(row, &["instruction", "completions"]),
    parse,
};

fn parse(row: &Node) -> Result<RawGroup, RowError> {
    let prompt = row.require("instruction", "a string or a list of messages")?.prompt()?;
    let items = row.require("completions", "a list of completions")?.items("a list of completions")?;
    // If any completion has the score, all must.
    let has_score = |key: &str| items.iter().any(|node| node.get(key).is_some_and(|score| !score.value.is_null()));
    let score = SCORES.into_iter().find(|(key, _)| has_score(key));
    let responses = items.iter().map(|node| completion(node, score.map(|(key, _)| key))).collect::<Result<_, _>>()?;
    let signal_name = score.map_or("completions[].annotations", |(_, name)| name);
    Ok(RawGroup::new(prompt, responses, signal_name))
}

fn completion(node: &Node, score: Option<&str>) -> Result<RawResponse, RowError> {
    let reply = node.reply(&["response"])?;
    let mut others = BTreeMap::new();
    for (key, _) in SCORES {
        if let Some(number) = node.optional_number(key)? {
            others.insert(key.to_owned(), number);
        }
    }
    let mut aspects = BTreeMap::new();
    if let Some(annotations) = node.get("annotations").filter(|annotations| !annotations.value.is_null()) {
        for aspect in annotations.object()?.keys() {
            let Some(annotation) = annotations.get(aspect) else { continue };
            if let Some(rating) = rating(&annotation.require("Rating", "a rating")?)? {
                aspects.insert(aspect.clone(), rating);
            }
        }
    }
    let key = score.unwrap_or("overall_score");
    let mut response = RawResponse::new(reply, &node.path, node.signal(key)?, node.child_path(key));
    (response.aspects, response.others) = (aspects, others);
    Ok(response)
}

/// A rating, a string in the published data: `"4"`, or `"N/A"` if the annotator gave none.
fn rating(node: &Node) -> Result<Option<f64>, RowError> {
    let text = match node.value {
        Value::Number(_) => return node.number().map(Some),
        Value::String(text) => text.trim(),
        _ => return Err(node.error("a rating such as \"4\" or \"N/A\"")),
    };
    if text.eq_ignore_ascii_case("n/a") {
        return Ok(None);
    }
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    number.map(Some).ok_or_else(|| node.error("a rating such as \"4\" or \"N/A\""))
}
