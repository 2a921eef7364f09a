//! `collimate explain`: which training prompts move a held-out answer.

use std::path::Path;

use collimate_finished::TrainedRun;
use collimate_hub::{Hub, HubOptions};
use collimate_peft::Adapter;
use collimate_train::progress::Silent;
use collimate_train::{Part, StopFlag, TrainError};
use collimate_weights::read_config;
use rstest::rstest;

use crate::dial::trained;
use crate::harness::{Folder, Outcome, collimate, succeed, train};
use crate::resume::groups;
use crate::small_model::{model, model_arg};

fn explain(folder: &Folder, args: &[&str]) -> Outcome {
    let run = folder.arg("run");
    collimate(&[&["explain", &run], args].concat())
}

fn opened(folder: &Path) -> TrainedRun {
    let hub = Hub::new(HubOptions { offline: true, ..HubOptions::from_env() });
    TrainedRun::read(folder, &hub).expect("a run")
}

/// The log-prob of response 0 of the first held-out prompt, of a run whose adapter is the one in `folder`.
fn logp(run: &TrainedRun, folder: &Path) -> f64 {
    let run = TrainedRun { folder: folder.to_owned(), ..run.clone() };
    let score = run.open(&StopFlag::default(), &mut Silent, |finished, _| {
        let group = finished.group(Part::HeldOut, 0)?;
        let logps = finished.score(&[group], true)?;
        Ok::<_, TrainError>(logps[0][0].iter().sum())
    });
    score.expect("a log-prob")
}

/// A gradient step on one training prompt alone, there and back, must change the answer's log-prob as its score says.
#[test]
fn a_step_on_a_prompt_alone_moves_the_answer_by_its_score() {
    let folder = Folder::new();
    trained(&folder, &[]);
    let outcome = explain(&folder, &["--answer", "0:0"]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let rows = folder.rows("run/explain.jsonl");
    let scores: Vec<f64> = rows.iter().map(|row| row["score"].as_f64().expect("a score")).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b) && scores.len() >= 8, "{scores:?}");

    let run = opened(&folder.path("run"));
    let config = read_config(model()).expect("a configuration");
    let adapter = Adapter::read(&run.folder, &config).expect("an adapter");
    let gradients = run.open(&StopFlag::default(), &mut Silent, |finished, observer| {
        let all: Vec<usize> = (0..finished.len(Part::Training)).collect();
        finished.score_reference(Part::Training, &all, observer)?;
        let gradient = |index: &usize| {
            finished.loss_gradient(*index)?;
            Ok::<_, TrainError>((finished.location(Part::Training, *index)?, finished.session().take_gradient()))
        };
        all.iter().map(gradient).collect::<Result<Vec<_>, _>>()
    });
    for (location, gradient) in gradients.expect("gradients") {
        let row = rows.iter().find(|row| row["location"] == location.as_str()).expect("a row of every training prompt");
        let score = row["score"].as_f64().expect("a score");
        // So small a step that the second order is small, and so large that float32's rounding is.
        let rate = 0.02 / score.abs().max(1.0);
        let moved = [-rate, rate].map(|rate| {
            let mut moved = adapter.clone();
            for (name, derivatives) in &gradient.tensors {
                let tensor = moved.tensors.get_mut(name).expect("a tensor of the adapter");
                tensor
                    .data
                    .iter_mut()
                    .zip(&derivatives.data)
                    .for_each(|(value, d)| *value -= (rate * f64::from(*d)) as f32);
            }
            let name = format!("moved{rate}");
            moved.write(&folder.path(&name)).expect("an adapter");
            logp(&run, &folder.path(&name))
        });
        let change = (moved[1] - moved[0]) / (2.0 * rate);
        let close = (change - score).abs() <= 0.02 * score.abs() + 0.02;
        assert!(close, "{location}: score {score}, measured {change} at rate {rate}");
    }
}

#[test]
fn a_limit_draws_the_same_prompts_again_and_says_so() {
    let folder = Folder::new();
    trained(&folder, &[]);
    let args = ["--answer", "1", "--answer", "0:2", "--limit", "3", "--top", "2"];
    let outcome = explain(&folder, &args);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert!(outcome.out.contains("3 of ") && outcome.out.contains("drawn by seed 42"), "{}", outcome.out);
    let rows = folder.rows("run/explain.jsonl");
    assert_eq!(rows.len(), 2 * 3);
    assert!(rows[3..].iter().all(|row| row["response"] == 2), "{rows:?}");
    let page = folder.read("run/explain.html");
    assert!(page.contains("groups.jsonl:") && page.contains("<svg"), "{page}");
    let again = explain(&folder, &[&args[..], &["--output", &folder.arg("again")]].concat());
    assert_eq!(again.code, 0, "{}", again.err);
    assert_eq!(folder.read("again/explain.jsonl"), folder.read("run/explain.jsonl"));
    let taken = explain(&folder, &args);
    assert!(taken.code == 2 && taken.err.contains("explain.jsonl"), "{}", taken.err);
}

#[rstest]
#[case::no_such_prompt("99", "counted from 0")]
#[case::no_such_response("0:9", "has 3 responses")]
#[case::no_index("first", "ROW:RESPONSE")]
fn an_answer_that_is_not_there_is_refused(#[case] answer: &str, #[case] why: &str) {
    let folder = Folder::new();
    trained(&folder, &["max_steps=1"]);
    let outcome = explain(&folder, &["--answer", answer]);
    assert!(outcome.code == 2 && outcome.err.contains(why), "{}: {}", outcome.code, outcome.err);
}

#[test]
fn an_objective_that_compares_prompts_is_refused_by_name() {
    let folder = Folder::new();
    let (data, output) = (groups(&folder), folder.arg("run"));
    let settings =
        ["use_peft=true", "max_steps=1", "eval_fraction=0.3", "objective=kto", "per_device_train_batch_size=2"];
    succeed(&train(model_arg(), &data, &output, &settings));
    let outcome = explain(&folder, &["--answer", "0"]);
    assert!(outcome.code == 2 && outcome.err.contains("compares the prompts of a step"), "{}", outcome.err);
}
