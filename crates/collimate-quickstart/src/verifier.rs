//! A reward for any response to a word problem.

use crate::problems::{Equation, Op, Problem};

/// Credit for the right answer at the end.
const ANSWER: f64 = 0.6;
/// Credit for the steps' results.
const STEPS: f64 = 0.2;
/// Credit for correct arithmetic.
const ARITHMETIC: f64 = 0.1;
/// Credit for the form.
const FORM: f64 = 0.1;

/// Scores a response in [0, 1]; the worked solution gets 1, an empty response 0.
///
/// | part | credit |
/// |---|---|
/// | 0.6 | the response ends with `Answer: N` and N is the answer |
/// | 0.2 · s/S | s of the problem's S step results are results of the response's equations, in the problem's order |
/// | 0.1 · r/E | r of the response's E equations are right as arithmetic |
/// | 0.1 | the response is S equations, each followed by `. `, then `Answer: N`, and nothing else |
///
/// A wrong answer scores at most 0.4, a right one at least 0.6. White space around the response does not matter. An
/// equation is `a+b=c`, `a-b=c` or `a*b=c` with whole numbers, without spaces.
pub fn score(problem: &Problem, response: &str) -> f64 {
    score_answer(&problem.steps, problem.answer, response)
}

/// [`score`] by a problem's step results and answer alone.
pub fn score_answer(steps: &[i64], answer: i64, response: &str) -> f64 {
    let parsed = Parsed::new(response);
    let answered = if parsed.answer == Some(answer) { ANSWER } else { 0.0 };
    let found = fraction(steps_found(steps, &parsed.equations), steps.len());
    let right = parsed.equations.iter().filter(|e| e.op.apply(e.left, e.right) == Some(e.result)).count();
    let arithmetic = fraction(right, parsed.equations.len());
    let formed = parsed.clean && parsed.answer.is_some() && parsed.equations.len() == steps.len();
    let form = if formed { FORM } else { 0.0 };
    // Even sums of exact tenths would round: the clamp keeps the full score at 1.
    (answered + STEPS * found + ARITHMETIC * arithmetic + form).clamp(0.0, 1.0)
}

/// Whether the response ends with `Answer: N` and N is the problem's answer: what accuracy counts.
pub fn is_correct(problem: &Problem, response: &str) -> bool {
    Parsed::new(response).answer == Some(problem.answer)
}

/// The content of a response.
struct Parsed {
    equations: Vec<Equation>,
    answer: Option<i64>,
    /// Every part before the answer is an equation.
    clean: bool,
}

impl Parsed {
    fn new(response: &str) -> Self {
        let response = response.trim();
        let (body, answer) = match response.rsplit_once("Answer: ") {
            Some((body, answer)) => (body, whole_number(answer)),
            None => (response, None),
        };
        let mut parts: Vec<&str> = body.split(". ").collect();
        // The last equation's ". " leaves an empty part; anything else there is not of the form.
        let ended = parts.pop_if(|part| part.is_empty()).is_some();
        let equations: Vec<Equation> = parts.iter().filter_map(|part| equation(part)).collect();
        let clean = ended && equations.len() == parts.len();
        Self { equations, answer, clean }
    }
}

fn equation(text: &str) -> Option<Equation> {
    let (sides, result) = text.trim().trim_end_matches('.').split_once('=')?;
    // A sign in front of the first number is part of it.
    let at = sides.char_indices().skip(1).find(|(_, c)| matches!(c, '+' | '-' | '*'))?.0;
    let op = match &sides[at..=at] {
        "+" => Op::Add,
        "-" => Op::Subtract,
        _ => Op::Multiply,
    };
    let (left, right) = (whole_number(&sides[..at])?, whole_number(&sides[at + 1..])?);
    Some(Equation { left, op, right, result: whole_number(result)? })
}

/// A whole number of at most nine digits, with `-` or no sign, without leading zeros.
fn whole_number(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0'));
    if plain && (1..=9).contains(&digits.len()) { text.parse().ok() } else { None }
}

