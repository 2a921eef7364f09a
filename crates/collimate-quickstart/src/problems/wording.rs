//! The words of a problem.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::Op;

const NAMES: [(&str, &str); 12] = [
    ("Ana", "She"),
    ("Ben", "He"),
    ("Cleo", "She"),
    ("Dan", "He"),
    ("Eva", "She"),
    ("Finn", "He"),
    ("Gina", "She"),
    ("Hugo", "He"),
    ("Ida", "She"),
    ("Jon", "He"),
    ("Kim", "She"),
    ("Leo", "He"),
];

const THINGS: [&str; 12] =
    ["apples", "books", "cards", "coins", "cups", "eggs", "keys", "nuts", "pens", "shells", "stamps", "toys"];

const PLACES: [&str; 6] = ["bag", "box", "jar", "room", "shop", "van"];

/// A story in one of two frames: what a person has, or what a location contains.
pub(super) fn tell(start: i64, operations: &[(Op, i64)], rng: &mut impl Rng) -> String {
    let thing = pick(&THINGS, rng);
    if rng.random_range(0..3) == 0 {
        let place = pick(&PLACES, rng);
        let steps: String = operations.iter().map(|&(op, right)| place_step(op, right, rng)).collect();
        format!("A {place} holds {start} {thing}.{steps} How many {thing} are there now?\n")
    } else {
        let (name, pronoun) = pick(&NAMES, rng);
        let steps: String = operations.iter().map(|&(op, right)| person_step(pronoun, op, right, rng)).collect();
        format!("{name} has {start} {thing}.{steps} How many {thing} does {name} have now?\n")
    }
}

fn person_step(pronoun: &str, op: Op, right: i64, rng: &mut impl Rng) -> String {
    let verbs: &[&str] = match op {
        Op::Add => &["buys", "finds", "gets"],
        Op::Subtract => &["loses", "sells", "gives away"],
        Op::Multiply => {
            let pronoun = pronoun.to_lowercase();
            return format!(" {} {pronoun} has {right} times as many.", pick(&["Then", "Soon"], rng));
        }
    };
    let more = if op == Op::Add { " more" } else { "" };
    format!(" {pronoun} {} {right}{more}.", pick(verbs, rng))
}

fn place_step(op: Op, right: i64, rng: &mut impl Rng) -> String {
    match op {
        Op::Add => format!(" {right} more {}.", pick(&["arrive", "come in"], rng)),
        Op::Subtract => format!(" {right} {}.", pick(&["are taken", "break", "are sold"], rng)),
        Op::Multiply => format!(" {} there are {right} times as many.", pick(&["Then", "Soon"], rng)),
    }
}

fn pick<T: Copy>(items: &[T], rng: &mut impl Rng) -> T {
    // The lists are non-empty constants.
    items.choose(rng).copied().unwrap_or(items[0])
}
