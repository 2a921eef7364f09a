//! The page: templates of prose, filled with numbers, tables and figures.

mod ablation;
mod falling;
mod pictures;
mod reasoning;
mod sensitivity;
mod theory;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use collimate_report::provenance::{Machine, commit};
use serde_json::json;

use crate::Findings;
use crate::options::{Experiment, Options};
use crate::stage::{StageRecord, Stages};

/// A section of the page.
#[derive(Debug)]
struct Section {
    experiment: Experiment,
    text: String,
    /// Figures beside the page, by name.
    figures: Vec<(&'static str, String)>,
}

/// Writes `README.md`, its figures and `results.json`.
///
/// # Errors
/// A file that cannot be written.
pub fn write(options: &Options, found: &Findings, stages: &Stages) -> Result<()> {
    let out = &options.output;
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    // Pictures have a page of their own, since they are of another paper.
    let (of_pictures, used) = stages.used().into_iter().partition(|stage| stage.name.starts_with("pictures"));
    if let Some(found) = &found.pictures {
        write_pictures(options, found, of_pictures)?;
    }
    let sections = sections(options, found)?;
    if sections.is_empty() {
        return Ok(());
    }
    let used: Vec<StageRecord> = used;
    let seconds: f64 = used.iter().map(|stage| stage.seconds).sum();
    let machine = Machine::here();
    let command = command(options);
    let values = provenance(&command, &used, &machine);
    let mut page = fill(include_str!("page/head.md"), &values)?;
    for section in &sections {
        page += &format!("\n## {}\n\n{}", section.experiment.title(), section.text);
        for (name, svg) in &section.figures {
            put(&out.join(name), svg)?;
        }
    }
    page += &fill(include_str!("page/foot.md"), &values)?;
    put(&out.join("README.md"), &page)?;
    let results = json!({
        "command": command,
        "quick": options.quick,
        "commit": commit(&options.root),
        "machine": machine,
        "seconds": seconds,
        "stages": used,
        "findings": found,
    });
    put(&out.join("results.json"), &format!("{results:#}\n"))
}

/// What every page says of its run.
fn provenance(command: &str, used: &[StageRecord], machine: &Machine) -> Vec<(&'static str, String)> {
    let seconds: f64 = used.iter().map(|stage| stage.seconds).sum();
    vec![
        ("command", command.to_owned()),
        ("minutes", format!("{:.0}", seconds / 60.0)),
        ("machine", format!("{} cores of {}, {} GiB", machine.cores, machine.cpu, machine.memory_gib)),
        ("commit", commits(used)),
        ("times", times(used)),
    ]
}

/// Writes `pictures.md`, its figure and `pictures.json`.
fn write_pictures(options: &Options, found: &crate::pictures::Pictures, used: Vec<StageRecord>) -> Result<()> {
    let (out, machine) = (&options.output, Machine::here());
    let quick = if options.quick { " --quick" } else { "" };
    let command = format!("cargo xtask paper{quick} --only pictures");
    let pictures::Page { text, figure } = pictures::page(found, &provenance(&command, &used, &machine))?;
    put(&out.join("pictures.md"), &text)?;
    put(&out.join(pictures::FIGURE), &figure)?;
    let commit = commit(&options.root);
    let results = json!({
        "command": command, "quick": options.quick, "commit": commit, "machine": machine, "stages": used, "findings": found,
    });
    put(&out.join("pictures.json"), &format!("{results:#}\n"))
}

fn sections(options: &Options, found: &Findings) -> Result<Vec<Section>> {
    let size = options.size();
    let mut sections = Vec::new();
    if let Some(found) = &found.theory {
        sections.push(theory::section(found)?);
    }
    if let Some(found) = &found.falling {
        sections.push(falling::section(found, &size.falling)?);
    }
    if let Some(found) = &found.ablation {
        sections.push(ablation::section(found, &size.task)?);
    }
    if let Some(found) = &found.reasoning {
        sections.push(reasoning::section(found, &size.task)?);
    }
    if let Some(found) = &found.sensitivity {
        sections.push(sensitivity::section(found)?);
    }
    Ok(sections)
}

/// The command, as a reader would type it.
fn command(options: &Options) -> String {
    let mut command = "cargo xtask paper".to_owned();
    if options.quick {
        command += " --quick";
    }
    if !options.only.is_empty() {
        let experiments = options.experiments();
        let names: Vec<String> = experiments.iter().map(|e| format!("{e:?}").to_lowercase()).collect();
        command += &format!(" --only {}", names.join(","));
    }
    command
}

/// The commits that ran the stages.
fn commits(used: &[StageRecord]) -> String {
    let mut all: Vec<&str> = used.iter().map(|stage| stage.commit.as_str()).collect();
    all.sort_unstable();
    all.dedup();
    all.join(", ")
}

/// A table of stages and seconds by experiment.
fn times(used: &[StageRecord]) -> String {
    let mut rows: Vec<(String, usize, f64)> = Vec::new();
    for stage in used {
        let name = stage.name.split(':').next().unwrap_or(&stage.name);
        match rows.iter_mut().find(|row| row.0 == name) {
            Some(row) => (row.1, row.2) = (row.1 + 1, row.2 + stage.seconds),
            None => rows.push((name.to_owned(), 1, stage.seconds)),
        }
    }
    let rows = rows.into_iter().map(|(name, count, seconds)| vec![name, count.to_string(), format!("{seconds:.0} s")]);
    table(&["stages", "number", "time"], rows)
}

/// A template with its `{{names}}` replaced.
///
/// # Errors
/// A name without a value: a mistake in the template.
fn fill(template: &str, values: &[(&str, String)]) -> Result<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, after)) = after.split_once("}}") else { bail!("a template has {{{{ without }}}}") };
        let Some((_, value)) = values.iter().find(|(known, _)| *known == name) else {
            bail!("a template names {name}, which has no value");
        };
        text += before;
        text += value;
        rest = after;
    }
    Ok(text + rest)
}

