//! One line about what is under way, as a function of the state and the width.

use console::{Style, measure_text_width};

use crate::format::format_seconds;

/// Columns of the bar.
const BAR: std::ops::RangeInclusive<usize> = 8..=30;

/// What is shown of a stage or of the steps.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct View {
    pub(crate) name: String,
    pub(crate) done: u64,
    pub(crate) total: Option<u64>,
    /// Seconds that are left.
    pub(crate) left: Option<f64>,
    /// Speeds, the most important first.
    pub(crate) rates: Vec<String>,
    pub(crate) memory: Option<String>,
    /// Figures of the last row, the most important first.
    pub(crate) figures: Vec<String>,
}

/// A line for a terminal, in parts with colors of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BarLine {
    name: String,
    done: String,
    todo: String,
    rest: String,
}

impl BarLine {
    /// The line with colors, if the terminal has them.
    pub(crate) fn colored(&self) -> String {
        let [bold, cyan, dim] = [Style::new().bold(), Style::new().cyan(), Style::new().dim()].map(Style::for_stderr);
        let Self { name, done, todo, rest } = self;
        format!("{} {}{}{rest}", bold.apply_to(name), cyan.apply_to(done), dim.apply_to(todo))
    }

    #[cfg(test)]
    fn plain(&self) -> String {
        format!("{} {}{}{}", self.name, self.done, self.todo, self.rest)
    }
}

impl View {
    /// The line for a terminal of `width` columns. What has no room is left out, the least important first.
    pub(crate) fn bar_line(&self, width: usize) -> BarLine {
        // Some terminals wrap once the last column is used.
        let width = width.saturating_sub(1);
        let position = self.position();
        let name = shorten(&self.name, width.saturating_sub(position.len() + 1).min(width / 2));
        let mut room = width.saturating_sub(measure_text_width(&name) + 1 + position.len());
        let fields = self.fields();
        let mut is_shown = vec![false; fields.len()];
        let mut take = |is_shown: &mut bool, columns: usize| {
            *is_shown = columns <= room;
            room -= if *is_shown { columns } else { 0 };
        };
        let mut has_bar = false;
        let mut order: Vec<usize> = (0..fields.len()).collect();
        order.sort_by_key(|&index| fields[index].importance);
        for (rank, index) in order.into_iter().enumerate() {
            // The bar comes after the time that is left and the speed.
            if rank == 2 && self.total.is_some() {
                take(&mut has_bar, BAR.start() + 1);
            }
            take(&mut is_shown[index], 2 + measure_text_width(&fields[index].text));
        }
        if self.total.is_some() && fields.len() < 3 {
            take(&mut has_bar, BAR.start() + 1);
        }
        let bar = if has_bar { (BAR.start() + room).min(*BAR.end()) } else { 0 };
        let filled = self.filled(bar);
        let shown = fields.into_iter().zip(is_shown).filter(|(_, is_shown)| *is_shown);
        let fields: String = shown.map(|(field, _)| format!("  {}", field.text)).collect();
        let gap = if has_bar { " " } else { "" };
        let (done, todo) = ("━".repeat(filled), "─".repeat(bar - filled));
        BarLine { name, done, todo, rest: format!("{gap}{position}{fields}") }
    }

    /// The line for a log, without its end.
    pub(crate) fn status(&self) -> String {
        let parts = [vec![self.position()], self.rates.clone(), self.left().into_iter().collect(), self.memory()];
        format!("{}: {}{}", self.name, parts.concat().join(", "), self.figures())
    }

    /// The line for what ended after `took`. An evaluation's figures matter more than its speed.
    pub(crate) fn ended(&self, took: &str) -> String {
        let rates = if self.figures.is_empty() { self.rates.clone() } else { Vec::new() };
        let parts = [vec![format!("{} in {took}", self.position())], rates].concat();
        format!("{}: {}{}", self.name, parts.join(", "), self.figures())
    }

    fn position(&self) -> String {
        self.total.map_or_else(|| self.done.to_string(), |total| format!("{}/{total}", self.done))
    }

    fn left(&self) -> Option<String> {
        self.left.map(|seconds| format!("{} left", format_seconds(seconds)))
    }

    fn memory(&self) -> Vec<String> {
        self.memory.clone().into_iter().collect()
    }

    fn figures(&self) -> String {
        self.figures.iter().map(|figure| format!("  {figure}")).collect()
    }

    /// Columns of a bar that are done.
    fn filled(&self, bar: usize) -> usize {
        let share = self.total.filter(|&total| total > 0).map_or(1.0, |total| self.done as f64 / total as f64);
        (share * bar as f64).floor().clamp(0.0, bar as f64) as usize
    }

