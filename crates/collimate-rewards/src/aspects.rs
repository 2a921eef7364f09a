//! Rewards from ratings of several aspects.

use std::collections::BTreeMap;

/// Mean of the rated aspects, like UltraFeedback's overall score; `None` if there are none.
pub fn aspect_mean(ratings: &BTreeMap<String, f64>) -> Option<f64> {
    if ratings.is_empty() {
        return None;
    }
    Some(ratings.values().sum::<f64>() / ratings.len() as f64)
}

/// Weighted sum of aspects, `Σ weight · rating`. Ratings without a weight are ignored.
///
/// # Errors
/// The name of a weighted aspect without a rating; ignoring it would make sums incomparable.
pub fn aspect_weighted_sum(ratings: &BTreeMap<String, f64>, weights: &BTreeMap<String, f64>) -> Result<f64, String> {
    weights.iter().try_fold(0.0, |sum, (aspect, weight)| {
        ratings.get(aspect).map(|rating| sum + weight * rating).ok_or_else(|| aspect.clone())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratings(items: &[(&str, f64)]) -> BTreeMap<String, f64> {
        items.iter().map(|(name, value)| (name.to_string(), *value)).collect()
    }

    #[test]
    fn the_mean_is_over_rated_aspects() {
        assert_eq!(aspect_mean(&ratings(&[("honesty", 4.0), ("helpfulness", 1.0)])), Some((4.0 + 1.0) / 2.0));
        assert_eq!(aspect_mean(&ratings(&[])), None);
    }

    #[test]
    fn a_weighted_sum_needs_every_weighted_aspect() {
        let weights = ratings(&[("honesty", 2.0), ("helpfulness", 0.5)]);
        let rated = ratings(&[("honesty", 4.0), ("helpfulness", 1.0), ("style", 9.0)]);
        assert_eq!(aspect_weighted_sum(&rated, &weights), Ok(2.0 * 4.0 + 0.5 * 1.0));
        assert_eq!(aspect_weighted_sum(&ratings(&[("honesty", 4.0)]), &weights), Err("helpfulness".to_string()));
    }
}
