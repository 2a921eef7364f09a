//! Whether the other ranks of this machine are still there.
//!
//! A process that was killed says nothing, and whoever waits for it in MPI waits forever.

use std::fs;
use std::path::Path;

/// What others need to know of this process in order to see whether it is there.
pub fn describe_own() -> Vec<u8> {
    format!("{} {}", std::process::id(), machine().unwrap_or_default()).into_bytes()
}

/// The running system and the name space of its process numbers, on Linux.
fn machine() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let names = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), names.display()))
}

/// The ranks of this machine.
#[derive(Debug, Default)]
pub struct Peers(Vec<Peer>);

#[derive(Debug)]
struct Peer {
    rank: usize,
    process: u32,
}

impl Peers {
    /// Those that run where this process does, of what all ranks say of themselves.
    pub fn among(all: &[Vec<u8>]) -> Self {
        let here = machine();
        let read = |(rank, bytes): (usize, &Vec<u8>)| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let (process, machine) = text.split_once(' ')?;
            let is_here = here.as_deref() == Some(machine);
            is_here.then_some(Peer { rank, process: process.parse().ok()? })
        };
        Self(all.iter().enumerate().filter_map(read).collect())
    }

    /// The first that has ended.
    pub fn first_gone(&self) -> Option<usize> {
        self.0.iter().find(|peer| has_ended(peer.process)).map(|peer| peer.rank)
    }
}

/// Whether there is no such process any more, or only its entry until its parent asks for it.
fn has_ended(process: u32) -> bool {
    match fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat")) {
        // The state follows the program's name, which stands in brackets.
        Ok(stat) => {
            stat.rsplit_once(')').is_some_and(|(_, rest)| matches!(rest.trim().chars().next(), Some('Z' | 'X')))
        }
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_that_ended_is_gone_before_and_after_it_is_asked_for() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let own = String::from_utf8(describe_own()).unwrap();
        let of_child = own.replace(&std::process::id().to_string(), &child.id().to_string());
        let elsewhere = format!("{} another machine", child.id());
        let peers = Peers::among(&[own.into_bytes(), elsewhere.into_bytes(), of_child.into_bytes()]);
        assert_eq!((peers.0.len(), peers.first_gone()), (2, None));
        child.kill().unwrap();
        while peers.first_gone().is_none() {
            std::thread::yield_now();
        }
        assert_eq!(peers.first_gone(), Some(2));
        child.wait().unwrap();
        assert_eq!(peers.first_gone(), Some(2));
    }
}
