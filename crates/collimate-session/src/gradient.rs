//! A gradient on the host, by the parameters that are trained.

use collimate_backend::FusedOps;
use collimate_hf::HostTensor;
use collimate_model::CausalLm;

use crate::files::host;

/// The derivatives of a number by every trained parameter.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HostGradient {
    /// Names in the model's or the adapter's file, with the derivatives in the shape that the tensor has there. A parameter
    /// that no pass read is left out: its derivatives are zero.
    pub tensors: Vec<(String, HostTensor)>,
}

impl HostGradient {
    /// Moves out what a model's passes have accumulated.
    pub(crate) fn take<B: FusedOps>(model: &mut CausalLm<B>) -> Self {
        let tensors = model.trainable().into_iter().filter_map(|index| {
            let gradient = model.take_gradient(index)?;
            let info = &model.parameters()[index];
            let gradient = if info.transposed { gradient.transpose() } else { gradient };
            Some((info.name.clone(), HostTensor { shape: info.file_shape.clone(), data: host(&gradient).data }))
        });
        Self { tensors: tensors.collect() }
    }

    /// The scalar product, in float64. Both are of the same model.
    pub fn dot(&self, other: &Self) -> f64 {
        let (mut sum, mut others) = (0.0, other.tensors.iter().peekable());
        for (name, tensor) in &self.tensors {
            // Both have the model's order, and either may lack some.
            let place = others.clone().position(|(found, _)| found == name);
            let Some((_, found)) = place.and_then(|place| others.nth(place)) else { continue };
            let products = tensor.data.iter().zip(&found.data).map(|(a, b)| f64::from(*a) * f64::from(*b));
            sum += products.sum::<f64>();
        }
        sum
    }

    /// The Euclidean length.
    pub fn norm(&self) -> f64 {
        self.dot(self).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(tensors: &[(&str, &[f32])]) -> HostGradient {
        let tensor = |data: &[f32]| HostTensor { shape: vec![data.len()], data: data.to_vec() };
        HostGradient { tensors: tensors.iter().map(|(name, data)| ((*name).to_owned(), tensor(data))).collect() }
    }

    #[test]
    fn a_product_sums_over_the_tensors_that_both_have() {
        let one = gradient(&[("a", &[1.0, 2.0]), ("b", &[3.0]), ("d", &[1.0])]);
        let other = gradient(&[("b", &[5.0]), ("c", &[7.0]), ("d", &[-2.0])]);
        assert_eq!(one.dot(&other), 3.0 * 5.0 - 2.0);
        assert_eq!(other.dot(&one), 3.0 * 5.0 - 2.0);
        assert_eq!(one.norm(), 15f64.sqrt());
        assert_eq!(one.dot(&HostGradient::default()), 0.0);
    }
}
