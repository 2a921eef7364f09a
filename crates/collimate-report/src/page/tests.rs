//! Pages of a run and of several.

use serde_json::json;

use super::*;
use crate::metrics::MetricsRow;
use crate::pictures::{Picture, tests::png};
use crate::samples::Sample;
use crate::verdict::RunFacts;

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

fn info() -> RunInfo {
    RunInfo {
        started: "2026-11-29T14:05:00Z".to_owned(),
        seconds: 185.0,
        model: "org/small".to_owned(),
        architecture: "llama".to_owned(),
        num_parameters: 2_000_000,
        num_trainable: 20_000,
        trained: "LoRA r 16".to_owned(),
        device: "flex, a <CPU>".to_owned(),
        objective: "nca".to_owned(),
        parameters: json!({"beta": 0.1}).as_object().cloned().unwrap_or_default(),
        data: "rewards.jsonl".to_owned(),
        num_prompts: 40,
        num_responses: 120,
        num_held_out: 8,
        total_steps: 30,
        ..RunInfo::default()
    }
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
        images: Vec::new(),
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
        history: &History::from_rows(rows, RunFacts::new("seed: 1\n", Some(&info()))),
        recipe_yaml: "seed: 1\n",
        results: Some(&results),
        info: Some(&info()),
        lengths: Some(&lengths),
        samples: Some(&samples),
        gallery: None,
    })
}

#[test]
fn a_page_shows_charts_results_and_recipe_and_fetches_nothing() {
    let page = html(&rows(20));
    let illustrations = [
        "2 &lt; 3?",
        "before training (cut short to save time)<",
        "after training<",
        "(nothing)",
        "Length against implicit reward",
        "<circle",
    ];
    for part in illustrations {
        assert!(page.contains(part), "{part}");
    }
    for part in ["a &lt;run&gt;", "rank 2", "<svg", "12.5%", "50.0%", "seed: 1", "prefers-color-scheme"] {
        assert!(page.contains(part), "{part}");
    }
    let fetched = ["NaN", "http:", "https:", "src=", "href=", "url(", "import"];
    assert!(fetched.iter().all(|part| !page.contains(part)), "{page}");
}

#[test]
fn pictures_are_in_the_page_itself_with_a_text_that_stands_for_them() {
    let picture = |alt: &str| Picture::from_png(&png(56, 28), alt).expect("a picture");
    let gallery = Gallery { title: "Drawn".to_owned(), pictures: vec![(picture("a \"grid\""), "1 < 2".to_owned())] };
    let sample = Sample { prompt: "How many?".to_owned(), images: vec![picture("a.png")], ..Sample::default() };
    let samples = Samples { max_new_tokens: 8, prompts: vec![sample] };
    let page = render_report(&ReportInput {
        title: "run",
        history: &History::from_rows(&rows(2), RunFacts::new("", None)),
        recipe_yaml: "",
        results: None,
        info: None,
        lengths: None,
        samples: Some(&samples),
        gallery: Some(&gallery),
    });
    let pictures: Vec<&str> = page.split("src=\"").skip(1).collect();
    assert!(
        pictures.len() == 2 && pictures.iter().all(|rest| rest.starts_with("data:image/png;base64,iVBOR")),
        "{page}"
    );
    // Twice as large, as 160 / 56 allows.
    assert!(page.contains("alt=\"a &quot;grid&quot;\" width=\"112\" height=\"56\">"), "{page}");
    assert!(page.contains("<h2>Drawn</h2>") && page.contains("<figcaption>1 &lt; 2</figcaption>"), "{page}");
    assert!(page.contains("img-src data:;") && page.contains("alt=\"a.png\""), "{page}");
}

#[test]
fn a_long_run_makes_a_page_of_bounded_size() {
    assert!(html(&rows(50_000)).len() < 300_000);
}

#[test]
fn a_run_without_steps_still_has_a_page() {
    assert!(html(&[]).contains("No step was recorded"));
}

#[test]
fn the_head_says_what_was_trained_on_what_where_and_when() {
    let page = html(&rows(20));
    for part in [
        "org/small: llama, 2,000,000 parameters, 20,000 trained (LoRA r 16, 1 %)",
        "nca (beta 0.1)",
        "rewards.jsonl: 40 prompts, 120 responses; 8 prompts held out",
        "flex, a &lt;CPU&gt;",
        "2026-11-29 14:05:00 UTC",
        "3 min 05 s",
        "<strong>20 of 30</strong>: not finished",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!html(&rows(30)).contains("not finished"));
}

#[test]
fn held_out_figures_stand_beside_those_of_training() {
    let mut rows = rows(30);
    for (step, loss) in [(0, 1.5), (30, 1.25)] {
        let mut row = MetricsRow::default();
        row.set_count("step", step);
        row.set("eval_loss", loss);
        row.set("eval_rewards/accuracies", loss / 2.0);
        rows.push(row);
    }
    let page = html(&rows);
    let loss = "<td>loss</td><td>1.0000</td><td>0.0333</td><td>1.5000</td><td>1.2500</td>";
    let accuracy = "<td>accuracy</td><td></td><td></td><td>75.0 %</td><td>62.5 %</td>";
    assert!(page.contains(loss) && page.contains(accuracy), "{page}");
    assert!(page.contains("data-name=\"held out\"") && page.contains("class=\"raw\""), "{page}");
}

#[test]
fn what_went_wrong_stands_at_the_top() {
    let mut flat = rows(30);
    flat.iter_mut().for_each(|row| row.set("loss", 1.3863));
    let page = html(&flat);
    assert!(page.contains("<strong>Warning</strong>: the run learned nothing"), "{page}");
    assert!(!html(&rows(30)).contains("role=\"alert\""));
}

#[test]
fn only_times_and_memory_stand_between_the_marks_of_the_clock() {
    let mut rows = rows(4);
    for row in &mut rows {
        row.set_count("num_tokens", 100);
        row.set("step_seconds", 0.5);
        row.set_count("memory_bytes", 3 << 20);
    }
    let page = html(&rows);
    let mut rest = page.split("<!--clock-->");
    let before = rest.next().unwrap_or_default().to_owned();
    let outside =
        rest.filter_map(|part| Some(part.split_once("<!--/clock-->")?.1)).fold(before, |all, part| all + part);
    for part in ["UTC", "3 min 05 s", "0.5 s a step", "Throughput", "<h3>Memory"] {
        assert!(page.contains(part) && !outside.contains(part), "{part}");
    }
}
