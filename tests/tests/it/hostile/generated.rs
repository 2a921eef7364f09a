//! Inputs generated from the corpora by the mutations of long runs, and inputs generated from grammars.

use collimate_hostile::{Answer, Mutator, Target};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rstest::rstest;

use super::{corpus, try_all};

/// Inputs per parser: a few seconds in all in the dev profile.
const MUTATED: usize = 1500;

#[rstest]
fn mutated_inputs_are_answered(#[values(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)] target: usize) {
    let target = Target::ALL[target];
    let corpus = corpus(target);
    let mut mutator = Mutator::new(&corpus, 0x00c0_111a);
    // Rendering may take a fraction of a second, and for many inputs does.
    let count = if target == Target::ChatTemplate { MUTATED / 5 } else { MUTATED };
    let inputs: Vec<_> = (0..count).map(|number| (format!("number {number}"), mutator.next_input())).collect();
    let answers = try_all(target, inputs.into_iter());
    let refused = answers.iter().filter(|(_, answer)| matches!(answer, Answer::Refused(_))).count();
    assert!(refused > count / 4, "{target}: mutation hardly changes anything, {refused} of {count} are refused");
}

/// Values of a strategy, the same in every run.
fn generated<S: Strategy>(strategy: S, count: usize) -> Vec<S::Value> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..count).map(|_| strategy.new_tree(&mut runner).expect("a value").current()).collect()
}

/// Arbitrary bytes.
#[rstest]
fn random_bytes_are_answered(#[values(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)] target: usize) {
    let inputs = generated(prop::collection::vec(any::<u8>(), 0..200), 300);
    let inputs = inputs.into_iter().enumerate().map(|(number, input)| (format!("random {number}"), input));
    try_all(Target::ALL[target], inputs);
}

/// Arbitrary JSON, with extreme numbers and names that the parsers know.
fn json(names: &'static [&'static str]) -> impl Strategy<Value = serde_json::Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(serde_json::Value::from),
        any::<u64>().prop_map(serde_json::Value::from),
        any::<f64>().prop_map(serde_json::Value::from),
        Just(serde_json::Value::from(0)),
    ];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        number,
        prop::sample::select(names).prop_map(serde_json::Value::from),
        ".{0,8}".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(5, 40, 8, move |inner| {
        let name = prop_oneof![4 => prop::sample::select(names).prop_map(str::to_owned), 1 => ".{0,4}"];
        let object = prop::collection::vec((name, inner.clone()), 0..8);
        prop_oneof![
            prop::collection::vec(inner, 0..8).prop_map(serde_json::Value::from),
            object.prop_map(|fields| fields.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

#[rstest]
#[case(Target::Jsonl, &["prompt", "responses", "content", "reward", "chosen", "rejected", "A0", "score_A0", "answers", "answer", "rank", "completions", "instruction", "role", "assistant"])]
#[case(Target::WeightIndex, &["weight_map", "a", "b", "model-00001-of-00002.safetensors", "../x.safetensors"])]
#[case(Target::Config, &["model_type", "llama", "qwen3", "hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim", "rope_scaling", "rope_type", "yarn", "factor", "layer_types"])]
#[case(Target::Tokenizer, &["model", "type", "BPE", "Unigram", "vocab", "merges", "normalizer", "Sequence", "normalizers", "Replace", "pattern", "content", "added_tokens", "id"])]
#[case(Target::Adapter, &["peft_type", "LORA", "r", "lora_alpha", "target_modules", "all-linear", "q_proj"])]
#[case(Target::Metrics, &["step", "epoch", "loss", "rewards/rank_0", "global_step", "max_steps"])]
#[case(Target::ObjectiveRows, &["objective", "dpo", "nca", "params", "beta", "policy_logps", "reference_logps", "rewards", "lengths"])]
fn json_of_any_shape_is_answered(#[case] target: Target, #[case] names: &'static [&'static str]) {
    let inputs = generated(json(names), 400).into_iter().map(|value| value.to_string().into_bytes());
    try_all(
        target,
        inputs.enumerate().map(|(number, input)| (format!("JSON {number}"), input)).collect::<Vec<_>>().into_iter(),
    );
}

/// Templates that apply random operations to a variable repeatedly.
#[test]
fn templates_that_grow_a_value_any_way_end() {
    let step = prop::sample::select(
        &[
            "ns.x ~ ns.x",
            "ns.x + ns.x",
            "ns.x * 3",
            "[ns.x, ns.x]",
            "{'a': ns.x}",
            "ns.x | string",
            "ns.x | list",
            "ns.x | tojson",
            "ns.x | join(ns.x | string)",
            "(ns.x | string) | replace('a', ns.x | string)",
            "ns.x[::-1]",
            "ns.x | map('string') | list",
            "'%s%s' | format(ns.x, ns.x)",
            "'{0}{0}'.format(ns.x)",
            "ns.x | batch(3, ns.x)",
            "dict(a=ns.x)",
            "ns.x | dictsort",
            "(ns.x | string).split('a')",
            "ns.x | unique | list",
            "[ns.x] * 9",
        ][..],
    );
    let strategy = (prop::collection::vec(step, 1..4), 1_usize..5000).prop_map(|(steps, times)| {
        let sets: String = steps.iter().map(|step| format!("{{% set ns.x = {step} %}}")).collect();
        format!("{{% set ns = namespace(x='ab') %}}{{% for i in range({times}) %}}{sets}{{% endfor %}}{{{{ ns.x }}}}")
    });
    let inputs = generated(strategy, 60).into_iter().map(|template| (template.clone(), template.into_bytes()));
    try_all(Target::ChatTemplate, inputs.collect::<Vec<_>>().into_iter());
}
