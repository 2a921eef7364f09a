//! Scores a file: prints the log-prob of every response under a model.
//!
//! `cargo run -p collimate --example score_file -- MODEL_FOLDER FILE`; without arguments it scores two answers with the
//! quickstart's base model.

use std::error::Error;
use std::path::PathBuf;

use collimate_data::{DataSource, LoadOptions};
use collimate_text::{GroupBatch, TextTokenizer, TokenizeOptions, tokenize_all};
use collimate_train::{SessionOptions, open_session};

const ROW: &str =
    r#"{"prompt": "What is 2 + 3?\n", "responses": [{"content": "Answer: 5"}, {"content": "Answer: 23"}]}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (model, file) = match (arguments.next(), arguments.next()) {
        (Some(model), Some(file)) => (model, file),
        _ => {
            collimate_quickstart::assets::write_base(folder.path())?;
            let file = folder.path().join("answers.jsonl");
            std::fs::write(&file, ROW)?;
            (folder.path().to_owned(), file)
        }
    };

    // Scoring reads no rewards, and one response per prompt is enough.
    let options = LoadOptions { min_responses: 1, needs_rewards: false, ..LoadOptions::default() };
    let groups = DataSource::open(&file, &options)?.collect::<Result<Vec<_>, _>>()?;
    let (groups, _) = tokenize_all(&groups, &TextTokenizer::from_model_dir(&model)?, &TokenizeOptions::default())?;
    let mut session = open_session(&SessionOptions::inference(&model, None))?;
    for group in &groups {
        let logps = session.score(&GroupBatch::shared([group]), true, None)?;
        for (response, tokens) in logps[0].iter().enumerate() {
            let logp: f64 = tokens.iter().sum();
            assert!(logp < 0.0, "a log-prob is negative");
            println!("line {}, response {response}: {logp:.4} nats, {} tokens", group.line, tokens.len());
        }
    }
    Ok(())
}
