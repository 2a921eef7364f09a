//! The families of models, one file each.
//!
//! A family is everything that distinguishes one architecture from another, written as its difference from an earlier one.
//! To add one, write its file and add its two lines below: the module, and the entry in the list.

mod gemma2;
mod gemma3_text;
mod glm4_moe;
mod gpt_oss;
mod granite;
mod llama;
mod llamagen;
mod ministral3;
mod mistral;
mod mixtral;
mod olmo2;
mod olmo3;
mod phi3;
mod qwen2;
mod qwen2_vl_text;
mod qwen3;
mod qwen3_5_moe_text;
mod qwen3_5_text;
mod qwen3_moe;
mod smollm3;
mod var;

use crate::config::Family;

/// Every known family, in the order in which messages and documentation list them.
pub static FAMILIES: &[&Family] = &[
    &llama::FAMILY,
    &mistral::FAMILY,
    &mixtral::FAMILY,
    &ministral3::FAMILY,
    &qwen2::FAMILY,
    &qwen3::FAMILY,
    &qwen3_moe::FAMILY,
    &gemma2::FAMILY,
    &gemma3_text::FAMILY,
    &phi3::FAMILY,
    &olmo2::FAMILY,
    &olmo3::FAMILY,
    &smollm3::FAMILY,
    &granite::FAMILY,
    &glm4_moe::FAMILY,
    &gpt_oss::FAMILY,
    &llamagen::FAMILY,
    &var::FAMILY,
    &qwen3_5_text::FAMILY,
    &qwen3_5_moe_text::FAMILY,
    &qwen2_vl_text::FAMILY,
    &qwen2_vl_text::SECOND,
];

impl Family {
    /// The family of a `model_type`, if known.
    pub fn from_model_type(model_type: &str) -> Option<&'static Self> {
        FAMILIES.iter().copied().find(|family| family.model_type == model_type)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    fn table() -> String {
        let row = |family: &&Family| {
            let gguf = family.gguf.map_or_else(String::new, |gguf| format!("`{}`", gguf.architecture));
            format!("| `{}` | {} | {gguf} |\n", family.model_type, family.summary)
        };
        let head = "| `model_type` | what it is | llama.cpp |\n|---|---|---|\n";
        head.to_owned() + &FAMILIES.iter().map(row).collect::<String>()
    }

    #[test]
    fn the_docs_list_every_family() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/models.md");
        let text = fs::read_to_string(path).expect("docs/models.md is there");
        let (start, end) = ("<!-- families: start -->\n", "<!-- families: end -->");
        let (before, rest) = text.split_once(start).expect("a start mark");
        let (found, after) = rest.split_once(end).expect("an end mark");
        if std::env::var_os("COLLIMATE_WRITE_DOCS").is_some() {
            fs::write(path, format!("{before}{start}{}{end}{after}", table())).expect("docs/models.md is written");
        } else {
            assert_eq!(found, table(), "run this test with COLLIMATE_WRITE_DOCS=1 and commit docs/models.md");
        }
    }

    #[test]
    fn each_model_type_is_listed_once() {
        let names: BTreeSet<_> = FAMILIES.iter().map(|family| family.model_type).collect();
        assert_eq!(names.len(), FAMILIES.len());
        assert!(FAMILIES.iter().all(|family| Family::from_model_type(family.model_type) == Some(*family)));
    }
}
