//! End-to-end tests of several processes under `mpirun`. Only the last crates differ with the feature that they need.

use anyhow::Result;

use crate::failed_tests::execute_tests;
use crate::launch;
use crate::profile::Profile;
use crate::steps::Steps;
use crate::workspace::Workspace;

/// The name of these tests among the steps.
const STEP: &str = "several processes by MPI";

/// Builds the tests with MPI and runs them, where there is MPI.
pub(crate) fn step(workspace: &Workspace, profile: Profile, steps: &mut Steps) {
    match launch::missing() {
        Some(missing) => steps.leave_out(STEP, missing),
        None => steps.run(STEP, || tests(workspace, profile)),
    }
}

fn tests(workspace: &Workspace, profile: Profile) -> Result<()> {
    let mut tests = workspace.cargo_here("test");
    tests.args(["--profile", if profile == Profile::Dev { "test" } else { "release" }]);
    // As the tests of the workspace are built, so that only what depends on the feature is built again.
    tests.args(["--workspace", "--test", "ranks", "--test", "mpi"]);
    tests.args(["--features", "collimate-mpi/mpi,collimate-tests/mpi", "--no-fail-fast"]);
    execute_tests(&mut tests)
}
