//! Pages of a run and of several.

use serde_json::json;

use super::*;
use crate::samples::Sample;

fn rows(num_steps: u64) -> Vec<MetricsRow> {
    let row = |step: u64| {
        let mut row = MetricsRow::default();
        row.set_count("step", step);
        row.set("loss", 1.0 / step as f64);
        for rank in 0..3 {
            row.set(&format!("rewards/rank_{rank}"), -(rank as f64) * step as f64);
        }
        row.set("logps/chosen", -100.0);
        row.set("logps/rejected", f64::NAN);
        row
    };
    (1..=num_steps).map(row).collect()
}

fn html(rows: &[MetricsRow]) -> String {
    let results = json!({"accuracy": {"before": 0.125, "after": 0.5}});
    let lengths = LengthSample {
        source: "held-out data".to_owned(),
        num_tokens: vec![3, 9, 27],
        rewards: vec![0.0, 1.0, 0.5],
        implicit_rewards: Some(vec![0.1, 0.2, 0.3]),
    };
    let sample = Sample {
        location: "rows.jsonl:7".to_owned(),
        prompt: "2 < 3?".to_owned(),
        best: "Yes".to_owned(),
        reward: 1.0,
        before: "No".to_owned(),
        after: Some(String::new()),
        before_cut: true,
        after_cut: false,
    };
    let samples = Samples { max_new_tokens: 64, prompts: vec![sample] };
    render_report(&ReportInput {
        title: "a <run>",
        rows,
        recipe_yaml: "seed: 1\n",
        results: Some(&results),
        lengths: Some(&lengths),
        samples: Some(&samples),
    })
}

#[test]
fn a_page_shows_charts_results_and_recipe_and_fetches_nothing() {
    let page = html(&rows(20));
    let illustrations = ["2 &lt; 3?", "before training", "(nothing)", "Length against implicit reward", "<circle"];
    for part in illustrations {
        assert!(page.contains(part), "{part}");
    }
    for part in ["a &lt;run&gt;", "rank_2", "<svg", "12.5%", "50.0%", "seed: 1", "prefers-color-scheme"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("NaN") && !page.contains("http") && !page.contains("<script"), "{page}");
}

#[test]
fn a_long_run_makes_a_page_of_bounded_size() {
    assert!(html(&rows(50_000)).len() < 200_000);
}

#[test]
fn a_run_without_steps_still_has_a_page() {
    assert!(html(&[]).contains("No step was recorded"));
}
