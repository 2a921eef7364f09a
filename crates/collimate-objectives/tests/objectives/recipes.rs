//! Names, parameters and the table in the docs.

use collimate_objective::{
    ObjectiveError, registry,
    serde_json::{Value, json},
};
use rstest::rstest;

use crate::{NAMES, table};

#[test]
fn all_objectives_are_registered_under_names_of_their_own() {
    registry::check().expect("no two objectives share a name");
    assert_eq!(registry::all().iter().map(|plugin| plugin.name).collect::<Vec<_>>(), NAMES);
}

/// The table of `docs/objectives.md`, written from the registry.
fn table_of_objectives() -> String {
    let mut table =
        "| name | what it does | loss of a prompt | defaults | source |\n|---|---|---|---|---|\n".to_owned();
    for plugin in registry::all() {
        let defaults = plugin.defaults();
        let defaults = defaults.as_object().into_iter().flatten().map(|(key, value)| format!("`{key}: {value}`"));
        let defaults = defaults.collect::<Vec<_>>().join(", ");
        let (formula, summary) = (plugin.formula.replace('|', "\\|"), plugin.summary);
        table += &format!("| `{}` | {summary} | {formula} | {defaults} | {} |\n", plugin.name, plugin.paper);
    }
    table
}

#[test]
fn the_table_in_the_docs_is_the_registrys() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/objectives.md");
    let text = std::fs::read_to_string(path).expect("docs/objectives.md is there");
    let (start, end) = ("<!-- table: start -->\n", "<!-- table: end -->");
    let (before, rest) = text.split_once(start).expect("a start mark");
    let (found, after) = rest.split_once(end).expect("an end mark");
    let expected = table_of_objectives();
    if std::env::var_os("COLLIMATE_WRITE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{start}{expected}{end}{after}")).expect("docs/objectives.md is written");
    } else {
        assert_eq!(found, expected, "run this test with COLLIMATE_WRITE_DOCS=1 and commit docs/objectives.md");
    }
}

#[rstest]
#[case("nca", json!({"beta": 0.0}), r#"objective "nca": parameter "beta" = 0.0: expected a number > 0, found 0"#)]
#[case("nca", json!({"alpha": -1}), r#"objective "nca": parameter "alpha" = -1: expected a number > 0, found -1"#)]
#[case("dpo", json!({"label_smoothing": 0.5}),
    r#"objective "dpo": parameter "label_smoothing" = 0.5: expected a number in [0, 0.5), found 0.5"#)]
#[case("nca", json!({"bta": 0.1}), r#"objective "nca" has no parameter "bta"; did you mean beta?; it has beta, alpha"#)]
#[case("sft", json!({"beta": 0.1}), r#"objective "sft" has no parameter "beta"; it has none"#)]
#[case("ncaa", json!({}), r#"no objective is called "ncaa"; did you mean nca or nca_pair?"#)]
#[case("combine", json!({"terms": []}),
    r#"objective "combine": parameter "terms" = []: expected at least one term, found none"#)]
fn recipes_that_cannot_be_meant_are_refused(#[case] name: &str, #[case] params: Value, #[case] message: &str) {
    let error = registry::build(name, &table(params)).expect_err("the recipe is wrong");
    assert_eq!(error.to_string(), message);
}

#[test]
fn a_combination_names_the_term_at_fault() {
    let terms = json!({"terms": [{"name": "nca"}, {"name": "dpo", "bta": 1.0}]});
    let error = registry::build("combine", &table(terms)).expect_err("bta is not a parameter");
    assert!(
        matches!(&error, ObjectiveError::InvalidParameter { key, reason, .. }
        if key == "terms" && reason.contains(r#"objective "dpo" has no parameter "bta""#)),
        "{error}"
    );
}
