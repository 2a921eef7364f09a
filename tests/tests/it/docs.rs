//! The book: tables generated from the code (keys of a recipe, TRL's keys) and links.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use collimate_recipe::Recipe;
use serde_json::Value;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// Checks that `expected` is between the marks of a page's table; with `COLLIMATE_WRITE_DOCS` set, writes it there.
fn check(page: &str, expected: &str) {
    check_between(page, "table", expected);
}

/// The same for marks of another name.
fn check_between(page: &str, name: &str, expected: &str) {
    let path = docs().join(page);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (start, end) = (format!("<!-- {name}: start -->\n"), format!("<!-- {name}: end -->"));
    let (before, rest) = text.split_once(&start).expect("a start mark");
    let (found, after) = rest.split_once(&end).expect("an end mark");
    if std::env::var_os("COLLIMATE_WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{start}{expected}{end}{after}")).expect("the page is written");
    } else {
        assert!(found == expected, "run this test with COLLIMATE_WRITE_DOCS=1 and commit docs/{page}");
    }
}

/// Text for a cell of a table.
fn cell(text: &str) -> String {
    text.trim().replace('|', "\\|")
}

#[test]
fn every_key_of_a_recipe_is_in_the_book() {
    let defaults = serde_json::to_value(Recipe::default()).expect("JSON");
    let mut table = "| key | default | what it does |\n|---|---|---|\n".to_owned();
    for key in Recipe::KEYS {
        let default = match &defaults[key.name] {
            Value::Null => String::new(),
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        let _ = writeln!(table, "| `{}` | {} | {} |", key.name, cell(&default), cell(key.doc));
    }
    check("recipes.md", &table);
}

#[test]
fn every_key_of_trl_that_is_understood_is_in_the_book() {
    let mut keys = Recipe::other_keys();
    keys.sort_by_key(|(name, _)| *name);
    let meaning = |doc: &&(&str, String)| doc.1 != "Without effect here.";
    let mut table = "| key | here |\n|---|---|\n".to_owned();
    for (name, doc) in keys.iter().filter(meaning) {
        let _ = writeln!(table, "| `{name}` | {} |", cell(doc));
    }
    let idle = keys.iter().filter(|key| !meaning(key)).map(|(name, _)| format!("`{name}`"));
    let _ = write!(table, "\nWithout effect: {}.\n", idle.collect::<Vec<_>>().join(", "));
    check("from-trl.md", &table);
}

#[test]
fn every_default_that_differs_from_trls_is_in_the_book() {
    let shown = |value: &Value| match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => format!("`{text}`"),
        Value::Object(table) => format!("`{}`", table["name"].as_str().unwrap_or_default()),
        other => format!("`{other}`"),
    };
    let mut table = "| key | here | TRL | in TRL's words |\n|---|---|---|---|\n".to_owned();
    for default in Recipe::different_trl_defaults() {
        let (key, ours, trl) = (default.key, shown(&default.ours), shown(&default.trl));
        let _ = writeln!(table, "| `{key}` | {ours} | {trl} | {} |", cell(default.remark));
    }
    check_between("from-trl.md", "defaults", &table);
}

/// Every page of the book, in its folders too.
fn pages() -> Vec<PathBuf> {
    let folders = [docs(), docs().join("decisions")];
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).expect("the pages"));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

#[test]
fn every_page_is_in_the_table_of_contents_and_every_link_leads_somewhere() {
    let summary = std::fs::read_to_string(docs().join("SUMMARY.md")).expect("a table of contents");
    for page in pages() {
        let name = page.strip_prefix(docs()).expect("a page").display().to_string();
        assert!(name == "SUMMARY.md" || summary.contains(&format!("]({name})")), "{name} is not in docs/SUMMARY.md");
        let text = std::fs::read_to_string(&page).expect("text");
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") || file.contains(' ') || file.contains("::") {
                continue;
            }
            let folder = page.parent().expect("a folder");
            assert!(folder.join(file).exists(), "{}: a link to {target}, which is not there", page.display());
        }
    }
}
