//! Data for the runs: prompts with two to five scored responses of different lengths.

use crate::chaos::random::Random;

/// Rows of JSON Lines, the same for the same seed and purpose.
pub(crate) fn rows(seed: u64, purpose: &str, count: usize) -> String {
    let mut random = Random::new(seed, purpose);
    (0..count).map(|index| row(&mut random, index) + "\n").collect()
}

fn row(random: &mut Random, index: usize) -> String {
    let (a, b) = (random.below(90) + 10, random.below(8) + 2);
    let num_responses = 2 + index % 4;
    let responses: Vec<String> = (0..num_responses).map(|k| response(random, a, b, k)).collect();
    let prompt = format!("Row {index}: what is {a} times {b}?");
    format!("{{\"prompt\": \"{prompt}\", \"responses\": [{}]}}", responses.join(", "))
}

/// The right product first, then wrong ones; each with a working of its own length.
fn response(random: &mut Random, a: usize, b: usize, k: usize) -> String {
    let steps: Vec<String> = (1..=1 + random.below(4)).map(|i| format!("{a} * {i} = {}", a * i)).collect();
    let product = a * b + k * (1 + random.below(9));
    let reward = if k == 0 { 1.0 } else { (random.below(80) as f64) / 100.0 };
    format!("{{\"content\": \"{}. So it is {product}.\", \"reward\": {reward}}}", steps.join(", "))
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
        assert!(text.lines().all(|line| line.starts_with("{\"prompt\": \"") && line.ends_with("]}")), "{text}");
    }
}
