//! The two-line program that links plugins into collimate.
//!
//! It is a crate under `target/plugins`, a workspace of its own with this workspace's lock file and profiles, so that
//! burn and everything else from the registry is taken from the shared target folder, not built again.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

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

/// Writes the program for these plugins and features, or finds it as it was written before.
///
/// # Errors
/// A plugin folder that does not exist or holds no crate.
pub(crate) fn write(workspace: &Workspace, plugins: &[PathBuf], features: &[String]) -> Result<Harness> {
    let plugins: Vec<Plugin> = plugins.iter().map(|folder| Plugin::find(folder)).collect::<Result<_>>()?;
    let binary = binary_name(&plugins, features);
    let folder = workspace.target.join("plugins").join(&binary);
    std::fs::create_dir_all(folder.join("src")).with_context(|| format!("cannot create {}", folder.display()))?;
    let collimate = workspace.root.join("crates/collimate");
    let manifest = manifest_text(&binary, &collimate, &plugins, features, &workspace.profiles()?);
    write_changed(&folder.join("Cargo.toml"), &manifest)?;
    write_changed(&folder.join("src/main.rs"), &main_text(plugins.len()))?;
    share_lock(workspace, &folder)?;
    Ok(Harness { manifest: folder.join("Cargo.toml"), binary })
}

/// Starts a crate outside the workspace from the workspace's versions, unless that has been done with this very
/// lock file. Cargo drops the entries that the crate does not need and adds those it does.
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

/// FNV-1a over the parts: the same on every machine and for every compiler.
fn hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let bytes = parts.into_iter().flat_map(|part| part.bytes().chain([0]));
    let value = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{value:016x}")
}

fn manifest_text(binary: &str, collimate: &Path, plugins: &[Plugin], features: &[String], profiles: &str) -> String {
    let features: Vec<String> = features.iter().map(|feature| toml_string(feature)).collect();
    let mut text = format!(
        "[package]\nname = {}\nversion = \"0.0.0\"\nedition = \"2024\"\npublish = false\n\n\
         # Not part of any workspace above it.\n[workspace]\n\n\
         [dependencies]\ncollimate = {{ path = {}, features = [{}] }}\n",
        toml_string(binary),
        toml_string(&collimate.to_string_lossy()),
        features.join(", "),
    );
    for (index, plugin) in plugins.iter().enumerate() {
        let (package, folder) = (toml_string(&plugin.package), toml_string(&plugin.folder.to_string_lossy()));
        text.push_str(&format!("plugin_{index} = {{ package = {package}, path = {folder} }}\n"));
    }
    text + "\n" + profiles
}

fn main_text(num_plugins: usize) -> String {
    let uses: String = (0..num_plugins).map(|index| format!("use plugin_{index} as _;\n")).collect();
    format!("{uses}\nfn main() -> std::process::ExitCode {{\n    collimate::run()\n}}\n")
}

fn toml_string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Writes a file unless it already has this text: cargo goes by modification times.
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
    fn the_program_is_one_use_a_plugin_and_main() {
        let expected = "use plugin_0 as _;\nuse plugin_1 as _;\n\n\
                        fn main() -> std::process::ExitCode {\n    collimate::run()\n}\n";
        assert_eq!(main_text(2), expected);
    }

    #[test]
    fn the_manifest_names_the_package_and_keeps_the_profiles() {
        let features = ["cuda".to_owned()];
        let text = manifest_text("b", Path::new("/c/collimate"), &[plugin("margin")], &features, "[profile.release]\n");
        assert!(text.contains("collimate = { path = \"/c/collimate\", features = [\"cuda\"] }"), "{text}");
        assert!(text.contains("plugin_0 = { package = \"margin\", path = \"/plugins/margin\" }"), "{text}");
        assert!(text.contains("\n[workspace]\n") && text.ends_with("\n[profile.release]\n"), "{text}");
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

    #[test]
    fn the_hash_is_fnv_1a() {
        // The published value for the empty text, and one step by hand for the separator.
        assert_eq!(hash([]), "cbf29ce484222325");
        assert_eq!(hash([""]), format!("{:016x}", 0xcbf2_9ce4_8422_2325_u64.wrapping_mul(0x0000_0100_0000_01b3)));
    }

    #[test]
    fn strings_are_quoted_for_toml() {
        assert_eq!(toml_string(r#"a\b"c"#), r#""a\\b\"c""#);
    }
}
