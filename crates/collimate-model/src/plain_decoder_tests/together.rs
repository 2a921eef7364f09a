//! Packs that go through the model together, block by block, and one by one.

use super::*;
use crate::kept_inputs::tests::Bytes;
use crate::{DropoutKey, InputKey, InputPlace, InputStore, StoreError};

/// How packs go through the model.
#[derive(Debug, Clone, Copy)]
enum Way {
    OneByOne,
    Together(fn() -> InputPlace),
}

const TOGETHER: Way = Way::Together(|| InputPlace::Device);
const ON_HOST: Way = Way::Together(|| InputPlace::Host);
const IN_STORE: Way = Way::Together(|| InputPlace::Store(Box::<Bytes>::default()));

/// Log-probs and gradients of three packs; the second divides a group.
fn passes(model: &mut CausalLm<Flex>, options: ForwardOptions, way: Way) -> (Vec<f64>, Vec<(String, Vec<f32>)>) {
    const WEIGHT: f64 = 0.75;
    let groups = [group(0, 9, &[4, 11, 1]), group(1, 3, &[2, 2])];
    let packs = [
        GroupBatch::parts([(&groups[0], 0..2)], true),
        GroupBatch::parts([(&groups[0], 2..3), (&groups[1], 0..1)], true),
        GroupBatch::parts([(&groups[1], 1..2)], true),
    ];
    let coefficients = [vec![vec![0.5, -1.0]], vec![vec![0.25], vec![-0.75]], vec![vec![2.0]]];
    let mut logps = Vec::new();
    if let Way::Together(inputs) = way {
        let (found, mut tape) = model.forward_all(&packs, options, inputs()).expect("a forward pass");
        if let Some(load) = tape.router_load() {
            tape.balance(&load, WEIGHT);
        }
        logps.extend(found.into_iter().flatten());
        model.backward_all(tape, &coefficients).expect("a backward pass");
    } else {
        let loads = packs.iter().filter_map(|pack| model.score_with_load(pack, true, None).expect("scores").1);
        let load = loads.reduce(|mut sum, load| {
            sum.add(&load);
            sum
        });
        for (pack, coefficients) in packs.iter().zip(&coefficients) {
            let (found, mut tape) = model.forward(pack, options).expect("a forward pass");
            if let Some(load) = &load {
                tape.balance(load, WEIGHT);
            }
            logps.extend(found);
            model.backward(tape, coefficients).expect("a backward pass");
        }
    }
    let names: Vec<_> = model.trainable().into_iter().map(|id| (id, model.parameters()[id].name.clone())).collect();
    let gradients = names.into_iter().map(|(id, name)| (name, floats(model.take_gradient(id).expect("a gradient"))));
    (logps.into_iter().flatten().flatten().collect(), gradients.collect())
}

#[rstest]
fn the_bits_are_those_of_packs_one_by_one(
    #[values(
        "llama",
        "mistral",
        "qwen3",
        "phi3",
        "olmo2",
        "gemma2",
        "mixtral",
        "mixtral.shared",
        "mixtral.scaled",
        "glm4_moe",
        "gpt_oss",
        "qwen3_5_text"
    )]
    architecture: &str,
    #[values(false, true)] lora: bool,
    #[values(0, 2, usize::MAX)] kept_blocks: usize,
) {
    let options = ForwardOptions { kept_blocks, dropout: None };
    let (one_by_one, together) = (
        passes(&mut model(architecture, lora), options, Way::OneByOne),
        passes(&mut model(architecture, lora), options, TOGETHER),
    );
    for way in [ON_HOST, IN_STORE] {
        assert!(passes(&mut model(architecture, lora), options, way) == together, "{way:?}");
    }
    assert_eq!(one_by_one.0, together.0);
    let shares_embedding = model(architecture, lora).memory_costs().shares_embedding;
    assert_eq!(shares_embedding, !lora && architecture != "mistral");
    for ((name, one), (_, other)) in one_by_one.1.iter().zip(&together.1) {
        if shares_embedding && name == "model.embed_tokens.weight" {
            let size = one.iter().fold(0.0_f32, |size, x| size.max(x.abs()));
            assert!(one.iter().zip(other).all(|(a, b)| (a - b).abs() <= 1e-6 * size), "{name}");
        } else {
            assert_eq!(one, other, "{name}");
        }
    }
}

#[test]
fn each_pack_has_its_own_dropout() {
    let lora = LoraConfig { dropout: 0.3, ..LoraConfig::new(3, 6.0, LoraTargets::AllLinear) };
    let options = ForwardOptions { kept_blocks: 1, dropout: Some(DropoutKey { seed: 3, step: 1 }) };
    let found = [Way::OneByOne, TOGETHER, IN_STORE]
        .map(|way| passes(&mut adapted(config("llama"), Some(lora.clone())), options, way));
    assert!(found[0] == found[1] && found[0] == found[2]);
    let without =
        passes(&mut adapted(config("llama"), Some(lora)), ForwardOptions { dropout: None, ..options }, TOGETHER);
    assert!(without.0 != found[1].0, "dropout changes nothing");
}

/// A store that fails at the so manieth call.
struct Failing(usize);

impl Failing {
    fn call(&mut self) -> Result<(), StoreError> {
        self.0 = self.0.checked_sub(1).ok_or("no room at /there")?;
        Ok(())
    }
}

impl InputStore for Failing {
    fn put(&mut self, _: InputKey, _: &[u8]) -> Result<(), StoreError> {
        self.call()
    }

    fn take(&mut self, _: InputKey, _: &mut [u8]) -> Result<(), StoreError> {
        self.call()
    }
}

/// Two packs have six inputs of blocks, which are put and taken.
#[rstest]
#[case(0)]
#[case(5)]
#[case(6)]
#[case(11)]
fn an_error_of_the_store_comes_out_and_the_model_works_on(#[case] good: usize) {
    let group = group(0, 9, &[4, 11]);
    let packs = [0..1, 1..2].map(|responses| GroupBatch::parts([(&group, responses)], true));
    let options = ForwardOptions { kept_blocks: 0, dropout: None };
    let mut model = model("llama", true);
    let expected = passes(&mut model, options, TOGETHER);
    let inputs = InputPlace::Store(Box::new(Failing(good)));
    let tape = model.forward_all(&packs, options, inputs).map(|(_, tape)| tape);
    assert_eq!(tape.is_ok(), good >= 6);
    let done = tape.and_then(|tape| model.backward_all(tape, &[vec![vec![1.0]], vec![vec![-1.0]]]));
    assert_eq!(done.expect_err("a failure").to_string(), "no room at /there");
    for id in model.trainable() {
        model.take_gradient(id);
    }
    assert!(passes(&mut model, options, TOGETHER) == expected);
}
