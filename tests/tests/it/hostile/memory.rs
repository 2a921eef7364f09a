//! Memory of what grows with a row or a run: objectives on many responses, and reports of long runs.

use collimate_hostile::{peak_since, reset_peak};
use collimate_objective::{GroupScores, evaluate, registry};
use collimate_report::write_report;

use crate::harness::Folder;

/// A prompt with this many responses.
fn group(num_responses: usize) -> GroupScores {
    let numbers: Vec<f64> = (0..num_responses).map(|k| -1.0 - (k * 7919 % 101) as f64 / 64.0).collect();
    GroupScores {
        reference_logps: Some(vec![-1.5; num_responses]),
        rewards: (0..num_responses).map(|k| (k * 31 % 17) as f64 / 16.0).collect(),
        lengths: vec![3; num_responses],
        policy_logps: numbers,
    }
}

#[test]
fn an_objective_holds_no_more_than_is_set_aside_for_it() {
    let plugins = registry::all();
    assert!(plugins.len() > 20, "{} objectives", plugins.len());
    for plugin in plugins {
        let objective = plugin.build(&Default::default()).expect("an objective");
        for (num_groups, num_responses) in [(1, 1500), (6, 512), (400, 4)] {
            let groups = vec![group(num_responses); num_groups];
            reset_peak();
            let held = peak_since(0);
            evaluate(objective.as_ref(), &groups).unwrap_or_else(|error| panic!("{}: {error}", plugin.name));
            let (found, set_aside) =
                (peak_since(held) as u64, objective.needs().working_bytes(num_groups, num_responses));
            // Tens of kilobytes do not depend on the batch.
            assert!(found <= set_aside + (64 << 10), "{}: {found} bytes, {set_aside} set aside", plugin.name);
        }
    }
}

#[test]
fn a_report_takes_memory_for_its_lines_and_not_for_the_file() {
    let folder = Folder::new();
    let row = |step: usize| {
        let mut row =
            format!("{{\"step\": {step}, \"loss\": 0.5, \"num_tokens\": {}, \"step_seconds\": 0.25", step * 7);
        for rank in 0..16 {
            row += &format!(", \"rewards/rank_{rank}\": 0.{step}, \"logps/rank_{rank}\": -12.{step}");
        }
        row + "}\n"
    };
    let text: String = (1..=40_000).map(row).collect();
    let length = text.len();
    assert!(length > 30 << 20, "{length} bytes");
    folder.write("run/metrics.jsonl", text);
    folder.write("run/recipe.yaml", "seed: 1\n");
    reset_peak();
    let held = peak_since(0);
    write_report(&folder.path("run")).expect("a report");
    let peak = peak_since(held);
    // It was seven times the file. There are lines for steps, loss, tokens, speed and 16 ranks, of 16 bytes a point, in vectors
    // that grow by doubling; the page copies one line at a time and keeps what it draws of it.
    let lines = 20 * 40_000_usize.next_power_of_two() * 16;
    assert!(peak < lines + (4 << 20), "{peak} bytes for lines of {lines}");
}
