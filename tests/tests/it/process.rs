//! The program as a process of its own: this test executable, started again.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Environment variable with the arguments, as JSON, of a process that runs the program.
const ARGUMENTS: &str = "COLLIMATE_TEST_ARGUMENTS";
/// The test below, where such a process starts.
const ENTRY: &str = "process::the_program_is_a_process_of_its_own";

/// A process, killed on drop.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    begun: Instant,
    log: PathBuf,
}

impl Process {
    /// Starts `collimate` with these arguments in a folder, which is created.
    pub(crate) fn start(folder: &Path, arguments: &[String]) -> Self {
        Self::spawn(command(arguments), folder)
    }

    /// The same with variables of the environment: names and values.
    pub(crate) fn start_with_variables(folder: &Path, arguments: &[String], variables: &[(&str, &str)]) -> Self {
        let mut command = command(arguments);
        command.envs(variables.iter().copied());
        Self::spawn(command, folder)
    }

    /// The same with a limit on the length of files, as under a quota.
    #[cfg(unix)]
    pub(crate) fn start_with_short_files(folder: &Path, arguments: &[String], num_bytes: u64) -> Self {
        // The shell counts blocks of 512 bytes.
        Self::start_with_ulimit(folder, arguments, &format!("-f {}", num_bytes / 512))
    }

    /// The same under `ulimit` with these options.
    #[cfg(unix)]
    pub(crate) fn start_with_ulimit(folder: &Path, arguments: &[String], options: &str) -> Self {
        let limited = format!("ulimit {options}; exec \"$0\" \"$@\"");
        let inner = command(arguments);
        let mut command = Command::new("sh");
        command.args(["-c", &limited]).arg(inner.get_program()).args(inner.get_args());
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Self::spawn(command, folder)
    }

    fn spawn(mut command: Command, folder: &Path) -> Self {
        fs::create_dir_all(folder).expect("a folder");
        let log = folder.join("log.txt");
        let out = fs::File::create(&log).expect("a log");
        command.current_dir(folder);
        command.stdin(Stdio::null()).stdout(out.try_clone().expect("a log")).stderr(out);
        let (child, begun) = (command.spawn().expect("a process"), Instant::now());
        Self { child, begun, log }
    }

    /// Sends a signal by name, such as `TERM`.
    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let number = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &number]).status().expect("the program kill");
        assert!(sent.success(), "kill -s {name}");
    }

    /// Its output so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).expect("a log")).into_owned()
    }

    /// Waits until `holds` accepts its output; fails if it ends before.
    pub(crate) fn wait_until(&mut self, holds: impl Fn(&str) -> bool) {
        while !holds(&self.log()) {
            assert!(self.child.try_wait().expect("a process").is_none(), "it ended before: {}", self.log());
            assert!(self.begun.elapsed() < Duration::from_secs(120), "still running: {}", self.log());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for it to end; returns its exit code and output.
    pub(crate) fn wait(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().expect("an end");
        (status.code(), String::from_utf8_lossy(&fs::read(&self.log).expect("a log")).into_owned())
    }

    /// Waits for it to succeed; returns its peak resident memory, mapped files included.
    #[cfg(target_os = "linux")]
    pub(crate) fn peak_bytes(mut self) -> u64 {
        let peak = self.peak_until_its_end();
        self.succeed();
        peak
    }

    /// Waits for it to end; returns its peak resident memory, mapped files included.
    #[cfg(target_os = "linux")]
    pub(crate) fn peak_until_its_end(&mut self) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let mut peak = 0;
        while self.child.try_wait().expect("a process").is_none() {
            // The value only grows until the process is gone.
            let text = fs::read_to_string(&status).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            peak = peak.max(kib.unwrap_or(0) << 10);
            thread::sleep(Duration::from_millis(2));
        }
        peak
    }

    /// Waits for it to succeed.
    pub(crate) fn succeed(self) {
        let (code, log) = self.wait();
        assert_eq!(code, Some(0), "{log}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has usually ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A shell script that runs the program with these arguments and prints its output without the test runner's.
#[cfg(unix)]
pub(crate) fn script(arguments: &[&str]) -> String {
    let executable = env::current_exe().expect("this executable");
    let arguments = serde_json::to_string(arguments).expect("JSON");
    let run =
        format!("{ARGUMENTS}='{arguments}' '{}' {ENTRY} --exact --nocapture --test-threads=1", executable.display());
    format!("{run} | sed -n 's/^test [^ ]* \\.\\.\\. //; /^[0-9]/p'")
}

/// The command that runs the program with these arguments.
pub(crate) fn command(arguments: &[String]) -> Command {
    let mut command = Command::new(env::current_exe().expect("this executable"));
    command.args([ENTRY, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(ARGUMENTS, serde_json::to_string(arguments).expect("JSON"));
    command
}

#[test]
fn the_program_is_a_process_of_its_own() {
    if let Ok(arguments) = env::var(ARGUMENTS) {
        let arguments: Vec<String> = serde_json::from_str(&arguments).expect("arguments");
        let arguments = std::iter::once("collimate".to_owned()).chain(arguments);
        std::process::exit(i32::from(collimate::run_process(arguments)));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let run = |argument: &str| Process::start(folder.path(), &["objectives".to_owned(), argument.to_owned()]).wait();
    let (code, log) = run("nca");
    assert!(code == Some(0) && log.contains("2402.05369"), "{code:?} {log}");
    let (code, log) = run("ncaa");
    assert!(code == Some(2) && log.contains("did you mean nca"), "{code:?} {log}");
}