    /// What follows the position, in the order in which it is shown.
    fn fields(&self) -> Vec<Field> {
        let with = |importance: usize| move |text: String| Field { importance, text };
        let rates = self.rates.iter().cloned().zip([1, 4]).map(|(text, importance)| Field { importance, text });
        let figures = self.figures.iter().cloned().zip([2, 3, 5]).map(|(text, importance)| Field { importance, text });
        let memory = self.memory.clone().map(with(6));
        rates.chain(self.left().map(with(0))).chain(memory).chain(figures).collect()
    }
}

/// A part of a line that may be left out.
struct Field {
    /// 0 for the last to be left out.
    importance: usize,
    text: String,
}

/// The text in at most `columns` columns; the middle is left out.
fn shorten(text: &str, columns: usize) -> String {
    if measure_text_width(text) <= columns {
        return text.to_owned();
    }
    let columns = columns.saturating_sub(1);
    let take = |characters: &mut dyn Iterator<Item = char>, columns: usize| {
        let (mut taken, mut used) = (Vec::new(), 0);
        for character in characters {
            used += measure_text_width(character.encode_utf8(&mut [0; 4]));
            if used > columns {
                break;
            }
            taken.push(character);
        }
        taken
    };
    let head = take(&mut text.chars(), columns - columns / 2);
    let tail = take(&mut text.chars().rev(), columns / 2);
    head.into_iter().chain(['…']).chain(tail.into_iter().rev()).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn training() -> View {
        View {
            name: "training with nca".to_owned(),
            done: 12,
            total: Some(120),
            left: Some(245.0),
            rates: vec!["3.21 steps/s".to_owned(), "1.23k tokens/s".to_owned()],
            memory: Some("1.2 GiB".to_owned()),
            figures: ["loss 1.3847", "margin 0.0053", "acc 1.0000"].map(str::to_owned).to_vec(),
        }
    }

    #[rstest]
    #[case(20, "trai… nca 12/120")]
    #[case(40, "training with nca 12/120  4 min left")]
    #[case(60, "training with nca ──────── 12/120  3.21 steps/s  4 min left")]
    #[case(80, "training with nca ━────────────── 12/120  3.21 steps/s  4 min left  loss 1.3847")]
    #[case(
        120,
        "training with nca ━─────────── 12/120  3.21 steps/s  1.23k tokens/s  4 min left  loss 1.3847  margin 0.0053  acc 1.0000"
    )]
    fn a_narrow_terminal_gets_the_most_important(#[case] width: usize, #[case] expected: &str) {
        assert_eq!(training().bar_line(width).plain(), expected);
    }

    #[test]
    fn no_width_is_exceeded_and_colors_add_no_columns() {
        let names =
            ["evaluation", "reading /a/rather/long/path/of/folders/to/data.jsonl", "日本語のとても長い名前の段階です"];
        for (name, total) in names.into_iter().flat_map(|name| [None, Some(0), Some(13)].map(|total| (name, total))) {
            let (left, rates) = (total.map(|_| 9.0), vec!["243/s".to_owned()]);
            let view = View { name: name.to_owned(), total, left, rates, ..training() };
            for width in 24..200 {
                let line = view.bar_line(width);
                let columns = measure_text_width(&line.plain());
                assert!(columns < width, "{width}: {line:?}");
                assert_eq!(measure_text_width(&line.colored()), columns);
                assert!(!line.plain().contains('\n') && line.rest.contains(&view.position()), "{line:?}");
            }
        }
    }

    #[rstest]
    #[case(0, Some(10), 0)]
    #[case(5, Some(10), 4)]
    #[case(10, Some(10), 8)]
    #[case(12, Some(10), 8)]
    #[case(0, Some(0), 8)]
    fn the_bar_is_full_when_all_is_done(#[case] done: u64, #[case] total: Option<u64>, #[case] expected: usize) {
        assert_eq!(View { done, total, ..training() }.filled(8), expected);
    }

    #[test]
    fn a_log_gets_everything() {
        let line = training().status();
        let expected = "training with nca: 12/120, 3.21 steps/s, 1.23k tokens/s, 4 min left, 1.2 GiB  loss 1.3847  \
                        margin 0.0053  acc 1.0000";
        assert_eq!(line, expected);
        assert_eq!(
            training().ended("9.0 s"),
            "training with nca: 12/120 in 9.0 s  loss 1.3847  margin 0.0053  acc 1.0000"
        );
        let ended = View { figures: Vec::new(), ..training() }.ended("9.0 s");
        assert_eq!(ended, "training with nca: 12/120 in 9.0 s, 3.21 steps/s, 1.23k tokens/s");
    }
}
