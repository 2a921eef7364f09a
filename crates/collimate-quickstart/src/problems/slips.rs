//! Solutions with one slip, for a model to unlearn.

use rand::Rng;

use super::{Equation, MAX_RESULT, Op, Problem, work_out, write_solution};

/// Maximum attempts at drawing a slip, since some give the right answer or impossible numbers; then a plain one is made.
const ATTEMPTS: usize = 20;

/// A solution in the right format with one slip and a wrong answer, as a person might make it.
///
/// The slip is one of four, its consequences carried through the later steps: another operation than the story's,
/// a wrong result (off by 1, 2 or 10), a step left out, or a number copied wrongly (off by 1). No result leaves
/// 0..=[`MAX_RESULT`].
pub fn corrupt(problem: &Problem, rng: &mut impl Rng) -> String {
    for _ in 0..ATTEMPTS {
        let slipped = slip(problem, rng);
        if let Some((equations, answer)) = slipped.filter(|(_, answer)| *answer != problem.answer) {
            return write_solution(&equations, answer);
        }
    }
    let mut equations = work_out(problem.start, &problem.operations).unwrap_or_default();
    let answer = problem.answer + 1;
    if let Some(last) = equations.last_mut() {
        last.result = answer;
    }
    write_solution(&equations, answer)
}

/// A bad habit rather than a slip: stops before the last step of a three-step problem. `None` for shorter ones.
pub fn forget_last_step(problem: &Problem) -> Option<String> {
    let (_, operations) = problem.operations.split_last().filter(|(_, rest)| rest.len() >= 2)?;
    let equations = work_out(problem.start, operations)?;
    Some(write_solution(&equations, equations.last()?.result))
}

fn slip(problem: &Problem, rng: &mut impl Rng) -> Option<(Vec<Equation>, i64)> {
    let mut operations = problem.operations.clone();
    let at = rng.random_range(0..operations.len());
    let equations = match rng.random_range(0..4) {
        0 => {
            operations[at].0 = other_operation(operations[at].0, rng);
            work_out(problem.start, &operations)?
        }
        1 => {
            let by = [-10, -2, -1, 1, 2, 10][rng.random_range(0..6)];
            wrong_result(problem, at, by)?
        }
        2 => {
            operations.remove(at);
            work_out(problem.start, &operations)?
        }
        _ => {
            operations[at].1 += if rng.random_range(0..2) == 0 { 1 } else { -1 };
            work_out(problem.start, &operations)?
        }
    };
    let answer = equations.last()?.result;
    Some((equations, answer))
}

fn other_operation(op: Op, rng: &mut impl Rng) -> Op {
    let others = match op {
        Op::Add => [Op::Subtract, Op::Multiply],
        Op::Subtract => [Op::Add, Op::Add],
        Op::Multiply => [Op::Add, Op::Add],
    };
    others[rng.random_range(0..2)]
}

/// Adds `by` to the result of step `at`; the later steps continue correctly from there.
fn wrong_result(problem: &Problem, at: usize, by: i64) -> Option<Vec<Equation>> {
    let mut equations = work_out(problem.start, &problem.operations[..=at])?;
    let last = equations.last_mut()?;
    last.result += by;
    if !(0..=MAX_RESULT).contains(&last.result) {
        return None;
    }
    let rest = work_out(last.result, &problem.operations[at + 1..])?;
    equations.extend(rest);
    Some(equations)
}
