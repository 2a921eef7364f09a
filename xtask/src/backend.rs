//! The cargo features of backends, and what building and running them requires.

use std::process::Command;

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

use crate::cuda::Toolkit;
use crate::libtorch::Libtorch;
use crate::workspace::Workspace;

/// The backend that is always built in.
const BUILT_IN: &str = "flex";
/// The feature that lets CubeCL's backends fuse operations; not a backend itself.
const FUSION: &str = "fusion";

/// Features of the crate `collimate` that compile `backend` in.
///
/// # Errors
/// There is no such backend; the message lists the existing ones.
pub(crate) fn features(workspace: &Workspace, backend: &str) -> Result<Vec<String>> {
    let known = backend_features(&workspace.read("crates/collimate/Cargo.toml")?)?;
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
    features.extend(fusion.then(|| FUSION.to_owned()));
    Ok(features)
}

/// Whether a backend runs on CubeCL.
pub(crate) fn is_cubecl(backend: &str) -> bool {
    matches!(backend, "cuda" | "wgpu")
}

/// Backends that this checkout can be built with.
pub(crate) fn available(workspace: &Workspace) -> Result<Vec<String>> {
    Ok(backends_among(&backend_features(&workspace.read("crates/collimate/Cargo.toml")?)?))
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
    let has = |name: &str| features.iter().any(|feature| feature == name);
    if has("libtorch") {
        Libtorch::find(workspace)?.prepare(command);
    }
    if has("cuda")
        && let Some(toolkit) = Toolkit::find(workspace)
    {
        toolkit.prepare(command);
    }
    Ok(command)
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
    let others = features.iter().filter(|name| *name != FUSION).cloned();
    std::iter::once(BUILT_IN.to_owned()).chain(others).collect()
}

/// The features in a manifest that forward to a feature of the same name in the backend crate.
fn backend_features(manifest: &str) -> Result<Vec<String>> {
    let manifest: Table = manifest.parse().context("crates/collimate/Cargo.toml")?;
    let features = manifest.get("features").and_then(Value::as_table);
    let passes_on = |name: &str, enables: &Value| {
        let wanted = format!("collimate-backend/{name}");
        enables.as_array().into_iter().flatten().any(|feature| feature.as_str() == Some(&wanted))
    };
    let passed = features.into_iter().flatten().filter(|(name, enables)| passes_on(name, enables));
    Ok(passed.map(|(name, _)| name.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_the_features_passed_on_by_their_names() {
        let manifest = "[package]\nname = \"x\"\n[features]\n# why\ndefault = []\ncuda = [\n  \"collimate-backend/cuda\",\n]\n\
                        other = [\"a/b\"]\n[lib]\npath = \"y\"\n";
        assert_eq!(backend_features(manifest).expect("TOML"), ["cuda"]);
        assert_eq!(backend_features("[package]\nname = \"x\"\n").expect("TOML"), Vec::<String>::new());
    }

    #[test]
    fn this_checkout_has_every_backend() {
        let mut backends = available(&Workspace::locate().expect("a checkout")).expect("a manifest");
        backends.sort();
        assert_eq!(backends, ["cuda", "flex", "libtorch", "wgpu"]);
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
        let error = features_among(&["cuda".to_owned(), "fusion".to_owned()], "libtorch").expect_err("no feature");
        assert_eq!(error.to_string(), "no backend \"libtorch\" in this checkout; --backend takes: flex, cuda");
    }
}
