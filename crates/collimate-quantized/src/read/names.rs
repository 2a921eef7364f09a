//! Which tensors belong to a packed weight.

/// What follows the name of a weight, `X.weight`, in the names of tensors that belong to it.
const AFTER_WEIGHT: [&str; 6] = [
    ".absmax",
    ".quant_map",
    ".nested_absmax",
    ".nested_quant_map",
    ".quant_state.bitsandbytes__nf4",
    ".quant_state.bitsandbytes__fp4",
];
/// What follows the name of its module, `X`.
const AFTER_MODULE: [&str; 8] =
    [".SCB", ".weight_format", ".weight_scale_inv", ".activation_scale", ".qweight", ".qzeros", ".scales", ".g_idx"];
/// What follows the name of the experts' weights, `X`.
const AFTER_EXPERTS: [&str; 2] = ["_blocks", "_scales"];

/// Names of all tensors that may belong to a weight in one format or another, without the weight's own.
pub fn sidecar_names(weight: &str) -> Vec<String> {
    let module = weight.strip_suffix(".weight").unwrap_or(weight);
    let of = |base: &str, suffixes: &[&str]| -> Vec<String> {
        suffixes.iter().map(|suffix| format!("{base}{suffix}")).collect()
    };
    [of(weight, &AFTER_WEIGHT), of(module, &AFTER_MODULE), of(weight, &AFTER_EXPERTS)].concat()
}

/// The weight that a tensor belongs to by its name alone: `X.weight` for `X.weight.absmax`, `X.SCB` or `X.qweight`, and `X` for
/// `X_blocks` and `X_scales`. A name that another tensor might have too says nothing of what the tensor is.
pub fn owner_of_sidecar(name: &str) -> Option<String> {
    let weight =
        AFTER_WEIGHT.iter().filter_map(|suffix| name.strip_suffix(suffix)).find(|base| base.ends_with(".weight"));
    let module = AFTER_MODULE.iter().find_map(|suffix| name.strip_suffix(suffix));
    let experts = AFTER_EXPERTS.iter().find_map(|suffix| name.strip_suffix(suffix));
    weight.or(experts).map(str::to_owned).or_else(|| module.map(|module| format!("{module}.weight")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("h.0.q.weight.absmax", Some("h.0.q.weight"))]
    #[case("h.0.q.weight.quant_state.bitsandbytes__nf4", Some("h.0.q.weight"))]
    #[case("h.0.q.SCB", Some("h.0.q.weight"))]
    #[case("h.0.q.weight_format", Some("h.0.q.weight"))]
    #[case("h.0.q.weight_scale_inv", Some("h.0.q.weight"))]
    #[case("h.0.q.activation_scale", Some("h.0.q.weight"))]
    #[case("h.0.q.qweight", Some("h.0.q.weight"))]
    #[case("h.0.mlp.experts.down_proj_blocks", Some("h.0.mlp.experts.down_proj"))]
    #[case("h.0.q.weight", None)]
    #[case("h.0.q.bias", None)]
    #[case("absmax", None)]
    fn a_sidecar_names_its_weight(#[case] name: &str, #[case] owner: Option<&str>) {
        assert_eq!(owner_of_sidecar(name).as_deref(), owner);
        if let Some(owner) = owner {
            assert!(sidecar_names(owner).iter().any(|sidecar| sidecar == name), "{name} of {owner}");
        }
    }
}
