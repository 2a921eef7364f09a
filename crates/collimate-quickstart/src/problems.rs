//! Generated word problems of two or three steps of arithmetic.
//!
//! A problem's numbers are drawn first, then its wording. The split depends on the numbers alone, so a held-out problem was
//! never trained on in other words.

mod slips;
mod wording;

use std::collections::HashSet;
use std::fmt;

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

pub use slips::{corrupt, forget_last_step};

/// Largest result of a step.
pub const MAX_RESULT: i64 = 200;

/// One problem in this many is held out.
const HELD_OUT_ONE_IN: u64 = 8;

/// Training or held out. No problem's numbers are in both, whatever the seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Seven problems in eight.
    Train,
    /// Every eighth problem.
    HeldOut,
}

/// The operation of a step on the current number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// Adds the operand.
    Add,
    /// Subtracts the operand; the result is never negative.
    Subtract,
    /// Multiplies by the operand.
    Multiply,
}

impl Op {
    /// The result of a step; `None` on overflow.
    pub fn apply(self, left: i64, right: i64) -> Option<i64> {
        match self {
            Self::Add => left.checked_add(right),
            Self::Subtract => left.checked_sub(right),
            Self::Multiply => left.checked_mul(right),
        }
    }

    /// The sign in solutions: `+`, `-` or `*`.
    pub fn sign(self) -> char {
        match self {
            Self::Add => '+',
            Self::Subtract => '-',
            Self::Multiply => '*',
        }
    }
}

/// One written step: `left op right = result`, right or wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Equation {
    /// Left of the sign.
    pub left: i64,
    /// The sign.
    pub op: Op,
    /// Right of the sign.
    pub right: i64,
    /// After the `=`.
    pub result: i64,
}

impl fmt::Display for Equation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}={}", self.left, self.op.sign(), self.right, self.result)
    }
}

/// A word problem with its worked solution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The question, ending with a line break.
    pub prompt: String,
    /// One equation per step, then the answer: `3+4=7. 7*2=14. Answer: 14`.
    pub solution: String,
    /// The last step's result.
    pub answer: i64,
    /// The result of each step, two or three; the last is the answer.
    pub steps: Vec<i64>,
    /// The number that the story starts with.
    pub start: i64,
    /// Each step's operation and operand.
    pub operations: Vec<(Op, i64)>,
}

impl Problem {
    /// The split, which follows from the numbers.
    pub fn split(&self) -> Split {
        split_of(self.start, &self.operations)
    }
}

/// Problem number `index` of a seed and split; the same on every machine.
pub fn problem(seed: u64, index: u64, split: Split) -> Problem {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(index);
    loop {
        let (start, operations) = draw_numbers(&mut rng);
        if split_of(start, &operations) == split {
            return write_problem(start, operations, &mut rng);
        }
    }
}

/// The problems of a seed and split, in order, without repeated numbers.
///
/// There are 5,780 sets of numbers for two steps and 140,231 for three, an eighth of them held out. The iterator never
/// ends: past the last set it searches forever, so take far fewer. A quarter of the first 10,000 draws of [`problem`]
/// are repeats.
pub fn distinct_problems(seed: u64, split: Split) -> impl Iterator<Item = Problem> {
    let mut seen = HashSet::new();
    let all = (0..).map(move |index| problem(seed, index, split));
    all.filter(move |problem| seen.insert((problem.start, problem.operations.clone())))
}

/// The solution as text: the equations, then the answer.
pub(crate) fn write_solution(equations: &[Equation], answer: i64) -> String {
    let steps: String = equations.iter().map(|equation| format!("{equation}. ")).collect();
    format!("{steps}Answer: {answer}")
}

/// The equations of a chain of steps; `None` if a result leaves 0..=[`MAX_RESULT`].
fn work_out(start: i64, operations: &[(Op, i64)]) -> Option<Vec<Equation>> {
    let mut left = start;
    let step = |&(op, right): &(Op, i64)| {
        let result = op.apply(left, right).filter(|result| (0..=MAX_RESULT).contains(result))?;
        let equation = Equation { left, op, right, result };
        left = result;
        Some(equation)
    };
    operations.iter().map(step).collect()
}

/// Draws a start in 2..=12 and two or three steps: add 1..=12, subtract less than the current number, or multiply by 2..=5
/// while the number is at most 20.
fn draw_numbers(rng: &mut impl Rng) -> (i64, Vec<(Op, i64)>) {
    let start = rng.random_range(2..=12);
    let num_steps = rng.random_range(2..=3);
    let mut now = start;
    let mut operations = Vec::with_capacity(num_steps);
    for _ in 0..num_steps {
        let (op, right) = match rng.random_range(0..3) {
            0 if now <= 20 => (Op::Multiply, rng.random_range(2..=5)),
            1 if now >= 3 => (Op::Subtract, rng.random_range(1..=(now - 1).min(12))),
            _ => (Op::Add, rng.random_range(1..=12)),
        };
        // Stays within 0..=MAX_RESULT: at most 20·5 + 2·12.
        now = op.apply(now, right).unwrap_or(now);
        operations.push((op, right));
    }
    (start, operations)
}

fn write_problem(start: i64, operations: Vec<(Op, i64)>, rng: &mut impl Rng) -> Problem {
    let prompt = wording::tell(start, &operations, rng);
    let equations = work_out(start, &operations).unwrap_or_default();
    let steps: Vec<i64> = equations.iter().map(|equation| equation.result).collect();
    let answer = steps.last().copied().unwrap_or(start);
    Problem { prompt, solution: write_solution(&equations, answer), answer, steps, start, operations }
}

/// FNV-1a of the numbers, then mixed. Not a hash of the standard library: the split must never change.
fn split_of(start: i64, operations: &[(Op, i64)]) -> Split {
    let numbers = operations.iter().flat_map(|(op, right)| [op.sign() as u64, right.unsigned_abs()]);
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for number in [start.unsigned_abs()].into_iter().chain(numbers) {
        hash = (hash ^ number).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    if (hash >> 32).is_multiple_of(HELD_OUT_ONE_IN) { Split::HeldOut } else { Split::Train }
}

#[cfg(test)]
mod tests;
