//! Names, parameters and the generated parts of `docs/objectives.md`.

use std::path::Path;

use collimate_objective::{
    ObjectiveError, registry,
    serde_json::{Value, json},
};
use rstest::rstest;

use crate::{names, table};

/// A file without its registration, or without its `mod` in `lib.rs`, would go untested.
#[test]
fn every_source_file_registers_the_objective_of_its_name() {
    registry::check().expect("no two objectives share a name");
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = std::fs::read_dir(src).expect("the sources").map(|entry| entry.expect("an entry").path());
    let registers = |path: &Path| std::fs::read_to_string(path).expect("a source").contains("register_objective! {");
    let stem = |path: &Path| path.file_stem().expect("a name").to_string_lossy().into_owned();
    let mut expected: Vec<String> = files.filter(|path| registers(path)).map(|path| stem(&path)).collect();
    expected.sort();
    assert_eq!(names(), expected);
    assert!(expected.len() >= 24, "{} objectives", expected.len());
}

/// The table in `docs/objectives.md`.
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

/// The doc comment of each objective and of its parameters, as sections of `docs/objectives.md`.
fn details_of_objectives() -> String {
    let section = |name: &str| {
        let path = format!("{}/src/{name}.rs", env!("CARGO_MANIFEST_DIR"));
        let source = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let (about, parameters) = documented(&source);
        assert!(!about.is_empty(), "{name} has no documentation");
        let listed: String = parameters.iter().map(|(name, doc)| format!("- `{name}`: {doc}\n")).collect();
        let parameters = if listed.is_empty() { listed } else { format!("\nParameters:\n\n{listed}") };
        format!("\n### `{name}`\n\n{about}{parameters}")
    };
    names().into_iter().map(section).collect()
}

/// The doc comments of a source's public type and of its public fields.
fn documented(source: &str) -> (String, Vec<(String, String)>) {
    let (mut doc, mut about, mut parameters) = (Vec::new(), None, Vec::new());
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            doc.push(without_links(text.trim_start()));
        } else if line.starts_with("pub struct ") && about.is_none() {
            about = Some(std::mem::take(&mut doc).join("\n") + "\n");
        } else if let Some((name, _)) = line.strip_prefix("pub ").and_then(|rest| rest.split_once(": ")) {
            let sentence: Vec<String> = std::mem::take(&mut doc).into_iter().filter(|line| !line.is_empty()).collect();
            parameters.push((name.to_owned(), sentence.join(" ")));
        } else if !line.starts_with("#[") {
            doc.clear();
        }
        if about.is_some() && line == "}" {
            break;
        }
    }
    (about.unwrap_or_default(), parameters)
}

/// Replaces intra-doc links by the linked names.
fn without_links(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("[`") {
        text.push_str(before);
        let Some((name, after)) = after.split_once("`]") else {
            text.push_str("[`");
            rest = after;
            continue;
        };
        text.push_str(&format!("`{name}`"));
        let target = after.starts_with('(').then(|| after.find(')')).flatten();
        rest = target.map_or(after, |end| &after[end + 1..]);
    }
    text + rest
}

/// Checks the text between two marks of `docs/objectives.md`, or writes it if COLLIMATE_WRITE_DOCS is set.
fn check_docs(mark: &str, expected: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/objectives.md");
    let text = std::fs::read_to_string(path).expect("docs/objectives.md is there");
    let (start, end) = (format!("<!-- {mark}: start -->\n"), format!("<!-- {mark}: end -->"));
    let (before, rest) = text.split_once(&start).expect("a start mark");
    let (found, after) = rest.split_once(&end).expect("an end mark");
    if std::env::var_os("COLLIMATE_WRITE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{start}{expected}{end}{after}")).expect("docs/objectives.md is written");
    } else {
        assert_eq!(found, expected, "run this test with COLLIMATE_WRITE_DOCS=1 and commit docs/objectives.md");
    }
}

#[test]
fn the_docs_match_registry_and_source() {
    check_docs("table", &table_of_objectives());
    check_docs("details", &details_of_objectives());
}

#[rstest]
#[case("See [`Nca`](crate::Nca) and [`alpha`](Nca::alpha).", "See `Nca` and `alpha`.")]
#[case("From [`super::Dpo`] on, arrays[i] stay.", "From `super::Dpo` on, arrays[i] stay.")]
fn intra_doc_links_become_names(#[case] line: &str, #[case] expected: &str) {
    assert_eq!(without_links(line), expected);
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
fn wrong_recipes_are_refused(#[case] name: &str, #[case] params: Value, #[case] message: &str) {
    let error = registry::build(name, &table(params)).expect_err("the recipe is wrong");
    assert_eq!(error.to_string(), message);
}

#[test]
fn combine_names_the_term_at_fault() {
    let terms = json!({"terms": [{"name": "nca"}, {"name": "dpo", "bta": 1.0}]});
    let error = registry::build("combine", &table(terms)).expect_err("bta is not a parameter");
    assert!(
        matches!(&error, ObjectiveError::InvalidParameter { key, reason, .. }
        if key == "terms" && reason.contains(r#"objective "dpo" has no parameter "bta""#)),
        "{error}"
    );
}
