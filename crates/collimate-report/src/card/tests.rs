use std::path::PathBuf;

use rstest::rstest;
use serde_json::json;

use super::*;
use crate::metrics::MetricsRow;
use crate::verdict::RunFacts;

fn recipe(use_peft: bool) -> Recipe {
    Recipe {
        model_name_or_path: Some(PathBuf::from("/secret/place/tiny: base")),
        data: Some(PathBuf::from("/secret/place/rewards.jsonl").into()),
        eval_data: Some(PathBuf::from("/secret/place/held-out.jsonl").into()),
        output_dir: PathBuf::from("/secret/place/aligned"),
        use_peft,
        ..Recipe::default()
    }
}

fn rows() -> Vec<MetricsRow> {
    let row = |figures: &[(&str, f64)]| {
        let mut row = MetricsRow::default();
        figures.iter().for_each(|(name, value)| row.set(name, *value));
        row
    };
    vec![
        row(&[("step", 0.0), ("eval_loss", 1.5), ("eval_rewards/accuracies", 0.5)]),
        row(&[("step", 1.0), ("loss", 1.25), ("grad_norm", 3.0)]),
        row(&[("step", 2.0), ("loss", 1.0), ("grad_norm", 2.0)]),
        row(&[("step", 3.0), ("loss", 0.75), ("grad_norm", 1.0)]),
        row(&[("step", 3.0), ("eval_loss", 0.5), ("eval_rewards/accuracies", 0.875)]),
    ]
}

fn card(recipe: &Recipe, rows: &[MetricsRow]) -> String {
    card_of(recipe, rows, None)
}

fn card_of(recipe: &Recipe, rows: &[MetricsRow], saved: Option<&MetricsRow>) -> String {
    let results = json!({"greedy accuracy": {"before": 0.25, "after": 0.75}});
    render_card(&CardInput {
        recipe,
        base: "tiny: base",
        summary: "Fix each response's likelihood",
        paper: "arXiv 2402.05369 (NCA)",
        base_hash: Some("0123abcd"),
        base_packing: None,
        license: Some("apache-2.0"),
        num_groups: 12,
        num_steps: 3,
        history: &History::from_rows(rows, RunFacts::new("", None)),
        saved,
        results: Some(&results),
    })
}

#[test]
fn the_figures_are_those_of_the_weights_that_are_saved() {
    let mut rows = rows();
    let mut worse = rows[4].prefixed("");
    worse.set("step", 5.0);
    worse.set("eval_loss", 0.75);
    rows.push(worse);
    let (last, best) = (card(&recipe(true), &rows), card_of(&recipe(true), &rows, Some(&rows[4])));
    assert!(last.contains("| eval_loss | 1.5000 | 0.7500 |") && !last.contains("best"), "{last}");
    assert!(best.contains("| eval_loss | 1.5000 | 0.5000 |"), "{best}");
    assert!(best.contains(", the best evaluation after 3 |"), "{best}");
    assert_eq!(metadata(&best)["model-index"][0]["results"][0]["metrics"][0]["value"], 0.5);
}

fn metadata(card: &str) -> serde_yaml_ng::Value {
    serde_yaml_ng::from_str(card.split("---\n").nth(1).expect("metadata")).expect("YAML")
}

#[test]
fn a_card_names_base_data_objective_paper_versions_and_results() {
    let card = card(&recipe(true), &rows());
    for part in [
        "BLAKE3 `0123abcd`",
        "rewards.jsonl, 12 prompts",
        "| Evaluation data | held-out.jsonl |",
        "`nca` (fix each response's likelihood) from explicit rewards.\n",
        "[2402.05369](https://arxiv.org/abs/2402.05369)",
        "title = {Noise Contrastive Alignment of Language Models with Explicit Rewards}",
        concat!("Collimate ", env!("CARGO_PKG_VERSION"), ", burn 0.21.0"),
        "| greedy accuracy | 25.0% | 75.0% |",
        "| loss | 1.2500 | 0.7500 |",
        "| eval_rewards/accuracies | 0.5000 | 0.8750 |",
        "| learning_rate | 5e-6 |",
        "| lora_target_modules | all-linear |",
        "PeftModel.from_pretrained(base, \"aligned\")",
    ] {
        assert!(card.contains(part), "{part} in {card}");
    }
    assert!(!card.contains("secret"), "{card}");
}

#[rstest]
#[case(true, "peft", "adapter")]
#[case(false, "transformers", "finetune")]
fn the_metadata_is_yaml_in_the_keys_of_model_cards(
    #[case] use_peft: bool,
    #[case] library: &str,
    #[case] relation: &str,
) {
    let metadata = metadata(&card(&recipe(use_peft), &rows()));
    assert_eq!(metadata["base_model"], "tiny: base");
    assert_eq!((&metadata["library_name"], &metadata["base_model_relation"]), (&library.into(), &relation.into()));
    assert_eq!((&metadata["pipeline_tag"], &metadata["license"]), (&"text-generation".into(), &"apache-2.0".into()));
    assert_eq!(metadata["datasets"][0], "rewards.jsonl");
    let tags = metadata["tags"].as_sequence().expect("a list");
    assert_eq!((tags.contains(&"nca".into()), tags.contains(&"lora".into())), (true, use_peft));
    let result = &metadata["model-index"][0]["results"][0];
    assert_eq!(result["dataset"]["name"], "held-out.jsonl");
    assert_eq!((&result["metrics"][0]["type"], &result["metrics"][0]["value"]), (&"eval_loss".into(), &0.5.into()));
}

#[test]
fn a_run_without_evaluation_has_no_list_of_results() {
    let card = card(&recipe(false), &rows()[1..4]);
    assert!(metadata(&card).get("model-index").is_none());
    assert!(!card.contains("## Evaluation"), "{card}");
}

#[rstest]
#[case("---\nlicense: mit\ntags: []\n---\n# x", Some("mit"))]
#[case("---\nlanguage: en\nlicense: \"cc-by-nc-4.0\"\n---\n", Some("cc-by-nc-4.0"))]
#[case("---\nlicense: [mit, other]\n---\n", None)]
#[case("---\ntags: []\n---\nlicense: mit\n", None)]
#[case("license: mit\n", None)]
fn the_license_of_the_base_is_taken_from_its_own_card(#[case] card: &str, #[case] expected: Option<&str>) {
    assert_eq!(license_of(card).as_deref(), expected);
}

#[test]
fn papers_without_a_number_are_not_cited() {
    assert_eq!(citation::section("maximum likelihood"), "");
    assert_eq!(citation::linked("none"), "none");
    let two = citation::section("arXiv 2305.10425 (SLiC-HF), 2309.06657 (RSO)");
    assert!(two.matches("@misc").count() == 2 && two.contains("year = {2023}"), "{two}");
}

#[test]
fn the_version_of_burn_is_the_one_that_is_built() {
    let manifest =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml")).expect("a manifest");
    assert!(manifest.contains(&format!("burn = {{ version = \"={BURN_VERSION}\"")), "{BURN_VERSION}");
}
