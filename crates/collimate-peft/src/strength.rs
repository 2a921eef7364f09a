//! An adapter at another strength than the trained one: `s · B A` times a number.

use collimate_hf::HostTensor;

use crate::adapter::Adapter;
use crate::config::LoraConfig;
use crate::names::AdapterPart;

impl LoraConfig {
    /// Why an adapter with these settings has no strength, with the setting to blame: `None` if it is `s · B A` on linear layers
    /// or embeddings and nothing else.
    pub fn no_strength(&self) -> Option<(&'static str, &'static str)> {
        if self.use_dora {
            return Some((
                "use_dora",
                "an adapter with DoRA has no strength: its lengths of rows do not follow its scale",
            ));
        }
        (!self.modules_to_save.is_empty()).then_some((
            "modules_to_save",
            "an adapter with copies of whole tensors has no strength: a copy stands in place of a tensor and adds nothing to it",
        ))
    }
}

impl AdapterPart {
    /// Whether a tensor of this name is a factor B, which an adapter's strength multiplies.
    pub fn is_b(name: &str) -> bool {
        matches!(Self::parse(name), Some((_, Self::B | Self::EmbeddingB)))
    }
}

impl Adapter {
    /// The adapter with its factors B times `strength`, which computes what that many times the scale would. 1 changes no bit.
    #[must_use]
    pub fn at_strength(mut self, strength: f64) -> Self {
        for (_, factor) in self.tensors.iter_mut().filter(|(name, _)| AdapterPart::is_b(name)) {
            *factor = times_strength(factor, strength);
        }
        self
    }
}

/// A factor B times a strength, rounded once.
pub fn times_strength(factor: &HostTensor, strength: f64) -> HostTensor {
    let data = factor.data.iter().map(|value| (f64::from(*value) * strength) as f32).collect();
    HostTensor { shape: factor.shape.clone(), data }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LoraTargets;

    #[test]
    fn only_the_factors_b_are_multiplied() {
        let tensor = |data: &[f32]| HostTensor { shape: vec![1, data.len()], data: data.to_vec() };
        let config = LoraConfig::new(1, 2.0, LoraTargets::AllLinear);
        let factors = [("model.layers.0.mlp.up_proj".to_owned(), (tensor(&[3.0, 4.0]), tensor(&[0.5, -2.0])))];
        let adapter = Adapter::of_factors(config, factors);
        let half = adapter.clone().at_strength(0.5);
        let (a, b) = half.factors("model.layers.0.mlp.up_proj").expect("factors");
        assert_eq!((a.data.as_slice(), b.data.as_slice()), ([3.0, 4.0].as_slice(), [0.25, -1.0].as_slice()));
        assert_eq!(adapter.clone().at_strength(1.0), adapter);
    }

    #[test]
    fn what_has_no_strength_is_named() {
        let plain = LoraConfig::new(4, 8.0, LoraTargets::AllLinear);
        assert_eq!(plain.no_strength(), None);
        assert_eq!(LoraConfig { use_rslora: true, ..plain.clone() }.no_strength(), None);
        let key = |config: &LoraConfig| config.no_strength().map(|(key, _)| key);
        assert_eq!(key(&LoraConfig { use_dora: true, ..plain.clone() }), Some("use_dora"));
        assert_eq!(key(&LoraConfig { modules_to_save: vec!["lm_head".to_owned()], ..plain }), Some("modules_to_save"));
    }
}
