//! Questions about pictures, and their verifier.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::scene::{CELLS, Color, Item, Kind, Scene};

/// One picture in this many is held out.
const HELD_OUT_ONE_IN: u64 = 8;
/// Least and most shapes of a picture.
const ITEMS: [usize; 2] = [3, 9];
/// Share of a picture's shapes that are what is asked for, and that share its kind in any color.
const SHARES: [f64; 2] = [0.35, 0.3];
/// Shares of the questions that name a color alone, a kind alone, and neither.
const PARTIAL: [f64; 3] = [0.6, 0.1, 0.1];

/// Credits are counted in twentieths, so that every score is the number nearest to its decimals.
const WHOLE: f64 = 20.0;
/// Credit for the right number.
const ANSWER: usize = 12;
/// Credit for each row's right number.
const ROW: usize = 1;
/// Credit for rows that add up to the answer.
const SUM: usize = 2;
/// Credit for the form.
const FORM: usize = 2;

/// Training or held out. No arrangement of shapes is in both, whatever the seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Seven pictures in eight.
    Train,
    /// Every eighth picture.
    HeldOut,
}

/// A picture and what is asked about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountingQuestion {
    /// The picture.
    pub scene: Scene,
    /// The kind that is asked for.
    pub kind: Option<Kind>,
    /// The color that is asked for.
    pub color: Option<Color>,
}

/// Question number `index` of a seed and split; the same on every machine.
pub fn counting_question(seed: u64, index: u64, split: Split) -> CountingQuestion {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(index);
    loop {
        let question = draw(&mut rng);
        if split_of(&question.scene) == split {
            return question;
        }
    }
}

impl CountingQuestion {
    /// Its text: `How many red circles?`
    pub fn text(&self) -> String {
        let color = self.color.map(|color| format!("{} ", color.word())).unwrap_or_default();
        format!("How many {color}{}?", self.kind.map_or("shapes", Kind::plural))
    }

    /// The right number.
    pub fn answer(&self) -> usize {
        self.rows().iter().sum()
    }

    /// The right numbers of the picture's rows of cells.
    pub fn rows(&self) -> [usize; CELLS] {
        self.scene.count(self.kind, self.color)
    }

    /// The worked answer: `1+0+2+0. Answer: 3`.
    pub fn solution(&self) -> String {
        written(self.rows())
    }

    /// The numbers of the rows as who overlooks the color counts them, if the question names one.
    pub(crate) fn overlooking_color(&self) -> Option<[usize; CELLS]> {
        self.color.map(|_| self.scene.count(self.kind, None))
    }

    /// Scores a response in [0, 1]; the worked answer gets 1, an empty response 0.
    ///
    /// | credit | for |
    /// |---|---|
    /// | 0.6 | the response ends with `Answer: N` and N is the right number |
    /// | 0.2 · r/4 | r of the picture's four rows have their right number before that |
    /// | 0.1 | the numbers before it add up to N |
    /// | 0.1 | the response is four numbers with `+` between them, `. Answer: N`, and nothing else |
    ///
    /// A wrong number scores at most 0.4. White space around the response does not matter.
    pub fn score(&self, response: &str) -> f64 {
        let Some(parsed) = Parsed::new(response) else { return 0.0 };
        let right = parsed.rows.iter().zip(self.rows()).filter(|(found, row)| **found == Some(*row)).count();
        let rows: Option<Vec<usize>> = parsed.rows.iter().copied().collect();
        let has_rows = rows.as_ref().is_some_and(|rows| rows.len() == CELLS);
        let adds_up = rows.is_some_and(|rows| !rows.is_empty() && rows.iter().sum::<usize>() == parsed.answer);
        let is_answer = parsed.answer == self.answer();
        let credits = [(ANSWER, is_answer), (SUM, adds_up), (FORM, has_rows)];
        let credit: usize = credits.iter().filter(|(_, is_due)| *is_due).map(|(credit, _)| credit).sum();
        (credit + ROW * right) as f64 / WHOLE
    }

    /// Whether the response ends with `Answer: N` and N is the right number: what accuracy counts.
    pub fn is_correct(&self, response: &str) -> bool {
        Parsed::new(response).is_some_and(|parsed| parsed.answer == self.answer())
    }
}

/// Numbers of rows with their sum.
pub(crate) fn written(rows: [usize; CELLS]) -> String {
    format!("{}. Answer: {}", rows.map(|row| row.to_string()).join("+"), rows.iter().sum::<usize>())
}

/// What a response says.
struct Parsed {
    /// What stands between the signs before the answer, where it is a number.
    rows: Vec<Option<usize>>,
    answer: usize,
}

impl Parsed {
    /// `None` without an answer.
    fn new(response: &str) -> Option<Self> {
        let (body, answer) = response.trim().rsplit_once("Answer: ")?;
        let rows = match body.strip_suffix(". ") {
            Some(rows) => rows.split('+').map(number).collect(),
            None => Vec::new(),
        };
        Some(Self { rows, answer: number(answer)? })
    }
}

