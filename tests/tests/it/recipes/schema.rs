//! The schema of recipes: valid recipes satisfy it, invalid ones do not.

use std::fs;
use std::path::{Path, PathBuf};

use rstest::rstest;
use serde_json::Value;

use super::PUBLISHED;
use crate::harness::{Folder, succeed};

/// A YAML document as JSON.
pub(super) fn yaml(text: &str) -> Value {
    serde_yaml_ng::from_str(text).expect("YAML")
}

fn schema() -> Value {
    serde_json::from_str(&succeed(&["schema"]).out).expect("JSON")
}

fn configs() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let paths = fs::read_dir(folder).expect("the recipes").map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<_> = paths.collect();
    paths.sort();
    paths
}

/// Everything in a value that violates a schema, for the keywords that this schema uses.
fn violations(schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (word, rule) in schema.as_object().expect("a schema") {
        let holds = match word.as_str() {
            "$schema" | "title" | "description" | "default" => true,
            "type" => match rule {
                Value::Array(types) => types.iter().any(|name| is_of(value, name)),
                name => is_of(value, name),
            },
            "enum" => rule.as_array().expect("values").contains(value),
            "const" => rule == value,
            "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().expect("a number")),
            "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().expect("a number")),
            "minLength" => {
                value.as_str().is_none_or(|text| text.chars().count() as u64 >= rule.as_u64().expect("a count"))
            }
            "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().expect("a count")),
            "minProperties" => {
                value.as_object().is_none_or(|keys| keys.len() as u64 >= rule.as_u64().expect("a count"))
            }
            "required" => value.as_object().is_none_or(|keys| {
                rule.as_array().expect("names").iter().all(|name| keys.contains_key(name.as_str().expect("a name")))
            }),
            "anyOf" => rule.as_array().expect("schemas").iter().any(|form| violations(form, value, at).is_empty()),
            "items" => value.as_array().into_iter().flatten().all(|item| violations(rule, item, at).is_empty()),
            "properties" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    found.extend(rule.get(key).map(|rule| violations(rule, value, key)).unwrap_or_default());
                }
                true
            }
            "additionalProperties" => {
                let known = |key: &String| schema.get("properties").is_some_and(|known| known.get(key).is_some());
                let mut others = value.as_object().into_iter().flatten().filter(|(key, _)| !known(key));
                match rule {
                    Value::Bool(allowed) => *allowed || others.next().is_none(),
                    rule => others.all(|(_, value)| violations(rule, value, at).is_empty()),
                }
            }
            other => panic!("the validator does not know \"{other}\""),
        };
        if !holds {
            found.push(format!("{at}: {word}"));
        }
    }
    found
}

fn is_of(value: &Value, name: &Value) -> bool {
    match name.as_str().expect("a type") {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no type \"{other}\""),
    }
}

#[test]
fn every_recipe_in_configs_is_valid_by_the_schema() {
    let schema = schema();
    for path in configs() {
        let recipe = yaml(&fs::read_to_string(&path).expect("a recipe"));
        assert_eq!(violations(&schema, &recipe, "recipe"), Vec::<String>::new(), "{}", path.display());
    }
    assert_eq!(violations(&schema, &yaml(PUBLISHED), "recipe"), Vec::<String>::new());
}

#[test]
fn a_resolved_recipe_is_valid_by_the_schema() {
    let resolved = collimate_recipe::Recipe::default().resolved_yaml().expect("YAML");
    let mut recipe = yaml(&resolved);
    // The defaults name no backend; a run chooses it.
    assert_eq!(violations(&schema(), &recipe, "recipe"), Vec::<String>::new());
    recipe["backend"] = "flex".into();
    assert_eq!(violations(&schema(), &recipe, "recipe"), Vec::<String>::new());
}

#[rstest]
#[case("learning_rat: 1e-5", "recipe: additionalProperties")]
#[case("learning_rate: fast", "learning_rate: type")]
#[case("lora_r: 2.5", "lora_r: type")]
#[case("lora_r: -1", "lora_r: minimum")]
#[case("lr_scheduler_type: cosin", "lr_scheduler_type: enum")]
#[case("eval_strategy: sometimes", "eval_strategy: enum")]
#[case("torch_dtype: int8", "torch_dtype: enum")]
#[case("data_layout: colimate", "data_layout: enum")]
#[case("objective: ncaa", "objective: anyOf")]
#[case("objective: {name: nca, bta: 1}", "objective: anyOf")]
#[case("objective: {beta: 1}", "objective: anyOf")]
#[case("data: {a.jsonl: 2}", "data: anyOf")]
#[case("lora_target_modules: []", "lora_target_modules: anyOf")]
fn mistakes_are_not(#[case] recipe: &str, #[case] expected: &str) {
    assert_eq!(violations(&schema(), &yaml(recipe), "recipe"), [expected]);
}

#[test]
fn the_schema_has_every_key_with_its_documentation_and_can_be_written() {
    let folder = Folder::new();
    succeed(&["schema", "--output", &folder.arg("recipe.schema.json")]);
    let schema: Value = serde_json::from_str(&folder.read("recipe.schema.json")).expect("JSON");
    let keys: Value = serde_json::from_str(&succeed(&["recipe-keys", "--json"]).out).expect("JSON");
    for key in keys.as_array().expect("keys") {
        let described = &schema["properties"][key["name"].as_str().expect("a name")];
        assert_eq!(described["description"], key["doc"]);
    }
    for key in ["loss_type", "report_to", "load_in_4bit", "evaluation_strategy", "dataset_mixer"] {
        assert!(schema["properties"][key]["description"].is_string(), "{key}");
    }
}

/// What each recipe's first lines must state.
const OPENING: [&str; 4] = ["Source", "Hardware", "Time", "Expect"];

#[test]
fn every_recipe_in_configs_opens_with_what_it_needs_and_gives() {
    for path in configs() {
        let text = fs::read_to_string(&path).expect("a recipe");
        let opening: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
        for word in OPENING {
            let said = opening.iter().any(|line| line.strip_prefix("# ").is_some_and(|line| line.starts_with(word)));
            assert!(said, "{}: no {word}", path.display());
        }
        let name = path.file_name().expect("a name").display();
        let command = format!("cargo xtask train configs/{name}");
        assert!(opening.iter().any(|line| line.contains(&command)), "{}: no command", path.display());
    }
}
