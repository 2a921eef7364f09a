//! This program under `mpirun`, as collimate.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

/// Environment variable with the arguments of a process that is a rank, as JSON.
const ARGUMENTS: &str = "RANK_ARGUMENTS";
/// Seconds that `mpirun` waits before it passes SIGTERM on, and again before it kills.
const GRACE: &str = "5";
/// How long a run may take.
const LONGEST: Duration = Duration::from_secs(180);

/// A test's folder.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().expect("a folder"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The path of a file with forty groups of two to five responses of many lengths.
    pub(crate) fn data(&self) -> String {
        let row = |i: usize| {
            let response = |k: usize| {
                let content = format!("{} ", i * (k + 3)).repeat(1 + (i * 7 + k * 3) % 9);
                json!({"content": content.trim(), "reward": k})
            };
            let responses: Vec<_> = (0..2 + i % 4).map(response).collect();
            json!({"prompt": format!("What is {i} times 3?"), "responses": responses}).to_string() + "\n"
        };
        let path = self.path("groups.jsonl");
        fs::write(&path, (5..45).map(row).collect::<String>()).expect("a file");
        path.display().to_string()
    }
}

/// Ranks that were started.
pub(crate) struct Launched {
    child: Child,
    log: PathBuf,
    begun: Instant,
}

/// How they ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) said: String,
}

impl Launched {
    pub(crate) fn start(place: &Place, ranks: usize, arguments: &[String]) -> Self {
        Self::start_with(place, ranks, arguments, &[])
    }

    /// Starts so many ranks in a folder, with variables of the environment: names and values.
    pub(crate) fn start_with(place: &Place, ranks: usize, arguments: &[String], variables: &[(&str, &str)]) -> Self {
        let executable = env::current_exe().expect("this executable");
        let mut command = match ranks {
            1 => Command::new(executable),
            _ => {
                let mut command = Command::new("mpirun");
                // As `cargo xtask launch` does, but for the time.
                command.args(["--mca", "odls_base_sigkill_timeout", GRACE, "--allow-run-as-root", "--oversubscribe"]);
                command.args(["--bind-to", "none", "-n", &ranks.to_string()]).arg(executable);
                command
            }
        };
        let log = place.path("log.txt");
        let out = fs::File::create(&log).expect("a log");
        command.current_dir(place.0.path()).stdin(Stdio::null());
        command.stdout(out.try_clone().expect("a log")).stderr(out);
        command.env(ARGUMENTS, serde_json::to_string(arguments).expect("JSON")).envs(variables.iter().copied());
        Self { child: command.spawn().expect("mpirun of Open MPI is on the PATH"), log, begun: Instant::now() }
    }

    /// Waits until a run has so many rows.
    pub(crate) fn wait_for_rows(&mut self, place: &Place, run: &str, count: usize) {
        while num_rows(&place.path(run).join("metrics.jsonl")) < count {
            assert!(self.child.try_wait().expect("a process").is_none(), "it ended before: {}", self.said());
            self.check_time();
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends SIGTERM to `mpirun`.
    pub(crate) fn terminate(&self) {
        let sent = Command::new("kill").args(["-s", "TERM", &self.child.id().to_string()]).status();
        assert!(sent.expect("the program kill").success());
    }

    pub(crate) fn wait(mut self) -> Ran {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a process") {
                break status;
            }
            self.check_time();
            thread::sleep(Duration::from_millis(10));
        };
        Ran { code: status.code(), said: self.said() }
    }

    fn check_time(&mut self) {
        if self.begun.elapsed() > LONGEST {
            let _ = self.child.kill();
            panic!("still running: {}", self.said());
        }
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).expect("a log")).into_owned()
    }
}

fn num_rows(metrics: &Path) -> usize {
    fs::read_to_string(metrics).map_or(0, |text| text.lines().count())
}

/// The arguments of collimate, if this process is a rank.
pub(crate) fn arguments() -> Option<Vec<String>> {
    Some(serde_json::from_str(&env::var(ARGUMENTS).ok()?).expect("arguments"))
}

/// Runs collimate, with the fault that rank 1 is to have; returns its exit code.
pub(crate) fn be_a_rank(mut arguments: Vec<String>) -> u8 {
    let is_second = env::var("OMPI_COMM_WORLD_RANK").is_ok_and(|rank| rank == "1");
    match env::var("RANK_FAULT").as_deref() {
        Ok("data") if is_second => {
            let data = arguments.iter().position(|argument| argument == "--data").expect("data");
            arguments[data + 1] = "broken.jsonl".to_owned();
        }
        Ok(fault @ ("kill" | "panic")) if is_second => {
            let (fault, run) = (fault.to_owned(), env::var("RANK_RUN").expect("the run's folder"));
            thread::spawn(move || have(&fault, &PathBuf::from(run).join("metrics.jsonl")));
        }
        _ => {}
    }
    collimate::run_process(std::iter::once("collimate".to_owned()).chain(arguments))
}

/// Kills this process or panics, once the run has some rows.
fn have(fault: &str, metrics: &Path) {
    while num_rows(metrics) < 6 {
        thread::sleep(Duration::from_millis(2));
    }
    if fault == "kill" {
        let _ = Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
    }
    panic!("on purpose");
}