/// A table of Markdown.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let marks = vec!["---".to_owned(); head.len()];
    let mut text = line(&head) + &line(&marks);
    rows.into_iter().for_each(|row| text += &line(&row));
    text
}

/// A figure small enough to be rounding: `3e-16`.
fn tiny(value: f64) -> String {
    format!("{value:.0e}").replace('-', "−")
}

/// A number with some decimals and a true minus sign.
fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    // A zero has no sign.
    let text = if text.trim_start_matches(['-', '0', '.']).is_empty() { text.replace('-', "") } else { text };
    text.replace('-', "−")
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_gets_its_values_and_says_what_is_missing() {
        let values = [("a", "1".to_owned()), ("b", "2".to_owned())];
        assert_eq!(fill("{{b}} and {{a}}{{a}}.", &values).expect("filled"), "2 and 11.");
        assert_eq!(fill("{{c}}", &values).expect_err("no c").to_string(), "a template names c, which has no value");
    }

    #[test]
    fn the_page_of_a_quick_theory_names_no_figure_that_is_not_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = Options {
            only: vec![Experiment::Theory],
            data: None,
            quick: true,
            output: folder.path().join("page"),
            work: folder.path().join("work"),
            root: folder.path().to_owned(),
        };
        crate::run(&options).expect("a page");
        let page = fs::read_to_string(options.output.join("README.md")).expect("a page");
        assert!(page.contains("cargo xtask paper --quick --only theory"), "{page}");
        let figures: Vec<&str> =
            page.split("](").skip(1).filter_map(|rest| rest.split_once(".svg)")).map(|x| x.0).collect();
        assert!(figures.len() >= 4, "{figures:?}");
        for name in figures {
            assert!(options.output.join(format!("{name}.svg")).is_file(), "{name}");
        }
        let results = fs::read_to_string(options.output.join("results.json")).expect("results");
        let results: serde_json::Value = serde_json::from_str(&results).expect("JSON");
        assert!(results["findings"]["theory"]["responses"]["dpo_loss_difference"].as_f64().expect("a number") < 1e-12);
    }
}
