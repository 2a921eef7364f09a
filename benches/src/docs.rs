//! Tables and charts of the results.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use collimate_report::charts::{Bar, BarChart};

use crate::by_type::{by_type, model};
use crate::control;
use crate::figures::{gigabytes, table};
use crate::result::{EntrantResult, OURS, PEER, WorkResult};
use crate::work::is_control;

/// A part of the page that is written: what stands before and after it.
struct Marks {
    begin: &'static str,
    end: &'static str,
}

const FIGURES: Marks =
    Marks { begin: "<!-- figures: written by cargo xtask bench --write-docs -->\n", end: "<!-- end of figures -->\n" };
const CONTROL: Marks =
    Marks { begin: "<!-- control: written by cargo xtask bench --write-docs -->\n", end: "<!-- end of control -->\n" };

/// Tables of results, as text that is Markdown too; each type of numbers has its own.
pub fn tables(results: &[WorkResult]) -> String {
    let all: Vec<&WorkResult> = results.iter().collect();
    by_type(&all, |name, results| format!("In {name}:\n\n{}", tables_of_type(results)))
}

fn tables_of_type(results: &[&WorkResult]) -> String {
    let (peer, others): (Vec<&WorkResult>, Vec<_>) = results.iter().partition(|result| result.ratios().is_some());
    let mut text = String::new();
    if !peer.is_empty() {
        text.push_str(&ratio_table(&peer));
        text.push('\n');
    }
    let entrants = peer.iter().chain(&others).flat_map(|result| entrant_rows(result)).collect::<Vec<_>>();
    let header = [
        "work",
        "model",
        "by",
        "step s, cold",
        "step s, warm",
        "groups/s",
        "tokens/s",
        "× first",
        "tokens × first",
        "peak memory",
        "on GPU",
        "of peak FLOP/s",
    ];
    text.push_str(&table(&header, &entrants));
    text
}

fn ratio_table(results: &[&WorkResult]) -> String {
    let rows = results.iter().filter_map(|result| {
        let ratios = result.ratios()?;
        let (least, most) = ratios.cold_range;
        Some(vec![
            result.title.clone(),
            model(result),
            format!("{:.2}×", ratios.cold),
            format!("{least:.2} to {most:.2}"),
            format!("{:.2}×", ratios.warm),
            format!("{:.0} %", 100.0 * ratios.memory),
            format!("{}", result.entrants[0].steps.len() - result.num_warmup),
            result.disturbance().map_or("?".to_owned(), |part| format!("{:.0} %", 100.0 * part)),
        ])
    });
    let header =
        ["work", "model", "groups/s, cold", "single steps", "groups/s, warm", "memory", "steps", "others at most"];
    table(&header, &rows.collect::<Vec<_>>())
}

fn entrant_rows(result: &WorkResult) -> Vec<Vec<String>> {
    let Some(first) = result.entrants.first().and_then(|entrant| result.figures.get(&entrant.label)) else {
        return Vec::new();
    };
    let tokens = |index: usize| result.entrants[index].unique_tokens.iter().sum::<usize>() as f64;
    let row = |(index, entrant): (usize, &EntrantResult)| {
        let figures = result.figures.get(&entrant.label)?;
        Some(vec![
            result.title.clone(),
            model(result),
            entrant.label.clone(),
            format!("{:.2}", figures.cold_seconds),
            format!("{:.2}", figures.warm_seconds),
            format!("{:.3}", figures.groups_per_second),
            format!("{:.0}", figures.tokens_per_second),
            format!("{:.2}", figures.cold_seconds / first.cold_seconds),
            format!("{:.2}", tokens(index) / tokens(0)),
            gigabytes(figures.peak_rss_bytes),
            entrant.peak_gpu_bytes.map_or("–".to_owned(), gigabytes),
            result.fraction_of_peak(entrant).map_or("–".to_owned(), |part| format!("{:.0} %", 100.0 * part)),
        ])
    };
    result.entrants.iter().enumerate().filter_map(row).collect()
}

/// Writes tables between the marks of `docs/performance.md`, and charts beside it. A part of the page without new results
/// stays as it is.
///
/// # Errors
/// The page has no marks, or a file cannot be written.
pub fn write(root: &Path, results: &[WorkResult]) -> Result<()> {
    let page = root.join("docs/performance.md");
    let mut text = fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    let images = root.join("docs/img");
    fs::create_dir_all(&images)?;
    let (controls, works): (Vec<&WorkResult>, Vec<&WorkResult>) =
        results.iter().partition(|result| is_control(&result.work));
    for (marks, results) in [(FIGURES, works), (CONTROL, controls)] {
        if results.is_empty() {
            continue;
        }
        let section = match marks.begin == FIGURES.begin {
            true => figures(&results, &images)?,
            false => format!("{}\n{}", control::tables(&results), origins(&results)),
        };
        text = marks.replaced(&text, &section).with_context(|| format!("{} has no marks", page.display()))?;
    }
    fs::write(&page, text).with_context(|| format!("cannot write {}", page.display()))
}

impl Marks {
    /// The page with a new section between the marks.
    fn replaced(&self, page: &str, section: &str) -> Option<String> {
        let begin = page.find(self.begin)? + self.begin.len();
        let end = begin + page[begin..].find(self.end)?;
        Some(format!("{}\n{section}\n{}", &page[..begin], &page[end..]))
    }
}

