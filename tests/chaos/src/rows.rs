//! Data for the runs: prompts with two to five scored responses of different lengths.

use rand::Rng;
use serde_json::{Value, json};

use crate::random::{Random, random};

/// Rows of JSON Lines, the same for the same seed and purpose.
pub fn rows(seed: u64, purpose: &str, count: usize) -> String {
    let mut random = random(seed, purpose);
    (0..count).map(|index| format!("{}\n", row(&mut random, index))).collect()
}

/// Rows with nothing but prompts.
pub(crate) fn prompts(count: usize) -> String {
    (0..count).map(|index| format!("{}\n", json!({"prompt": format!("What is {} times 7?", index + 2)}))).collect()
}

fn row(random: &mut Random, index: usize) -> Value {
    let (a, b) = (random.random_range(10..100), random.random_range(2..10));
    let responses: Vec<Value> = (0..2 + index % 4).map(|k| response(random, a, b, k)).collect();
    json!({"prompt": format!("Row {index}: what is {a} times {b}?"), "responses": responses})
}

/// The right product first, then wrong ones; each with a working of its own length.
fn response(random: &mut Random, a: usize, b: usize, k: usize) -> Value {
    let steps: Vec<String> = (1..=random.random_range(1..5)).map(|i| format!("{a} * {i} = {}", a * i)).collect();
    let product = a * b + k * random.random_range(1..10);
    let reward = if k == 0 { 1.0 } else { f64::from(random.random_range(0..80)) / 100.0 };
    json!({"content": format!("{}. So it is {product}.", steps.join(", ")), "reward": reward})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_ragged_and_repeatable() {
        let text = rows(1, "train", 8);
        assert_eq!(text, rows(1, "train", 8));
        assert_ne!(text, rows(1, "eval", 8));
        let counts: Vec<usize> = text.lines().map(|line| line.matches("\"reward\"").count()).collect();
        assert_eq!(counts, [2, 3, 4, 5, 2, 3, 4, 5]);
        let parsed: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
        assert!(parsed.expect("JSON").iter().all(|row| row["prompt"].is_string()), "{text}");
    }
}
