//! The data of a task: a file for our side, and the same tokens for PyTorch.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use collimate_text::{TextTokenizer, TokenizedGroup};
use collimate_train::progress::Silent;
use collimate_train::{load_recipe, prepare};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::assets::Assets;
use crate::compute::{ComputeSettings, Precision};
use crate::files::write_json;
use crate::tokenizer::words;
use crate::work::{ALPHA, BETA, MAX_LENGTH, MAX_PROMPT_LENGTH, Source, Task};

/// A task whose files are on disk.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Our recipe.
    pub recipe: PathBuf,
    /// Settings of PyTorch's side.
    pub peer: PathBuf,
    /// Tokens of every step.
    pub tokens: Vec<StepTokens>,
}

/// Tokens of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct StepTokens {
    /// Prompt tokens, each prompt once.
    pub prompt: usize,
    /// Response tokens.
    pub response: usize,
}

/// Writes the data, recipe and settings of a task to `folder`, which is emptied first.
///
/// # Errors
/// The data has too few rows, or a file cannot be read or written.
pub fn write(
    task: &Task,
    assets: &Assets,
    data: &Path,
    folder: &Path,
    num_steps: usize,
    compute: &ComputeSettings,
) -> Result<Prepared> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let num_groups = num_steps * task.groups_per_step;
    let rows_file = folder.join("data.jsonl");
    let text = match task.source {
        Source::File(name) => spread(&data.join(name), num_groups)?,
        Source::Words { .. } => made_up(task.source, &words(&assets.model)?, num_groups)?,
    };
    fs::write(&rows_file, text)?;
    let recipe_file = folder.join("recipe.json");
    let recipe = recipe(task, assets, &rows_file, folder, num_steps, compute);
    // JSON is YAML.
    write_json(&recipe_file, &recipe)?;
    let groups = tokens(&recipe_file, &assets.model, &rows_file)?;
    check_lengths(task.source, &groups)?;
    let peer_file = folder.join("peer.json");
    write_json(&peer_file, &peer(task, assets, &groups, compute))?;
    let tokens = groups.chunks(task.groups_per_step).map(count).collect();
    Ok(Prepared { recipe: recipe_file, peer: peer_file, tokens })
}

/// `count` rows of a file, spaced evenly.
fn spread(path: &Path, count: usize) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() < count {
        bail!("{} has {} rows, and the steps need {count}", path.display(), lines.len());
    }
    Ok((0..count).map(|i| format!("{}\n", lines[i * lines.len() / count])).collect())
}

fn made_up(source: Source, words: &[String], count: usize) -> Result<String> {
    let Source::Words { prompt_tokens, response_tokens, num_responses } = source else { bail!("not made-up words") };
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut say = |n: usize| (0..n).map(|_| words[rng.random_range(0..words.len())].as_str()).collect::<String>();
    let mut text = String::new();
    for _ in 0..count {
        let prompt = say(prompt_tokens);
        let reward = |k: usize| k as f64 / num_responses as f64;
        // One of them is the end token.
        let response = |k| json!({"content": say(response_tokens - 1), "reward": reward(k)});
        let responses: Vec<Value> = (0..num_responses).map(response).collect();
        writeln!(text, "{}", json!({"prompt": prompt, "responses": responses}))?;
    }
    Ok(text)
}

fn recipe(
    task: &Task,
    assets: &Assets,
    rows: &Path,
    folder: &Path,
    num_steps: usize,
    compute: &ComputeSettings,
) -> Value {
    let mut recipe = json!({
        "model_name_or_path": assets.model, "data": rows, "output_dir": folder.join("run"),
        "objective": {"name": "nca", "beta": BETA, "alpha": ALPHA},
        "learning_rate": task.learning_rate(), "lr_scheduler_type": "constant", "warmup_ratio": 0.0,
        "max_steps": num_steps, "per_device_train_batch_size": task.groups_per_step,
        "max_length": MAX_LENGTH, "max_prompt_length": MAX_PROMPT_LENGTH, "max_grad_norm": 1.0,
        "shuffle": false, "reference_cache": false, "num_threads": compute.threads,
        "backend": compute.backend, "device": compute.device, "compute_dtype": compute.dtype(),
    });
    // Left out where it says what is the default, so that programs without the key can be measured too.
    if compute.precision != Precision::Highest {
        recipe["float32_matmul_precision"] = json!(compute.precision.name());
    }
    if task.lora {
        recipe["adapter"] = json!(assets.adapter);
        recipe["lora_dropout"] = json!(0.0);
    }
    if let Some(budget) = task.memory_budget {
        recipe["memory_budget"] = json!(budget);
    }
    recipe
}