/// Tables, charts and origins of the works; writes the charts.
fn figures(results: &[&WorkResult], images: &Path) -> Result<String> {
    for result in results {
        let suffix = suffix(result);
        let same: Vec<&WorkResult> = results.iter().copied().filter(|other| self::suffix(other) == suffix).collect();
        fs::write(images.join(format!("performance-speed{suffix}.svg")), speed_chart(&same))?;
        fs::write(images.join(format!("performance-memory{suffix}.svg")), memory_chart(&same))?;
    }
    Ok(by_type(results, |name, results| {
        let suffix = results.first().map(|result| suffix(result)).unwrap_or_default();
        format!(
            "In {name}:\n\n{}\n![Groups a second against PyTorch](img/performance-speed{suffix}.svg)\n\n\
             ![Peak memory](img/performance-memory{suffix}.svg)\n\n{}",
            tables_of_type(results),
            origins(results),
        )
    }))
}

/// What the names of a type's charts end with; nothing for float32.
fn suffix(result: &WorkResult) -> String {
    match (result.dtype.as_str(), result.precision.as_str()) {
        ("float32", "highest") => String::new(),
        ("float32", precision) => format!("-{precision}"),
        (dtype, _) => format!("-{dtype}"),
    }
}

/// Where and with what each result was measured, as a list.
fn origins(results: &[&WorkResult]) -> String {
    let line = |result: &&WorkResult| {
        let machine = &result.machine;
        // PyTorch's entrants have the same.
        let versions = result.entrants.iter().map(|entrant| &entrant.ready.versions).find(|all| !all.is_empty());
        let versions: Vec<String> = versions
            .into_iter()
            .flatten()
            .map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or("?")))
            .collect();
        format!(
            "- {} ({}): commit `{}`, {}{}, {} of {} threads, {} GiB. {}",
            result.work,
            model(result),
            result.commit,
            machine.gpus.first().filter(|_| result.backend != "flex").map(|gpu| format!("{gpu}, ")).unwrap_or_default(),
            machine.cpu,
            result.threads,
            machine.cores,
            machine.memory_gib,
            versions.join(", "),
        )
    };
    results.iter().map(|result| line(result).trim_end().to_owned() + "\n").collect()
}

fn speed_chart(results: &[&WorkResult]) -> String {
    let bars = results.iter().filter_map(|result| {
        let ratio = result.ratios()?;
        let name = format!("{} ({})", result.title, model(result));
        Some([
            bar(OURS, format!("{name}, cold"), ratio.cold, format!("{:.2}×", ratio.cold)),
            bar(OURS, format!("{name}, warm"), ratio.warm, format!("{:.2}×", ratio.warm)),
        ])
    });
    BarChart { title: "Groups a second, PyTorch = 1".to_owned(), bars: bars.flatten().collect() }.svg()
}

fn memory_chart(results: &[&WorkResult]) -> String {
    let bars = results.iter().flat_map(|result| {
        result.entrants.iter().map(|entrant| {
            let gigabytes = entrant.peak_rss_bytes as f64 / 1e9;
            let name = format!("{} ({}), {}", result.title, model(result), entrant.label);
            bar(&entrant.label, name, gigabytes, format!("{gigabytes:.2} GB"))
        })
    });
    BarChart { title: "Peak memory".to_owned(), bars: bars.collect() }.svg()
}

/// A bar, in color if it is ours.
fn bar(of: &str, name: String, value: f64, label: String) -> Bar {
    Bar { name, value, label, highlighted: !of.starts_with(PEER) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::result;

    #[test]
    fn only_what_stands_between_the_marks_changes() {
        let (begin, end) = (FIGURES.begin, FIGURES.end);
        let page = format!("before\n{begin}old\n{end}after\n");
        let once = FIGURES.replaced(&page, "new").expect("marks");
        assert_eq!(once, format!("before\n{begin}\nnew\n{end}after\n"));
        assert_eq!(FIGURES.replaced(&once, "new").expect("marks"), once);
        assert_eq!(FIGURES.replaced("no marks", "new"), None);
    }

    #[test]
    fn a_table_holds_one_type_of_numbers() {
        let bfloat16 = WorkResult { title: "in half".to_owned(), dtype: "bfloat16".to_owned(), ..result() };
        let high = WorkResult { title: "at high".to_owned(), precision: "high".to_owned(), ..result() };
        let text = tables(&[result(), bfloat16, high, result()]);
        let parts: Vec<&str> = text.split("In ").skip(1).collect();
        let heads: Vec<&str> = parts.iter().filter_map(|part| part.lines().next()).collect();
        assert_eq!(heads, ["float32:", "bfloat16:", "float32, products at `high`:"]);
        let rows = |title: &str| parts.iter().map(|part| part.matches(title).count()).collect::<Vec<_>>();
        // A row of ratios and two of entrants.
        assert_eq!(
            (rows("| a work"), rows("| in half"), rows("| at high")),
            (vec![6, 0, 0], vec![0, 3, 0], vec![0, 0, 3])
        );
    }

    #[test]
    fn a_part_of_the_page_without_results_stays() {
        let root = std::env::temp_dir().join(format!("benches-docs-{}", std::process::id()));
        fs::create_dir_all(root.join("docs")).expect("a temporary folder");
        let page = |figures: &str, control: &str| {
            format!("{}{figures}{}and\n{}{control}{}", FIGURES.begin, FIGURES.end, CONTROL.begin, CONTROL.end)
        };
        fs::write(root.join("docs/performance.md"), page("old figures\n", "old control\n")).expect("written");
        let read = || fs::read_to_string(root.join("docs/performance.md")).expect("a page");
        write(&root, &[WorkResult { work: "shared-k2".to_owned(), ..result() }]).expect("written");
        let once = read();
        write(&root, &[result()]).expect("written");
        let twice = read();
        fs::remove_dir_all(&root).expect("a temporary folder");
        assert!(once.contains("old figures") && !once.contains("old control"), "{once}");
        assert!(!twice.contains("old figures") && twice.contains("- shared-k2 (10m)"), "{twice}");
    }
}
