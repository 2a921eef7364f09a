//! Tables and charts of the results.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use collimate_report::charts::{Bar, BarChart};

use crate::figures::{gigabytes, table};
use crate::result::{EntrantResult, PEER, WorkResult};

const BEGIN: &str = "<!-- figures: written by cargo xtask bench --write-docs -->\n";
const END: &str = "<!-- end of figures -->\n";

/// Tables of results, as text that is Markdown too.
pub fn tables(results: &[WorkResult]) -> String {
    let (peer, others): (Vec<_>, Vec<_>) = results.iter().partition(|result| result.ratios().is_some());
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

/// The shape, and backend and dtype unless they are the defaults.
fn model(result: &WorkResult) -> String {
    match (result.backend.as_str(), result.dtype.as_str()) {
        ("flex", "float32") => result.shape.clone(),
        (backend, dtype) => format!("{}, {backend}, {dtype}", result.shape),
    }
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

/// Writes tables between the marks of `docs/performance.md`, and charts beside it.
///
/// # Errors
/// The page has no marks, or a file cannot be written.
pub fn write(root: &Path, results: &[WorkResult]) -> Result<()> {
    let page = root.join("docs/performance.md");
    let text = fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    let text = replaced(&text, &section(results)).with_context(|| format!("{} has no marks", page.display()))?;
    let images = root.join("docs/img");
    fs::create_dir_all(&images)?;
    fs::write(images.join("performance-speed.svg"), speed_chart(results))?;
    fs::write(images.join("performance-memory.svg"), memory_chart(results))?;
    fs::write(&page, text).with_context(|| format!("cannot write {}", page.display()))
}

/// The page with a new section between its marks.
fn replaced(page: &str, section: &str) -> Option<String> {
    let begin = page.find(BEGIN)? + BEGIN.len();
    let end = begin + page[begin..].find(END)?;
    Some(format!("{}\n{section}\n{}", &page[..begin], &page[end..]))
}

fn section(results: &[WorkResult]) -> String {
    let mut text = tables(results);
    text.push_str(
        "\n![Groups a second against PyTorch](img/performance-speed.svg)\n\n\
         ![Peak memory](img/performance-memory.svg)\n\n",
    );
    for result in results {
        let machine = &result.machine;
        let versions: Vec<String> = result
            .entrants
            .iter()
            .flat_map(|entrant| &entrant.ready.versions)
            .map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or("?")))
            .collect();
        text.push_str(&format!(
            "- {} ({}): commit `{}`, {}{}, {} of {} threads, {} GiB. {}\n",
            result.work,
            model(result),
            result.commit,
            machine.gpus.first().filter(|_| result.backend != "flex").map(|gpu| format!("{gpu}, ")).unwrap_or_default(),
            machine.cpu,
            result.threads,
            machine.cores,
            machine.memory_gib,
            versions.join(", "),
        ));
    }
    text
}

fn speed_chart(results: &[WorkResult]) -> String {
    let bars = results.iter().filter_map(|result| {
        let ratio = result.ratios()?;
        let name = format!("{} ({})", result.title, model(result));
        Some([
            bar(format!("{name}, cold"), ratio.cold, format!("{:.2}×", ratio.cold)),
            bar(format!("{name}, warm"), ratio.warm, format!("{:.2}×", ratio.warm)),
        ])
    });
    BarChart { title: "Groups a second, PyTorch = 1".to_owned(), bars: bars.flatten().collect() }.svg()
}

fn memory_chart(results: &[WorkResult]) -> String {
    let bars = results.iter().flat_map(|result| {
        result.entrants.iter().map(|entrant| {
            let gigabytes = entrant.peak_rss_bytes as f64 / 1e9;
            let name = format!("{} ({}), {}", result.title, model(result), entrant.label);
            bar(name, gigabytes, format!("{gigabytes:.2} GB"))
        })
    });
    BarChart { title: "Peak memory".to_owned(), bars: bars.collect() }.svg()
}

/// A bar, in color if it is ours.
fn bar(name: String, value: f64, label: String) -> Bar {
    let highlighted = !name.ends_with(PEER);
    Bar { name, value, label, highlighted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_changes() {
        let page = format!("before\n{BEGIN}old\n{END}after\n");
        let once = replaced(&page, "new").expect("marks");
        assert_eq!(once, format!("before\n{BEGIN}\nnew\n{END}after\n"));
        assert_eq!(replaced(&once, "new").expect("marks"), once);
        assert_eq!(replaced("no marks", "new"), None);
    }
}
