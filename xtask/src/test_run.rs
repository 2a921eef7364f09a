//! `cargo test` on one backend.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;

use crate::backend;
use crate::profile::Profile;
use crate::workspace::Workspace;

/// Variable that tells tests which backend to use.
const TEST_BACKEND: &str = "COLLIMATE_TEST_BACKEND";

/// Tests on one backend.
#[derive(Debug)]
pub(crate) struct TestRun<'a> {
    pub(crate) backend: &'a str,
    /// Whether burn fuses operations.
    pub(crate) fusion: bool,
    /// Arguments of `cargo test`.
    pub(crate) args: &'a [OsString],
    pub(crate) profile: Profile,
    /// Options of libtest that skip tests.
    pub(crate) skipped: &'a [&'a str],
}

impl TestRun<'_> {
    /// The command that builds and runs them.
    ///
    /// # Errors
    /// A prerequisite of the backend is missing; the message says how to install it.
    pub(crate) fn command(&self, workspace: &Workspace) -> Result<Command> {
        let features = backend::features_with(workspace, self.backend, self.fusion)?;
        let mut tests = workspace.cargo_here("test");
        tests.env(TEST_BACKEND, self.backend);
        if backend::is_cubecl(self.backend) {
            for_cubecl(&mut tests);
        }
        backend::prepare(workspace, &features, &mut tests)?;
        tests.args(test_arguments(self.args, &features, self.profile, self.skipped));
        Ok(tests)
    }
}

/// Sets the environment that tests of CubeCL's kernels need.
pub(crate) fn for_cubecl(tests: &mut Command) {
    // Autotuning tries kernels that the device cannot run, and resolving a backtrace for each error is slow.
    tests.env("RUST_BACKTRACE", "0");
    // While one thread tunes a shape, another would use the first kernel that runs, and so get other bits than later. A
    // real run computes on one thread.
    tests.env("RUST_TEST_THREADS", "1");
}

/// Arguments of `cargo test`: the whole workspace unless packages are named. `skipped` are options of libtest.
fn test_arguments(args: &[OsString], features: &[String], profile: Profile, skipped: &[&str]) -> Vec<OsString> {
    let mut all = vec!["--profile", if profile == Profile::Dev { "test" } else { "release" }];
    all.extend((!args.iter().any(selects_packages)).then_some("--workspace"));
    let features = features.iter().map(|feature| format!("collimate/{feature}")).collect::<Vec<_>>().join(",");
    if !features.is_empty() {
        all.extend(["--features", &features]);
    }
    all.push("--no-fail-fast");
    let mut all: Vec<OsString> = all.into_iter().map(OsString::from).chain(args.iter().cloned()).collect();
    if !skipped.is_empty() {
        // Arguments after `--` are for the test executables.
        all.extend((!args.iter().any(|argument| argument == "--")).then(|| "--".into()));
        all.extend(skipped.iter().map(OsString::from));
    }
    all
}

fn selects_packages(argument: &OsString) -> bool {
    matches!(argument.to_str(), Some("-p" | "--package" | "--workspace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(args: &[&str], features: &[&str], skipped: &[&str]) -> String {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let features: Vec<String> = features.iter().map(ToString::to_string).collect();
        let words = test_arguments(&args, &features, Profile::Dev, skipped);
        words.iter().map(|word| word.to_str().expect("text")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn everything_is_tested_where_nothing_is_skipped() {
        assert_eq!(shown(&[], &[], &[]), "--profile test --workspace --no-fail-fast");
        let features = "--profile test --workspace --features collimate/cuda,collimate/wgpu --no-fail-fast";
        assert_eq!(shown(&[], &["cuda", "wgpu"], &[]), features);
    }

    #[test]
    fn named_packages_replace_the_workspace() {
        assert_eq!(shown(&["-p", "a", "name"], &[], &[]), "--profile test --no-fail-fast -p a name");
        assert_eq!(shown(&["name", "--", "-q"], &[], &[]), "--profile test --workspace --no-fail-fast name -- -q");
    }

    #[test]
    fn skipped_tests_are_named_to_the_executables() {
        let skipped = ["--skip", "real_data"];
        let start = "--profile test --workspace --no-fail-fast";
        assert_eq!(shown(&[], &[], &skipped), format!("{start} -- --skip real_data"));
        assert_eq!(shown(&["x", "--", "-q"], &[], &skipped), format!("{start} x -- -q --skip real_data"));
    }
}
