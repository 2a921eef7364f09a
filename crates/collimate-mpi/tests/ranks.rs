//! Ranks as processes: this program starts itself under `mpirun`, and each rank checks what it receives.
#![allow(clippy::unwrap_used, reason = "a test, which clippy does not see without its harness")]

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use collimate_collective::{Collective, Place, agree, end_ranks_after_panic, reduce_scatter};
use collimate_mpi::Mpi;

fn main() {
    if let Some(place) = Place::from_environment().unwrap() {
        return run_rank(place);
    }
    for ranks in [2, 4] {
        let output = launch(ranks, "sound");
        let text = said(&output);
        assert!(output.status.success(), "{text}");
        assert_eq!(text.matches("rank is sound").count(), ranks, "{text}");
        for (fault, message) in [
            ("panic", "error: rank 1: panicked; all ranks end"),
            ("abort", "error: rank 1: no memory; all ranks end"),
            ("kill", "signal 9"),
        ] {
            let begin = Instant::now();
            let output = launch(ranks, fault);
            let text = said(&output);
            assert!(!output.status.success() && text.contains(message), "{fault}: {text}");
            assert!(begin.elapsed() < Duration::from_secs(30), "{fault}: {:?}", begin.elapsed());
        }
        println!("{ranks} ranks: ok");
    }
}

fn launch(ranks: usize, what: &str) -> Output {
    Command::new("mpirun")
        .args(["--oversubscribe", "--allow-run-as-root", "-n", &ranks.to_string()])
        .arg(std::env::current_exe().unwrap())
        .env("RANKS_DO", what)
        .output()
        .expect("mpirun of Open MPI is on the PATH")
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].concat().iter().map(|&byte| char::from(byte)).collect()
}

fn run_rank(place: Place) {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        end_ranks_after_panic();
    }));
    // Messages of 8 elements over all ranks, so that what is sent takes several rounds.
    let world = Mpi::start_with(place, 8).unwrap();
    let (rank, size) = (world.rank(), world.size());
    assert_eq!((world.local_rank(), world.local_size()), (rank, size));
    match std::env::var("RANKS_DO").unwrap().as_str() {
        "panic" => assert_ne!(rank, 1, "on purpose"),
        "abort" if rank == 1 => world.abort("no memory"),
        "kill" if rank == 1 => {
            Command::new("kill").args(["-9", &std::process::id().to_string()]).status().unwrap();
        }
        _ => {}
    }
    let bytes_of = |rank: usize| (0..rank * 21).map(|i| (i % 251) as u8).collect::<Vec<_>>();
    let pending = world.start_gather(bytes_of(rank)).unwrap();
    let mut told = if rank == 1 { bytes_of(3) } else { vec![9; 3] };
    world.broadcast(&mut told, 1).unwrap();
    assert_eq!(told, bytes_of(3));
    assert_eq!(pending.finish().unwrap(), (0..size).map(bytes_of).collect::<Vec<_>>());

    let numbers: Vec<f32> = (0..size * 11).map(|i| (i * (rank + 1)) as f32 * 0.1).collect();
    let ranges: Vec<_> = (0..size).map(|r| r * 11..(r + 1) * 11).collect();
    let sums = reduce_scatter(&world, &numbers, &ranges).unwrap();
    let expected =
        ranges[rank].clone().map(|i| (1..size).fold(i as f32 * 0.1, |sum, r| sum + (i * (r + 1)) as f32 * 0.1));
    assert!(sums.iter().copied().eq(expected), "{sums:?}");

    let outcome = agree(&world, if rank == 1 { Err("the disk is full") } else { Ok(()) });
    assert_eq!(outcome.unwrap_err().to_string(), "rank 1: the disk is full");
    world.barrier().unwrap();
    println!("rank is sound");
}
