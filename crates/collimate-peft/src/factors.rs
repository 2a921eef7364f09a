//! The tensors of an adapter with given settings.

use collimate_hf::{LinearSpec, ModelConfig, TensorSpec};

use crate::by_name::has_name;
use crate::config::{LoraConfig, adaptable_modules, all_tensors, embedding_module, module_of};
use crate::matching::ends_in;
use crate::names::AdapterPart;
use crate::stacked::Stack;

/// The matrices of a linear layer, by their names among an adapter's tensors, and what is done with them.
#[derive(Debug, Clone, PartialEq)]
pub struct FactorNames {
    /// A, [r, in]; that of an expert's gate may be that of its up too.
    pub a: String,
    /// B, [out, r].
    pub b: String,
    /// DoRA's lengths of rows, \[out\].
    pub magnitude: Option<String>,
    /// The rank.
    pub r: usize,
    /// The factor s of `s · B A`.
    pub scale: f64,
}

impl LoraConfig {
    /// Whether a parameter of stacked experts gets matrices.
    pub(crate) fn targets_parameter(&self, parameter: &str) -> bool {
        self.parameters.iter().any(|name| ends_in(parameter, name))
    }

    /// The matrices that a linear layer gets; `None` if it is left as it is.
    pub fn factors_of(&self, model: &ModelConfig, module: &str) -> Option<FactorNames> {
        // Without parameters, experts have matrices of their own, as they had with transformers 4.
        let stack = (!self.parameters.is_empty()).then(|| Stack::of(model, module)).flatten();
        let Some(Stack { parameter, a_module, b_module }) = stack else {
            let is_parameter = || self.targets_parameter(&format!("{module}.weight"));
            let is_module = self.matches(module) && has_name(model, module);
            return (is_module || is_parameter()).then(|| FactorNames {
                a: AdapterPart::A.name(module),
                b: AdapterPart::B.name(module),
                magnitude: self.use_dora.then(|| AdapterPart::Magnitude.name(module)),
                r: self.rank_of(module),
                scale: self.scale_of(module),
            });
        };
        self.targets_parameter(&parameter).then(|| FactorNames {
            a: AdapterPart::A.name(&a_module),
            b: AdapterPart::B.name(&b_module),
            magnitude: None,
            r: self.rank_of(&parameter),
            scale: self.scale_of(&parameter),
        })
    }

    /// The tensors that are trained whole, with their names in the model.
    pub fn copies(&self, model: &ModelConfig) -> Vec<TensorSpec> {
        if self.modules_to_save.is_empty() {
            return Vec::new();
        }
        all_tensors(model).into_iter().filter(|spec| self.is_saved(module_of(&spec.name))).collect()
    }

    /// Every tensor of an adapter with these settings, by its name in PEFT's file.
    pub fn tensors(&self, model: &ModelConfig) -> Vec<TensorSpec> {
        let mut specs = Vec::new();
        for linear in adaptable_modules(model) {
            let LinearSpec { module, in_features, out_features, .. } = &linear;
            let Some(FactorNames { mut a, mut b, magnitude, r, .. }) = self.factors_of(model, module) else { continue };
            if *module == embedding_module(model) {
                (a, b) = (AdapterPart::EmbeddingA.name(module), AdapterPart::EmbeddingB.name(module));
            }
            // Gate and up of an expert may have one A.
            if specs.iter().rev().take(2).all(|spec: &TensorSpec| spec.name != a) {
                specs.push(TensorSpec::new(a, &[r, *in_features]));
            }
            specs.push(TensorSpec::new(b, &[*out_features, r]));
            specs.extend(magnitude.map(|magnitude| TensorSpec::new(magnitude, &[*out_features])));
        }
        let copies = self.copies(model).into_iter();
        specs.extend(copies.map(|spec| TensorSpec::new(AdapterPart::Copy.name(&spec.name), &spec.shape)));
        specs
    }
}
