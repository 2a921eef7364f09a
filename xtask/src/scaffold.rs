//! `cargo xtask new-objective`: scaffolds a working plugin crate.

use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::harness;
use crate::workspace::Workspace;

/// Files of a plugin crate and their templates.
const FILES: [(&str, &str); 5] = [
    ("Cargo.toml", include_str!("../templates/objective/Cargo.toml.in")),
    (".cargo/config.toml", include_str!("../templates/objective/config.toml.in")),
    (".gitignore", include_str!("../templates/objective/gitignore.in")),
    ("README.md", include_str!("../templates/objective/README.md.in")),
    ("src/lib.rs", include_str!("../templates/objective/lib.rs.in")),
];

/// Type names that the template uses.
const TAKEN_TYPES: [&str; 11] = [
    "Debug",
    "Default",
    "Err",
    "Failure",
    "GroupScores",
    "Objective",
    "ObjectiveError",
    "ObjectiveOutput",
    "Positive",
    "ScoredGroups",
    "Self",
];

/// Writes the crate and prints the next steps.
///
/// # Errors
/// An invalid name, a built-in objective's name, or a folder that exists.
pub(crate) fn new_objective(workspace: &Workspace, name: &str, path: Option<&Path>) -> Result<ExitCode> {
    let folder = path.map_or_else(|| PathBuf::from(package_of(name)), Path::to_path_buf);
    write(workspace, name, &folder)?;
    let shown = folder.display();
    println!("Wrote the objective {name} to {shown}. Its loss is in {}.", folder.join("src/lib.rs").display());
    println!("  Test:   cd {shown} && cargo test");
    println!("  Train:  cargo xtask train --plugin {shown} --objective {name}");
    Ok(ExitCode::SUCCESS)
}

/// Writes the crate to a new folder.
pub(crate) fn write(workspace: &Workspace, name: &str, folder: &Path) -> Result<()> {
    check_name(name)?;
    refuse_built_in(&workspace.root.join("crates/collimate-objectives/src"), name)?;
    if folder.exists() {
        bail!("{} exists; choose another folder with --path", folder.display());
    }
    std::fs::create_dir_all(folder.join("src")).with_context(|| format!("cannot create {}", folder.display()))?;
    std::fs::create_dir_all(folder.join(".cargo"))?;
    let folder = folder.canonicalize()?;
    let root = workspace.root.canonicalize()?;
    let target = std::path::absolute(&workspace.target)?;
    let profiles = workspace.profiles()?;
    let values = [
        ("{name}", name.to_owned()),
        ("{type}", type_of(name)),
        ("{package}", package_of(name)),
        ("{objective_crate}", between(&folder, &root.join("crates/collimate-objective"))),
        ("{target}", between(&folder, &target)),
        ("{root}", between(&folder, &root)),
        ("{plugin}", between(&root, &folder)),
        ("{profiles}", profiles.to_string().trim_end().to_owned()),
    ];
    for (file, template) in FILES {
        let path = folder.join(file);
        std::fs::write(&path, fill(template, &values)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    harness::share_lock(workspace, &folder)
}

fn fill(template: &str, values: &[(&str, String)]) -> String {
    values.iter().fold(template.to_owned(), |text, (key, value)| text.replace(key, value))
}

fn check_name(name: &str) -> Result<()> {
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase());
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !starts_well || !plain || name.ends_with('_') || name.contains("__") {
        bail!("\"{name}\" cannot name an objective: small letters, digits and single _ between them, a letter first");
    }
    if TAKEN_TYPES.contains(&type_of(name).as_str()) {
        bail!("\"{name}\" would make a Rust type called {}, which is taken; choose another name", type_of(name));
    }
    Ok(())
}

/// Refuses the name of a built-in objective.
fn refuse_built_in(sources: &Path, name: &str) -> Result<()> {
    let line = format!("name: \"{name}\"");
    for entry in std::fs::read_dir(sources).with_context(|| format!("cannot read {}", sources.display()))? {
        let path = entry?.path();
        if path.is_file() && std::fs::read_to_string(&path)?.contains(&line) {
            bail!("\"{name}\" is a built-in objective ({}); choose another name", path.display());
        }
    }
    Ok(())
}

/// `focal_margin` → `focal-margin-objective`.
fn package_of(name: &str) -> String {
    let words = name.replace('_', "-");
    if words.ends_with("-objective") { words } else { format!("{words}-objective") }
}

/// `focal_margin` → `FocalMargin`.
fn type_of(name: &str) -> String {
    let capital = |word: &str| {
        let mut chars = word.chars();
        chars.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(chars).collect::<String>()
    };
    name.split('_').map(capital).collect()
}

/// The relative path from one absolute folder to another, with `/`.
fn between(from: &Path, to: &Path) -> String {
    let (from, to): (Vec<Component>, Vec<Component>) = (from.components().collect(), to.components().collect());
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..".to_owned(), from.len() - common);
    let down = to[common..].iter().map(|part| part.as_os_str().to_string_lossy().into_owned());
    let parts: Vec<String> = up.chain(down).collect();
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_packages_and_types() {
        assert_eq!(package_of("focal_margin"), "focal-margin-objective");
        assert_eq!(package_of("margin_objective"), "margin-objective");
        assert_eq!(type_of("focal_margin2"), "FocalMargin2");
    }

    #[test]
    fn invalid_names_are_refused() {
        for name in ["", "Focal", "2x", "a-b", "a__b", "a_", "_a", "é", "self", "objective", "../x"] {
            assert!(check_name(name).is_err(), "{name} was accepted");
        }
        for name in ["focal", "focal_margin", "x2"] {
            check_name(name).expect("a usable name");
        }
    }

    #[test]
    fn relative_paths_go_up_and_down() {
        assert_eq!(between(Path::new("/a/b/c"), Path::new("/a/d")), "../../d");
        assert_eq!(between(Path::new("/a"), Path::new("/a/d/e")), "d/e");
        assert_eq!(between(Path::new("/a"), Path::new("/a")), ".");
    }

    #[test]
    fn a_crate_is_written_once_without_placeholders() {
        let workspace = Workspace::locate().expect("a checkout");
        let folder = std::env::temp_dir().join(format!("xtask-scaffold-{}", std::process::id()));
        write(&workspace, "focal_margin", &folder).expect("a new folder");
        let texts: Vec<String> = FILES
            .iter()
            .map(|(file, _)| std::fs::read_to_string(folder.join(file)).expect("every file is written"))
            .collect();
        let again = write(&workspace, "focal_margin", &folder).expect_err("the folder exists");
        std::fs::remove_dir_all(&folder).expect("temporary folder");
        assert!(again.to_string().contains("--path"), "{again}");
        for key in
            ["{name}", "{type}", "{package}", "{objective_crate}", "{target}", "{root}", "{plugin}", "{profiles}"]
        {
            assert!(texts.iter().all(|text| !text.contains(key)), "{key} is left");
        }
        assert!(texts[0].contains("name = \"focal-margin-objective\""), "{}", texts[0]);
    }

    #[test]
    fn built_in_names_are_refused_with_their_file() {
        let folder = std::env::temp_dir().join(format!("xtask-built-in-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("temporary folder");
        std::fs::write(folder.join("dpo.rs"), "register_objective! {\n    Dpo,\n    name: \"dpo\",\n}")
            .expect("a file");
        let dpo = refuse_built_in(&folder, "dpo");
        let other = refuse_built_in(&folder, "dp");
        std::fs::remove_dir_all(&folder).expect("temporary folder");
        assert!(dpo.expect_err("built in").to_string().contains("dpo.rs"));
        other.expect("another name");
    }
}
