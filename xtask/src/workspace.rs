//! Paths of the checkout, and cargo commands.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use toml::Table;

/// The checkout that xtask works on.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    /// Folder of the workspace's Cargo.toml.
    pub(crate) root: PathBuf,
    /// Folder that every build shares, so that dependencies are built once.
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// Finds the checkout that this crate is in.
    pub(crate) fn locate() -> Result<Self> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let Some(root) = Path::new(&manifest).parent().map(Path::to_path_buf) else {
            bail!("{} has no parent folder", Path::new(&manifest).display());
        };
        let target = target_folder(&root)?;
        Ok(Self { root, target })
    }

    /// A cargo command for a manifest, with the shared target folder.
    pub(crate) fn cargo(&self, verb: &str, manifest: &Path) -> Command {
        let mut command = plain_cargo(verb, manifest);
        command.env("CARGO_TARGET_DIR", &self.target);
        command
    }

    /// A cargo command on this workspace; under CI the lock file must be up to date.
    pub(crate) fn cargo_here(&self, verb: &str) -> Command {
        let mut command = self.cargo(verb, &self.manifest());
        if in_ci() {
            command.arg("--locked");
        }
        command
    }

    /// The workspace's Cargo.toml.
    pub(crate) fn manifest(&self) -> PathBuf {
        self.root.join("Cargo.toml")
    }

    /// A program built into a profile's folder.
    pub(crate) fn program(&self, folder: &str, name: &str) -> PathBuf {
        self.target.join(folder).join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
    }

    /// Reads a file of the checkout.
    pub(crate) fn read(&self, file: &str) -> Result<String> {
        let path = self.root.join(file);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// A table with only the workspace's `profile`: builds that include it share the workspace's dependencies.
    pub(crate) fn profiles(&self) -> Result<Table> {
        profiles_of(&self.read("Cargo.toml")?)
    }
}

/// The name of the package in `folder`.
///
/// # Errors
/// There is no Cargo.toml, or cargo rejects it (its message is passed on).
pub(crate) fn package_name(folder: &Path) -> Result<String> {
    let manifest = folder.join("Cargo.toml");
    if !manifest.is_file() {
        bail!(
            "{} holds no Cargo.toml; a plugin is a crate: cargo xtask new-objective NAME writes one",
            folder.display()
        );
    }
    let json = output(&mut plain_cargo("read-manifest", &manifest))?;
    string_field(&json, "name").with_context(|| format!("cargo names no package in {}", manifest.display()))
}

/// Runs a command and returns its standard output; its errors go to the terminal.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    command.stderr(std::process::Stdio::inherit());
    let output = command.output().with_context(|| format!("cannot start {}", words(command)))?;
    if !output.status.success() {
        bail!("{} failed ({})", words(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Formats a command as a user would type it.
pub(crate) fn words(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_stem().unwrap_or(command.get_program());
    let parts = std::iter::once(program).chain(command.get_args());
    parts.map(|part| part.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Whether this runs in continuous integration.
pub(crate) fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

fn plain_cargo(verb: &str, manifest: &Path) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.arg(verb).arg("--manifest-path").arg(manifest);
    command
}

fn target_folder(root: &Path) -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("CARGO_TARGET_DIR").filter(|value| !value.is_empty()) {
        return std::path::absolute(&named).context("CARGO_TARGET_DIR");
    }
    let mut metadata = plain_cargo("metadata", &root.join("Cargo.toml"));
    let json = output(metadata.args(["--no-deps", "--format-version", "1"]))?;
    string_field(&json, "target_directory").map(PathBuf::from).context("cargo metadata names no target folder")
}

fn string_field(json: &str, key: &str) -> Option<String> {
    let object: Value = serde_json::from_str(json).ok()?;
    object.get(key)?.as_str().map(str::to_owned)
}

fn profiles_of(manifest: &str) -> Result<Table> {
    let mut manifest: Table = manifest.parse().context("Cargo.toml")?;
    manifest.retain(|key, _| key == "profile");
    // A workspace of plugins has only some of our crates, and cargo warns of a name that it does not find.
    let profiles = manifest.get_mut("profile").and_then(toml::Value::as_table_mut);
    for (_, profile) in profiles.into_iter().flatten() {
        if let Some(packages) = profile.get_mut("package").and_then(toml::Value::as_table_mut) {
            packages.retain(|name, _| name != "xtask" && !name.starts_with("collimate"));
        }
    }
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_copied_without_the_rest_of_the_manifest() {
        let manifest = "[workspace]\nmembers = []\n\n# why\n[profile.dev]\nopt-level = 1\n# x\n\n\
                        [profile.dev.package.\"*\"]\nopt-level = 3\n\n[profile.dev.package.collimate-x]\nopt-level = 0\n\n\
                        [workspace.lints]\na = 1\n";
        let expected: Table =
            "[profile.dev]\nopt-level = 1\n\n[profile.dev.package.\"*\"]\nopt-level = 3\n".parse().expect("TOML");
        assert_eq!(profiles_of(manifest).expect("TOML"), expected);
    }

    #[test]
    fn a_field_of_cargos_output_is_read_with_its_escapes() {
        let json = r#"{"name":"margin","target_directory":"C:\\a \"b\"\u0041"}"#;
        assert_eq!(string_field(json, "name").as_deref(), Some("margin"));
        assert_eq!(string_field(json, "target_directory").as_deref(), Some(r#"C:\a "b"A"#));
        assert_eq!(string_field(json, "version"), None);
        assert_eq!(string_field(r#"{"name":"x"#, "name"), None);
    }

    #[test]
    fn the_workspace_is_the_folder_above_xtask() {
        let workspace = Workspace::locate().expect("a checkout");
        assert!(workspace.root.join("xtask/src/main.rs").is_file(), "{workspace:?}");
        assert!(workspace.profiles().expect("a manifest")["profile"].get("release").is_some());
        assert_eq!(package_name(&workspace.root.join("xtask")).expect("a package"), "xtask");
    }

    #[test]
    fn a_folder_without_a_manifest_is_refused_with_the_remedy() {
        let error = package_name(&std::env::temp_dir()).expect_err("no crate here");
        assert!(error.to_string().contains("cargo xtask new-objective"), "{error}");
    }
}
