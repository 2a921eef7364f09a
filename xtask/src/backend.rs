//! The cargo features of backends, and what it takes to build and run them.

use std::process::Command;

use anyhow::{Result, bail};

use crate::libtorch::Libtorch;
use crate::workspace::Workspace;

/// The backend that is always built in.
const BUILT_IN: &str = "flex";

/// Features of the crate `collimate` that compile `backend` in.
///
/// # Errors
/// No such backend; the message lists those there are.
pub(crate) fn features(workspace: &Workspace, backend: &str) -> Result<Vec<String>> {
    let known = feature_names(&workspace.read("crates/collimate/Cargo.toml")?);
    features_among(&known, backend)
}

/// The same, with burn's fusion of operations if `fusion` is set.
///
/// # Errors
/// As above, or `fusion` for a backend without it.
pub(crate) fn features_with(workspace: &Workspace, backend: &str, fusion: bool) -> Result<Vec<String>> {
    let mut features = features(workspace, backend)?;
    if fusion && !is_cubecl(backend) {
        bail!("--fusion joins operations of cuda or wgpu, not of {backend}");
    }
    features.extend(fusion.then(|| "fusion".to_owned()));
    Ok(features)
}

/// Whether a backend runs on CubeCL.
pub(crate) fn is_cubecl(backend: &str) -> bool {
    matches!(backend, "cuda" | "wgpu")
}

/// Backends that this checkout can be built with.
pub(crate) fn available(workspace: &Workspace) -> Result<Vec<String>> {
    Ok(backends_among(&feature_names(&workspace.read("crates/collimate/Cargo.toml")?)))
}

/// Sets the environment that building or running with these features needs.
///
/// # Errors
/// Something is missing; the message says how to get it.
pub(crate) fn prepare<'a>(
    workspace: &Workspace,
    features: &[String],
    command: &'a mut Command,
) -> Result<&'a mut Command> {
    match features.iter().any(|feature| feature == "libtorch") {
        true => Ok(Libtorch::find(workspace)?.prepare(command)),
        false => Ok(command),
    }
}

fn features_among(known: &[String], backend: &str) -> Result<Vec<String>> {
    if backend == BUILT_IN {
        return Ok(Vec::new());
    }
    let backends = backends_among(known);
    if !backends.iter().any(|name| name == backend) {
        bail!("no backend \"{backend}\" in this checkout; --backend takes: {}", backends.join(", "));
    }
    Ok(vec![backend.to_owned()])
}

fn backends_among(features: &[String]) -> Vec<String> {
    let candidates = ["libtorch", "cuda", "wgpu"];
    let present = candidates.iter().filter(|name| features.iter().any(|feature| feature == *name));
    std::iter::once(&BUILT_IN).chain(present).map(|name| (*name).to_owned()).collect()
}

/// The keys of a manifest's `[features]` table.
fn feature_names(manifest: &str) -> Vec<String> {
    let table = manifest.lines().skip_while(|line| line.trim() != "[features]").skip(1);
    let entries = table.take_while(|line| !line.starts_with('['));
    let keys = entries.filter(|line| !line.starts_with([' ', '\t', '#'])).filter_map(|line| line.split_once('='));
    keys.map(|(key, _)| key.trim().trim_matches('"').to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_features_table_is_read() {
        let manifest =
            "[package]\nname = \"x\"\n[features]\n# why\ndefault = []\ncuda = [\n  \"a=b\",\n]\n[lib]\npath = \"y\"\n";
        assert_eq!(feature_names(manifest), ["default", "cuda"]);
        assert_eq!(feature_names("[package]\nname = \"x\"\n"), Vec::<String>::new());
    }

    #[test]
    fn the_built_in_backend_needs_no_feature() {
        assert_eq!(features_among(&[], "flex").expect("always there"), Vec::<String>::new());
    }

    #[test]
    fn a_backend_is_its_feature() {
        assert_eq!(features_among(&["cuda".to_owned()], "cuda").expect("a feature"), ["cuda"]);
    }

    #[test]
    fn fusion_is_for_cubecls_backends() {
        let workspace = Workspace::locate().expect("a checkout");
        assert_eq!(features_with(&workspace, "wgpu", true).expect("a feature"), ["wgpu", "fusion"]);
        let error = features_with(&workspace, "flex", true).expect_err("no such kernels");
        assert_eq!(error.to_string(), "--fusion joins operations of cuda or wgpu, not of flex");
    }

    #[test]
    fn an_unknown_backend_is_refused_with_the_known_ones() {
        let error = features_among(&["default".to_owned(), "cuda".to_owned()], "libtorch").expect_err("no feature");
        assert_eq!(error.to_string(), "no backend \"libtorch\" in this checkout; --backend takes: flex, cuda");
    }
}
