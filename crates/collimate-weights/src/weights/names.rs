//! The names of tensors in files that other programs wrote.

use std::collections::BTreeSet;
use std::path::Path;

use collimate_hf::Wrapper;

/// Parts of names that wrappers of modules leave.
const WRAPPERS: [&str; 4] = ["_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_forward_module."];
/// Prefixes of whole models, the last two beside a value head.
const PREFIXES: [&str; 4] = ["module.", "base_model.model.", "pretrained_model.", "policy."];
/// The decoder's own parts, which some files have without `model.`.
const DECODER: [&str; 3] = ["embed_tokens", "layers", "norm"];
/// Heads that may stand where the decoder is.
const HEADS: [&str; 5] = ["score", "v_head", "value_head", "reward_head", "classifier"];
/// Most names in a note.
const NAMES_SHOWN: usize = 6;

/// The names that transformers saves tensors under, in the same order as the sorted `names`; `None` if they are these already.
pub(super) fn plain_names(names: &[&str]) -> Option<Vec<String>> {
    let is_there = |name: &str| names.binary_search(&name).is_ok();
    let is_plain = |name: &&str| {
        !WRAPPERS.iter().any(|part| name.contains(part)) && !PREFIXES.iter().any(|part| name.starts_with(part))
    };
    let is_bare = |name: &str| DECODER.contains(&part(name));
    let is_nested = |name: &&str| Wrapper::plain_name(name).is_some();
    let is_known = |name: &&str| is_plain(name) && !is_bare(name) && !is_nested(name);
    if names.iter().all(is_known) && !is_there("model.model.embed_tokens.weight") {
        return None;
    }
    let plain = |name: &&str| {
        let name = without_wrappers(name);
        Wrapper::plain_name(&name).unwrap_or(name)
    };
    let mut renamed: Vec<String> = names.iter().map(plain).collect();
    let is_inner = |name: &String| name == "model.model.embed_tokens.weight";
    if renamed.iter().any(is_inner) {
        for name in &mut renamed {
            if let Some(rest) = name.strip_prefix("model.") {
                *name = rest.to_owned();
            }
        }
    }
    for name in &mut renamed {
        if is_bare(name) {
            name.insert_str(0, "model.");
        }
    }
    let changed = renamed.iter().zip(names).any(|(new, old)| new != old);
    changed.then_some(renamed)
}

fn without_wrappers(name: &str) -> String {
    let mut name = WRAPPERS.iter().fold(name.to_owned(), |name, wrapper| name.replace(wrapper, ""));
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
        name = rest.to_owned();
    }
    name
}

/// The parts of a model, by the first words of its tensors' names: of `model.norm.weight` it is `model`.
pub(super) fn parts<'a>(names: &BTreeSet<&'a str>) -> BTreeSet<&'a str> {
    names.iter().map(|name| part(name)).collect()
}

fn part(name: &str) -> &str {
    name.split('.').next().unwrap_or_default()
}

/// Whether a tensor that the model does not have changes nothing about it: the output layer of a tied model, a head
/// beside the decoder, a buffer. `parts` are those of the model.
pub(super) fn is_passed_over(name: &str, parts: &BTreeSet<&str>) -> bool {
    if name == "lm_head.weight" {
        return true;
    }
    let is_beside = !parts.contains(part(name)) && part(name) != "lm_head" && name.contains('.');
    let buffers = [".masked_bias", ".attn.bias", ".self_attn.bias", ".attention.bias", ".position_ids"];
    let is_head = name.split('.').nth(1).is_some_and(|second| HEADS.contains(&second));
    let is_table = ["freqs_cis", "lvl_1L", "attn_bias_for_masking"].contains(&name) || name.ends_with(".zero_k_bias");
    is_table
        || is_beside
        || is_head
        || name.contains(".rotary_emb.")
        || buffers.iter().any(|ending| name.ends_with(ending))
}

