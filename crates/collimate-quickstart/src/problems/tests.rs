use std::collections::HashMap;

use super::*;
use crate::verifier::{is_correct, score};

const SEED: u64 = 7;

fn some(split: Split) -> impl Iterator<Item = Problem> {
    (0..2000).map(move |index| problem(SEED, index, split))
}

#[test]
fn a_problem_depends_on_seed_and_index_alone() {
    let again: Vec<_> = some(Split::Train).collect();
    assert!(some(Split::Train).eq(again.iter().cloned()));
    assert_eq!(problem(SEED, 1999, Split::Train), again[1999]);
    assert_ne!(problem(SEED + 1, 0, Split::Train), again[0]);
}

#[test]
fn the_first_problem_stays_as_it_is() {
    let first = problem(1, 0, Split::Train);
    let prompt = "Ida has 6 eggs. Then she has 4 times as many. She loses 10. Soon she has 4 times as many. \
                  How many eggs does Ida have now?\n";
    assert_eq!(first.prompt, prompt);
    assert_eq!(first.solution, "6*4=24. 24-10=14. 14*4=56. Answer: 56");
}

#[test]
fn splits_share_no_numbers() {
    let numbers = |p: Problem| (p.start, p.operations);
    let train: HashSet<_> =
        (0..4).flat_map(|seed| (0..2000).map(move |i| numbers(problem(seed, i, Split::Train)))).collect();
    assert!(some(Split::HeldOut).map(numbers).all(|held_out| !train.contains(&held_out)));
    assert!(some(Split::HeldOut).all(|problem| problem.split() == Split::HeldOut));
}

#[test]
fn steps_and_answer_follow_from_the_numbers() {
    for problem in some(Split::Train) {
        let mut now = problem.start;
        for ((op, right), step) in problem.operations.iter().zip(&problem.steps) {
            now = op.apply(now, *right).unwrap();
            assert_eq!(now, *step);
            assert!((0..=MAX_RESULT).contains(&now), "{problem:?}");
        }
        assert_eq!(problem.answer, now);
        assert!((2..=3).contains(&problem.steps.len()));
        assert!((score(&problem, &problem.solution) - 1.0).abs() < 1e-12, "{problem:?}");
    }
}

#[test]
fn the_story_names_every_number_in_order() {
    for problem in some(Split::Train) {
        let told: Vec<i64> =
            problem.prompt.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
        let numbers: Vec<i64> = [problem.start].into_iter().chain(problem.operations.iter().map(|(_, n)| *n)).collect();
        assert_eq!(told, numbers, "{}", problem.prompt);
        assert!(problem.prompt.ends_with("?\n"));
    }
}

/// Each operation and each number of steps is common, so no part of the task is missing.
#[test]
fn all_operations_and_lengths_occur_often() {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for problem in some(Split::Train) {
        *counts.entry(format!("{} steps", problem.steps.len())).or_default() += 1;
        for (op, _) in problem.operations {
            *counts.entry(op.sign().to_string()).or_default() += 1;
        }
    }
    for key in ["2 steps", "3 steps", "+", "-", "*"] {
        assert!(counts[key] > 600, "{key}: {}", counts[key]);
    }
}

#[test]
fn distinct_problems_do_not_repeat_numbers() {
    let problems: Vec<_> = distinct_problems(SEED, Split::HeldOut).take(500).collect();
    let numbers: HashSet<_> = problems.iter().map(|p| (p.start, p.operations.clone())).collect();
    assert_eq!(numbers.len(), 500);
}

#[test]
fn a_corrupted_solution_is_wrong_but_well_formed() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut total = 0.0;
    for problem in some(Split::Train) {
        let slipped = corrupt(&problem, &mut rng);
        assert!(!is_correct(&problem, &slipped), "{problem:?} {slipped}");
        assert!(slipped.contains("Answer: "), "{slipped}");
        let numbers = slipped.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<i64>().ok());
        assert!(numbers.max() <= Some(MAX_RESULT), "{slipped}");
        assert!(!slipped.contains("=-"), "{slipped}");
        total += score(&problem, &slipped);
    }
    // Partial credit: more than nothing, but far from that of a right answer.
    assert!((0.1..0.35).contains(&(total / 2000.0)), "{}", total / 2000.0);
}

#[test]
fn slips_are_of_several_kinds() {
    let problem = problem(SEED, 0, Split::Train);
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let kinds: HashSet<String> = (0..200).map(|_| corrupt(&problem, &mut rng)).collect();
    let lengths: HashSet<usize> = kinds.iter().map(|text| text.matches('=').count()).collect();
    assert!(kinds.len() > 10, "{kinds:?}");
    assert_eq!(lengths, HashSet::from([problem.steps.len(), problem.steps.len() - 1]));
}