/// Tokenizes the data as training does.
fn tokens(recipe: &Path, model: &Path, rows: &Path) -> Result<Vec<TokenizedGroup>> {
    let recipe = load_recipe(Some(recipe), &[])?;
    let tokenizer = TextTokenizer::from_model_dir(model)?;
    let groups = prepare(&recipe, rows, &tokenizer, 2, &mut Silent)?;
    Ok(groups.groups().collect::<Result<_, _>>()?)
}

fn check_lengths(source: Source, groups: &[TokenizedGroup]) -> Result<()> {
    let Source::Words { prompt_tokens, response_tokens, .. } = source else { return Ok(()) };
    for group in groups {
        let responses = group.responses.iter().all(|response| response.ids.len() == response_tokens);
        if group.prompt_ids.len() != prompt_tokens || !responses {
            bail!("line {}: made-up words are not one token each", group.line);
        }
    }
    Ok(())
}

fn peer(task: &Task, assets: &Assets, groups: &[TokenizedGroup], compute: &ComputeSettings) -> Value {
    let group = |group: &TokenizedGroup| {
        let responses: Vec<&[u32]> = group.responses.iter().map(|response| response.ids.as_slice()).collect();
        let rewards: Vec<f64> = group.responses.iter().map(|response| response.reward).collect();
        json!({"prompt": group.prompt_ids, "responses": responses, "rewards": rewards})
    };
    json!({
        "model": assets.model, "adapter": task.lora.then_some(&assets.adapter), "threads": compute.threads,
        "device": compute.peer_device(), "dtype": compute.dtype(),
        "float32_matmul_precision": compute.precision.name(),
        "groups_per_step": task.groups_per_step, "beta": BETA, "alpha": ALPHA, "max_grad_norm": 1.0,
        "learning_rate": task.learning_rate(), "pad_id": 0, "groups": groups.iter().map(group).collect::<Vec<_>>(),
    })
}

fn count(groups: &[TokenizedGroup]) -> StepTokens {
    StepTokens {
        prompt: groups.iter().map(|group| group.prompt_ids.len()).sum(),
        response: groups.iter().flat_map(|group| &group.responses).map(|response| response.ids.len()).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_get_the_type_and_the_precision() {
        let assets = Assets { model: "model".into(), adapter: "adapter".into() };
        let Some((_, task)) = crate::work::WORKS[0].tasks.first() else { panic!("a work has a task") };
        let sides = |bf16, precision| {
            let compute = ComputeSettings { backend: "flex".to_owned(), device: 0, bf16, precision, threads: 2 };
            let recipe = recipe(task, &assets, Path::new("rows"), Path::new("folder"), 1, &compute);
            let peer = peer(task, &assets, &[], &compute);
            [recipe, peer].map(|side| {
                let dtype = side.get("compute_dtype").or(side.get("dtype")).cloned();
                (dtype, side.get("float32_matmul_precision").cloned())
            })
        };
        let (float32, bfloat16) = (Some(json!("float32")), Some(json!("bfloat16")));
        let of = |name: &str| Some(json!(name));
        // PyTorch is told its default, too.
        assert_eq!(sides(false, Precision::Highest), [(float32.clone(), None), (float32.clone(), of("highest"))]);
        assert_eq!(sides(false, Precision::High), [(float32.clone(), of("high")), (float32, of("high"))]);
        assert_eq!(sides(true, Precision::Highest), [(bfloat16.clone(), None), (bfloat16, of("highest"))]);
    }
}
