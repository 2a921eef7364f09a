//! The two-line program that links plugins into collimate.
//!
//! It is a crate under `target/plugins`, in a workspace of its own. Since it has this workspace's lock file and
//! profiles, it reuses all registry crates in the shared target folder.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use toml::{Table, Value};

use crate::workspace::{Workspace, package_name};

/// A generated crate.
#[derive(Debug)]
pub(crate) struct Harness {
    /// Its Cargo.toml.
    pub(crate) manifest: PathBuf,
    /// Name of the program it builds.
    pub(crate) binary: String,
}

/// A plugin crate that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plugin {
    package: String,
    folder: PathBuf,
}

/// Writes the program for these plugins and features, unless it is there already.
///
/// # Errors
/// A plugin folder that does not exist or holds no crate.
pub(crate) fn write(workspace: &Workspace, plugins: &[PathBuf], features: &[String]) -> Result<Harness> {
    let plugins: Vec<Plugin> = plugins.iter().map(|folder| Plugin::find(folder)).collect::<Result<_>>()?;
    let binary = binary_name(&plugins, features);
    let folder = workspace.target.join("plugins").join(&binary);
    std::fs::create_dir_all(folder.join("src")).with_context(|| format!("cannot create {}", folder.display()))?;
    let collimate = workspace.root.join("crates/collimate");
    let manifest = manifest_text(&binary, &collimate, &plugins, features, &workspace.profiles()?)?;
    write_changed(&folder.join("Cargo.toml"), &manifest)?;
    write_changed(&folder.join("src/main.rs"), &main_text(plugins.len()))?;
    share_lock(workspace, &folder)?;
    Ok(Harness { manifest: folder.join("Cargo.toml"), binary })
}

/// Copies the workspace's lock file to a crate outside it, unless this one was copied before. Cargo drops entries that the
/// crate doesn't need and adds missing ones.
pub(crate) fn share_lock(workspace: &Workspace, folder: &Path) -> Result<()> {
    let lock = workspace.read("Cargo.lock")?;
    let stamps = workspace.target.join("plugins");
    std::fs::create_dir_all(&stamps).with_context(|| format!("cannot create {}", stamps.display()))?;
    let stamp = stamps.join(format!("{}.lock", hash([folder.to_string_lossy().as_ref()])));
    let known = std::fs::read_to_string(&stamp).is_ok_and(|seen| seen == lock);
    if !known || !folder.join("Cargo.lock").is_file() {
        write_changed(&folder.join("Cargo.lock"), &lock)?;
        write_changed(&stamp, &lock)?;
    }
    Ok(())
}

impl Plugin {
    fn find(folder: &Path) -> Result<Self> {
        let absolute = folder.canonicalize().with_context(|| format!("--plugin {}", folder.display()))?;
        Ok(Self { package: package_name(&absolute)?, folder: absolute })
    }
}

fn binary_name(plugins: &[Plugin], features: &[String]) -> String {
    let folders = plugins.iter().map(|plugin| plugin.folder.to_string_lossy().into_owned());
    let parts: Vec<String> = folders.chain(features.iter().cloned()).collect();
    format!("collimate-{}", hash(parts.iter().map(String::as_str)))
}

/// A short name for these parts. A toolchain that hashes differently merely builds the program once more.
fn hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = DefaultHasher::new();
    parts.into_iter().for_each(|part| part.hash(&mut hasher));
    format!("{:016x}", hasher.finish())
}

/// The program's Cargo.toml: a workspace of its own, whatever contains it.
fn manifest_text(
    binary: &str,
    collimate: &Path,
    plugins: &[Plugin],
    features: &[String],
    profiles: &Table,
) -> Result<String> {
    let package = json!({"name": binary, "version": "0.0.0", "edition": "2024", "publish": false});
    let mut dependencies = Table::new();
    dependencies.insert("collimate".to_owned(), table(json!({"path": collimate, "features": features}))?);
    for (index, Plugin { package, folder }) in plugins.iter().enumerate() {
        dependencies.insert(format!("plugin_{index}"), table(json!({"package": package, "path": folder}))?);
    }
    let mut manifest = profiles.clone();
    manifest.insert("package".to_owned(), table(package)?);
    manifest.insert("workspace".to_owned(), Value::Table(Table::new()));
    manifest.insert("dependencies".to_owned(), Value::Table(dependencies));
    Ok(toml::to_string(&manifest)?)
}

fn table(json: serde_json::Value) -> Result<Value> {
    Value::try_from(json).context("a table of a Cargo.toml")
}

fn main_text(num_plugins: usize) -> String {
    let uses: String = (0..num_plugins).map(|index| format!("use plugin_{index} as _;\n")).collect();
    format!("{uses}\nfn main() -> std::process::ExitCode {{\n    collimate::run()\n}}\n")
}

/// Writes a file unless it already has this text, since cargo goes by modification times.
pub(crate) fn write_changed(path: &Path, text: &str) -> Result<()> {
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(name: &str) -> Plugin {
        Plugin { package: name.to_owned(), folder: PathBuf::from(format!("/plugins/{name}")) }
    }

    #[test]
    fn the_program_is_one_use_per_plugin_and_main() {
        let expected = "use plugin_0 as _;\nuse plugin_1 as _;\n\n\
                        fn main() -> std::process::ExitCode {\n    collimate::run()\n}\n";
        assert_eq!(main_text(2), expected);
    }

    #[test]
    fn the_manifest_names_the_package_and_keeps_the_profiles() {
        let features = ["cuda".to_owned()];
        let profiles: Table = "[profile.release]\nopt-level = 3\n".parse().expect("TOML");
        let plugins = [plugin("margin"), Plugin { package: "odd".to_owned(), folder: r#"/a\b"c"#.into() }];
        let text = manifest_text("b", Path::new("/c/collimate"), &plugins, &features, &profiles).expect("text");
        let manifest: Table = text.parse().expect("TOML");
        let expected: Table = r#"
            collimate = { path = "/c/collimate", features = ["cuda"] }
            plugin_0 = { package = "margin", path = "/plugins/margin" }
            plugin_1 = { package = "odd", path = "/a\\b\"c" }
        "#
        .parse()
        .expect("TOML");
        assert_eq!(manifest["dependencies"], Value::Table(expected));
        assert_eq!(manifest["package"]["name"].as_str(), Some("b"));
        assert_eq!(manifest["workspace"], Value::Table(Table::new()));
        assert_eq!(manifest["profile"], profiles["profile"]);
    }

    #[test]
    fn other_plugins_or_features_are_another_program() {
        let name = |plugins: &[Plugin], features: &[&str]| {
            binary_name(plugins, &features.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>())
        };
        let one = name(&[plugin("a")], &[]);
        assert_eq!(one, name(&[plugin("a")], &[]));
        assert_ne!(one, name(&[plugin("a"), plugin("b")], &[]));
        assert_ne!(one, name(&[plugin("a")], &["cuda"]));
    }
}