fn number(digits: &str) -> Option<usize> {
    let is_number = (1..=4).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

/// What is asked first, then a picture that has some of it.
fn draw(rng: &mut impl Rng) -> CountingQuestion {
    let kind = Kind::ALL[rng.random_range(0..3)];
    let color = Color::ALL[rng.random_range(0..3)];
    let form: f64 = rng.random();
    let count = rng.random_range(ITEMS[0]..=ITEMS[1]);
    let mut cells: Vec<usize> = (0..CELLS * CELLS).collect();
    cells.shuffle(rng);
    let items = cells.into_iter().take(count).map(|cell| {
        let share: f64 = rng.random();
        let any_color = Color::ALL[rng.random_range(0..3)];
        let any_kind = Kind::ALL[rng.random_range(0..3)];
        let (kind, color) = if share < SHARES[0] {
            (kind, color)
        } else if share < SHARES[0] + SHARES[1] {
            (kind, any_color)
        } else {
            (any_kind, any_color)
        };
        Item::random(cell, kind, color, rng)
    });
    let scene = Scene { items: items.collect() };
    let [only_color, only_kind, neither] = PARTIAL;
    let names_color = form < only_color || form >= only_color + only_kind + neither;
    let names_kind = (only_color..only_color + only_kind).contains(&form) || form >= only_color + only_kind + neither;
    CountingQuestion { scene, kind: names_kind.then_some(kind), color: names_color.then_some(color) }
}

/// FNV-1a of the shapes and their cells, then mixed; places within cells and sizes do not count. Not a hash of the standard
/// library: the split must never change.
fn split_of(scene: &Scene) -> Split {
    let mut items: Vec<u64> =
        scene.items.iter().map(|item| (item.cell * 9 + item.kind as usize * 3 + item.color as usize) as u64).collect();
    items.sort_unstable();
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for item in items {
        hash = (hash ^ item).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    if (hash >> 32).is_multiple_of(HELD_OUT_ONE_IN) { Split::HeldOut } else { Split::Train }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn question() -> CountingQuestion {
        let item = |cell, color| Item { cell, kind: Kind::Circle, color, off: [0, 0], radius: 8 };
        let scene = Scene { items: vec![item(0, Color::Red), item(1, Color::Red), item(2, Color::Blue)] };
        CountingQuestion { scene, kind: Some(Kind::Circle), color: Some(Color::Red) }
    }

    #[rstest]
    #[case("2+0+0+0. Answer: 2", 1.0, true)]
    #[case(" 2+0+0+0. Answer: 2\n", 1.0, true)]
    #[case("1+0+0+1. Answer: 2", (12.0 + 2.0 + 2.0 + 2.0) / 20.0, true)]
    #[case("2+0+0+0. Answer: 3", (4.0 + 2.0) / 20.0, false)]
    #[case("3+0+0+0. Answer: 3", (3.0 + 2.0 + 2.0) / 20.0, false)]
    #[case("2+0. Answer: 2", (12.0 + 2.0 + 2.0) / 20.0, true)]
    #[case("I see two. Answer: 2", 0.6, true)]
    #[case("Answer: 02", 0.6, true)]
    #[case("2+0+0+0. Answer: two", 0.0, false)]
    #[case("2+0+0+0. Answer: 2 or 3", 0.0, false)]
    #[case("2", 0.0, false)]
    #[case("", 0.0, false)]
    fn answers_are_scored(#[case] response: &str, #[case] expected: f64, #[case] is_correct: bool) {
        let question = question();
        assert_eq!(question.score(response), expected);
        assert_eq!(question.is_correct(response), is_correct);
    }

    #[test]
    fn a_question_names_what_it_counts() {
        let question = question();
        assert_eq!(
            (question.text().as_str(), question.overlooking_color()),
            ("How many red circles?", Some([3, 0, 0, 0]))
        );
        let of_color = CountingQuestion { kind: None, ..question };
        assert_eq!(
            (of_color.text().as_str(), of_color.overlooking_color()),
            ("How many red shapes?", Some([3, 0, 0, 0]))
        );
        let of_kind = CountingQuestion { kind: Some(Kind::Circle), color: None, ..of_color };
        assert_eq!((of_kind.text().as_str(), of_kind.overlooking_color()), ("How many circles?", None));
    }

    #[test]
    fn questions_are_the_same_each_time_and_no_picture_is_in_both_splits() {
        for index in 0..200 {
            let [train, held_out] = [Split::Train, Split::HeldOut].map(|split| counting_question(3, index, split));
            assert_eq!(train, counting_question(3, index, Split::Train));
            assert_eq!((split_of(&train.scene), split_of(&held_out.scene)), (Split::Train, Split::HeldOut));
            assert!((ITEMS[0]..=ITEMS[1]).contains(&train.scene.items.len()));
        }
    }

    #[test]
    fn counts_vary_and_overlooking_the_color_is_often_wrong() {
        let all: Vec<_> = (0..1000).map(|index| counting_question(1, index, Split::Train)).collect();
        let with = |answer: usize| all.iter().filter(|question| question.answer() == answer).count();
        // Whoever always says the same number is right a quarter of the time at most.
        let counts: Vec<usize> = (0..10).map(with).collect();
        assert!(counts.iter().all(|count| *count < 250) && counts[1..=6].iter().all(|count| *count > 60), "{counts:?}");
        let colored = all.iter().filter(|question| question.overlooking_color().is_some()).count();
        let differ =
            |question: &&CountingQuestion| question.overlooking_color().is_some_and(|all| all != question.rows());
        let wrong = all.iter().filter(differ).count();
        assert!((750..850).contains(&colored) && wrong * 10 > colored * 6, "{wrong} of {colored}");
    }
}