/// Length of the longest sequence of expected results that occurs in the equations' results in order, with gaps in both.
fn steps_found(expected: &[i64], equations: &[Equation]) -> usize {
    // best[i]: matches within the first i expected results and the equations seen so far.
    let mut best = vec![0; expected.len() + 1];
    for equation in equations {
        let mut diagonal = 0;
        for (i, step) in expected.iter().enumerate() {
            let above = best[i + 1];
            best[i + 1] = if *step == equation.result { diagonal + 1 } else { above.max(best[i]) };
            diagonal = above;
        }
    }
    best[expected.len()]
}

fn fraction(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// 3 + 4 = 7, 7 · 2 = 14.
    fn problem() -> Problem {
        Problem {
            prompt: String::new(),
            solution: "3+4=7. 7*2=14. Answer: 14".to_owned(),
            answer: 14,
            steps: vec![7, 14],
            start: 3,
            operations: vec![(Op::Add, 4), (Op::Multiply, 2)],
        }
    }

    #[rstest]
    #[case::solution("3+4=7. 7*2=14. Answer: 14", 0.6 + 0.2 + 0.1 + 0.1)]
    #[case::white_space_around(" 3+4=7. 7*2=14. Answer: 14\n", 1.0)]
    #[case::empty("", 0.0)]
    #[case::only_the_answer("Answer: 14", 0.6)]
    #[case::only_a_wrong_answer("Answer: 15", 0.0)]
    #[case::answer_not_at_the_end("3+4=7. 7*2=14. Answer: 14 or so", 0.2 + 0.1)]
    #[case::last_answer_counts("Answer: 15 Answer: 14", 0.6)]
    #[case::slip_in_the_last_step("3+4=7. 7*2=15. Answer: 15", 0.2 * 1.0 / 2.0 + 0.1 * 1.0 / 2.0 + 0.1)]
    #[case::slip_carried_through("3+4=8. 8*2=16. Answer: 16", 0.1 * 1.0 / 2.0 + 0.1)]
    #[case::wrong_operation("3-4=-1. -1*2=-2. Answer: -2", 0.1 + 0.1)]
    #[case::dropped_step("3*2=6. Answer: 6", 0.1)]
    #[case::answer_copied_wrongly("3+4=7. 7*2=14. Answer: 41", 0.2 + 0.1 + 0.1)]
    #[case::right_by_luck("3+3=6. 6+8=14. Answer: 14", 0.6 + 0.2 * 1.0 / 2.0 + 0.1 + 0.1)]
    #[case::steps_in_the_wrong_order("7*2=14. 3+4=7. Answer: 14", 0.6 + 0.2 * 1.0 / 2.0 + 0.1 + 0.1)]
    #[case::one_equation_repeated("3+4=7. 3+4=7. 3+4=7. 3+4=7. ", 0.2 * 1.0 / 2.0 + 0.1)]
    #[case::no_answer("3+4=7. 7*2=14.", 0.2 + 0.1)]
    #[case::words_between("First 3+4=7. 7*2=14. Answer: 14", 0.6 + 0.2 * 1.0 / 2.0 + 0.1)]
    #[case::leading_zero("Answer: 014", 0.0)]
    #[case::sign("Answer: +14", 0.0)]
    #[case::huge("99999999999999999999*9=1. 999999999*999999999=1. Answer: 99999999999999999999", 0.0)]
    #[case::not_text("=. +=. 3+=7. é+é=é. Answer: é", 0.0)]
    fn credit_is_as_documented(#[case] response: &str, #[case] expected: f64) {
        let score = score(&problem(), response);
        assert!((score - expected).abs() < 1e-12, "{score} instead of {expected}");
    }

    #[rstest]
    #[case("Answer: 14", true)]
    #[case("3+4=7. Answer: 14", true)]
    #[case("Answer: 14.", false)]
    #[case("14", false)]
    fn correct_is_the_answer_in_its_place(#[case] response: &str, #[case] expected: bool) {
        assert_eq!(is_correct(&problem(), response), expected);
    }
}
