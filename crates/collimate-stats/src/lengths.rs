//! Quantiles of lengths in bounded memory.

use std::collections::BTreeMap;

use serde::Serialize;

/// Lengths below this are counted exactly, others in buckets whose width is at most 1/64 of the length.
const EXACT: usize = 128;

/// Summary of a distribution of lengths. Quantiles above 128 are rounded up by less than 1.6 %.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LengthSummary {
    /// Smallest.
    pub min: usize,
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: usize,
    /// 95th percentile.
    pub p95: usize,
    /// 99th percentile.
    pub p99: usize,
    /// Largest.
    pub max: usize,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Lengths {
    num: usize,
    sum: f64,
    min: usize,
    max: usize,
    /// Counts, by the largest length in a bucket.
    buckets: BTreeMap<usize, usize>,
}

impl Lengths {
    pub(crate) fn extend(&mut self, lengths: &[usize]) {
        for &length in lengths {
            self.min = if self.num == 0 { length } else { self.min.min(length) };
            self.max = self.max.max(length);
            self.num += 1;
            self.sum += length as f64;
            *self.buckets.entry(bucket_end(length)).or_default() += 1;
        }
    }

    pub(crate) fn summary(&self) -> Option<LengthSummary> {
        (self.num > 0).then(|| LengthSummary {
            min: self.min,
            mean: self.sum / self.num as f64,
            p50: self.quantile(0.50),
            p95: self.quantile(0.95),
            p99: self.quantile(0.99),
            max: self.max,
        })
    }

    fn quantile(&self, fraction: f64) -> usize {
        let wanted = (fraction * self.num as f64).ceil() as usize;
        let mut seen = 0;
        for (end, count) in &self.buckets {
            seen += count;
            if seen >= wanted {
                return (*end).min(self.max);
            }
        }
        self.max
    }
}

/// The largest length in a length's bucket; there are 64 buckets between powers of two.
fn bucket_end(length: usize) -> usize {
    if length < EXACT {
        return length;
    }
    let width = 1usize << (length.ilog2() - 6);
    length | (width - 1)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0, 0)]
    #[case(127, 127)]
    #[case(128, 129)]
    #[case(1000, 1007)]
    #[case(1 << 20, (1 << 20) + (1 << 14) - 1)]
    fn buckets_are_exact_when_short_and_a_sixty_fourth_when_long(#[case] length: usize, #[case] end: usize) {
        assert_eq!(bucket_end(length), end);
        assert!((end - length) as f64 <= length as f64 / 64.0);
    }

    #[test]
    fn quantiles_are_exact_for_short_lengths() {
        let mut lengths = Lengths::default();
        lengths.extend(&(1..=100).collect::<Vec<_>>());
        let summary = lengths.summary().unwrap();
        assert_eq!((summary.min, summary.p50, summary.p95, summary.p99, summary.max), (1, 50, 95, 99, 100));
        assert_eq!(summary.mean, 101.0 / 2.0);
    }
}