/// A note on what was passed over, except for what so many files hold that it says nothing.
pub(super) fn passed_over_note(path: &Path, names: &[&str]) -> Option<String> {
    let usual = |name: &str| name == "lm_head.weight" || name.ends_with(".rotary_emb.inv_freq");
    let unusual: Vec<&str> = names.iter().copied().filter(|name| !usual(name)).collect();
    let shown: Vec<String> = unusual.iter().take(NAMES_SHOWN).map(|name| name.chars().take(80).collect()).collect();
    let more = match unusual.len().saturating_sub(NAMES_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let (path, shown) = (path.display(), shown.join(", "));
    (!unusual.is_empty()).then(|| format!("{path}: passed over, for the model does not compute with it: {shown}{more}"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const PLAIN: [&str; 4] =
        ["lm_head.weight", "model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "model.norm.weight"];

    #[rstest]
    #[case(&["embed_tokens.weight", "layers.0.mlp.up_proj.weight", "lm_head.weight", "norm.weight"])]
    #[case(&["module.lm_head.weight", "module.model.embed_tokens.weight", "module.model.layers.0.mlp.up_proj.weight", "module.model.norm.weight"])]
    #[case(&["_orig_mod.lm_head.weight", "_orig_mod.model.embed_tokens.weight", "_orig_mod.model.layers.0._orig_mod.mlp.up_proj.weight", "_orig_mod.model.norm.weight"])]
    #[case(&["base_model.model.lm_head.weight", "base_model.model.model.embed_tokens.weight", "base_model.model.model.layers.0.mlp.up_proj.weight", "base_model.model.model.norm.weight"])]
    #[case(&["model.lm_head.weight", "model.model.embed_tokens.weight", "model.model.layers.0.mlp.up_proj.weight", "model.model.norm.weight"])]
    #[case(&["pretrained_model.lm_head.weight", "pretrained_model.model.embed_tokens.weight", "pretrained_model.model.layers.0.mlp.up_proj.weight", "pretrained_model.model.norm.weight"])]
    #[case(&["policy.lm_head.weight", "policy.model.embed_tokens.weight", "policy.model.layers.0.mlp.up_proj.weight", "policy.model.norm.weight"])]
    #[case(&["layers.0.mlp.up_proj.weight", "lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"])]
    fn prefixes_are_put_right(#[case] names: &[&str]) {
        let mut plain = plain_names(names).expect("other names");
        plain.sort();
        assert_eq!(plain, PLAIN);
    }

    /// A wrapper's prefix goes from a head as well; two sets of weights would become one name each, which is an error.
    #[rstest]
    #[case(&["model.model.embed_tokens.weight", "model.score.weight", "v_head.bias"], &["model.embed_tokens.weight", "score.weight", "v_head.bias"])]
    #[case(&["pretrained_model.model.norm.weight", "v_head.summary.weight"], &["model.norm.weight", "v_head.summary.weight"])]
    #[case(&["embed_tokens.weight", "model.embed_tokens.weight"], &["model.embed_tokens.weight", "model.embed_tokens.weight"])]
    fn heads_lose_the_prefix_of_their_model(#[case] names: &[&str], #[case] expected: &[&str]) {
        assert_eq!(plain_names(names).expect("other names"), expected);
    }

    #[test]
    fn plain_names_stay() {
        assert_eq!(plain_names(&PLAIN), None);
    }

    #[rstest]
    #[case("v_head.summary.weight", true)]
    #[case("score.weight", true)]
    #[case("model.layers.0.self_attn.masked_bias", true)]
    #[case("model.layers.0.self_attn.rotary_emb.cos_cached", true)]
    #[case("lm_head.weight", true)]
    #[case("model.score.weight", true)]
    #[case("model.v_head.summary.bias", true)]
    #[case("model.embed_positions.weight", false)]
    #[case("lm_head.bias", false)]
    #[case("model.layers.0.self_attn.q_proj.bias", false)]
    #[case("model.layers.0.self_attn.q_proj.lora_A.weight", false)]
    fn only_what_the_model_does_not_compute_with_is_passed_over(#[case] name: &str, #[case] expected: bool) {
        let known = BTreeSet::from(["model.embed_tokens.weight", "model.norm.weight"]);
        assert_eq!(is_passed_over(name, &parts(&known)), expected);
    }

    #[test]
    fn the_note_names_what_was_passed_over() {
        let note = passed_over_note(Path::new("m"), &["lm_head.weight", "score.weight", "v_head.bias"]);
        assert_eq!(
            note.as_deref(),
            Some("m: passed over, for the model does not compute with it: score.weight, v_head.bias")
        );
        assert_eq!(passed_over_note(Path::new("m"), &["model.rotary_emb.inv_freq"]), None);
    }
}
