//! Renders every chat template that trl ships and compares it with transformers' rendering.
//!
//! Templates and expected texts are not in this repository; `tests/python/trl_templates.py` makes the file that this
//! reads and has the command. Not part of `cargo test`: this target runs only by name.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDateTime;
use collimate_chat::ChatTemplate;
use collimate_data::Message;
use serde::Deserialize;

/// The file with the renderings.
const VARIABLE: &str = "COLLIMATE_TRL_TEMPLATES";

#[derive(Deserialize)]
struct Renderings {
    transformers: String,
    now: String,
    tokens: BTreeMap<String, String>,
    num_templates: usize,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    chat: String,
    template: String,
    messages: Vec<Message>,
    add_generation_prompt: bool,
    /// What transformers renders; if nothing, `error` says why.
    text: Option<String>,
    error: Option<String>,
}

/// Describes the difference, if there is one.
fn difference(case: &Case, renderings: &Renderings) -> Option<String> {
    let now = NaiveDateTime::parse_from_str(&renderings.now, "%Y-%m-%dT%H:%M:%S").unwrap();
    let template = ChatTemplate::new(&case.template, renderings.tokens.clone());
    let template = template.and_then(|template| template.with_now(now));
    let found = template.and_then(|template| template.render(&case.messages, case.add_generation_prompt));
    match (found, &case.text) {
        (Ok(found), Some(text)) if found == *text => None,
        (Err(_), None) => None,
        (Ok(found), Some(text)) => Some(format!("\n  expected {text:?}\n  found    {found:?}")),
        (Ok(found), None) => Some(format!("\n  expected {:?}\n  found    {found:?}", case.error)),
        (Err(error), Some(text)) => Some(format!("\n  expected {text:?}\n  found    {error}")),
    }
}

#[test]
fn every_template_of_trl_is_rendered_as_transformers_does() {
    let path = std::env::var(VARIABLE);
    let path = path.unwrap_or_else(|_| panic!("{VARIABLE} names no file; tests/python/trl_templates.py makes it"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let renderings: Renderings = serde_json::from_str(&text).unwrap();
    let (mut wrong, mut texts, mut refusals) = (Vec::new(), 0, 0);
    for case in &renderings.cases {
        match difference(case, &renderings) {
            None if case.text.is_some() => texts += 1,
            None => refusals += 1,
            Some(difference) => {
                let prompt = if case.add_generation_prompt { ", generation prompt" } else { "" };
                wrong.push(format!("{}, {}{prompt}: {difference}", case.name, case.chat));
            }
        }
    }
    let names: BTreeSet<_> = renderings.cases.iter().map(|case| &case.name).collect();
    println!(
        "{} templates, {texts} texts and {refusals} refusals equal those of transformers {}; {} differ",
        names.len(),
        renderings.transformers,
        wrong.len()
    );
    assert!(names.len() == renderings.num_templates && texts > 0, "no renderings to compare with");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
