//! A training loop on the libraries: NCA on word problems, without recipe, checkpoints or command line.
//!
//! `cargo run -p collimate --example training_loop`

use std::error::Error;

use collimate_model::{ForwardOptions, InputPlace};
use collimate_objective::{GroupScores, evaluate, registry};
use collimate_objectives as _; // registers the built-in objectives
use collimate_quickstart::problems::{Split, distinct_problems, forget_last_step};
use collimate_train::{SessionOptions, Solo, Training, UpdateOptions, open_session};
use serde_json::{Map, json};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    collimate_quickstart::assets::write_base(folder.path())?;
    let groups = groups()?;
    let (groups, _) = collimate_text::tokenize_all(
        &groups,
        &collimate_text::TextTokenizer::from_model_dir(folder.path())?,
        &collimate_text::TokenizeOptions::default(),
    )?;
    let batch = collimate_text::GroupBatch::shared(&groups);

    let params = Map::from_iter([("beta".to_owned(), json!(1.0))]);
    let objective = registry::build("nca", &params)?;
    let options = SessionOptions { training: Training::Full, ..SessionOptions::inference(folder.path(), None) };
    let mut session = open_session(&options)?;
    let reference = response_logps(&session.score(&batch, true, None)?);
    let update = UpdateOptions {
        learning_rate: 2e-4,
        max_grad_norm: 1.0,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.0,
        decay_norms: true,
        apply: true,
    };
    let mut losses = Vec::new();
    for step in 1..=10 {
        let packs = std::slice::from_ref(&batch);
        let policy = response_logps(&session.forward(packs, ForwardOptions::PLAIN, InputPlace::Device)?.concat());
        let scores = groups.iter().zip(&policy).zip(&reference).map(|((group, policy), reference)| GroupScores {
            policy_logps: policy.clone(),
            reference_logps: Some(reference.clone()),
            rewards: group.responses.iter().map(|response| response.reward).collect(),
            lengths: group.responses.iter().map(|response| response.ids.len()).collect(),
        });
        // The objective returns one coefficient c_k per response; the model's backward pass needs nothing else.
        let evaluation = evaluate(objective.as_ref(), &scores.collect::<Vec<_>>())?;
        session.backward(std::slice::from_ref(&evaluation.coefficients))?;
        let stats = session.update(&update, &Solo)?;
        println!("step {step:2}: loss {:.4}, gradient norm {:.3}", evaluation.mean_loss(), stats.grad_norm);
        losses.push(evaluation.mean_loss());
    }
    assert!(losses[9] < losses[0], "the loss falls: {losses:?}");
    Ok(())
}

/// Eight problems, each with its solution (reward 1) and one that stops a step early (reward 0).
fn groups() -> Result<Vec<collimate_data::PromptGroup>, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("rewards.jsonl");
    let mut rows = collimate_data::RowWriter::create(&path)?;
    let problems =
        distinct_problems(1, Split::Train).filter_map(|problem| Some((forget_last_step(&problem)?, problem)));
    for (short, problem) in problems.take(8) {
        let responses = [json!({"content": problem.solution, "reward": 1.0}), json!({"content": short, "reward": 0.0})];
        rows.push(&json!({"prompt": problem.prompt, "responses": responses}))?;
    }
    rows.commit()?;
    Ok(collimate_data::DataSource::open(&path, &collimate_data::LoadOptions::default())?.collect::<Result<_, _>>()?)
}

/// Log-probs of responses: the sums over their tokens.
fn response_logps(tokens: &[Vec<Vec<f64>>]) -> Vec<Vec<f64>> {
    tokens.iter().map(|group| group.iter().map(|response| response.iter().sum()).collect()).collect()
}
