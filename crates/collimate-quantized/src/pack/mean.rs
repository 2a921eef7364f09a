//! The mean that bitsandbytes subtracts from scales: PyTorch's, in float32.

/// Numbers in a vector of PyTorch's sum.
const LANES: usize = 8;
/// Vectors that are summed side by side.
const STREAMS: usize = 4;
/// Partial sums of growing size: what is added up at one is carried to the next.
const LEVELS: usize = 4;

type Sums = [[f32; LANES]; STREAMS];

/// The mean as one thread of PyTorch computes it on x86, to the bit; several threads divide long lists otherwise.
pub(super) fn mean(values: &[f32]) -> f32 {
    sum(values) / values.len() as f32
}

fn sum(values: &[f32]) -> f32 {
    if values.len() < LANES {
        // Too few for a vector: the first four, to the first of which the others are added.
        let (fours, rest) = values.as_chunks::<STREAMS>();
        let mut sums = fours.first().copied().unwrap_or_default();
        rest.iter().for_each(|value| sums[0] += value);
        return sums.iter().sum();
    }
    let (vectors, rest) = values.as_chunks::<LANES>();
    let (groups, last) = vectors.as_chunks::<STREAMS>();
    let mut sums = cascade(groups);
    last.iter().for_each(|vector| add(&mut sums[0], vector));
    let [mut total, others @ ..] = sums;
    others.iter().for_each(|vector| add(&mut total, vector));
    rest.iter().chain(&total).fold(0.0, |sum, value| sum + value)
}

/// Sums of each stream and lane.
fn cascade(groups: &[Sums]) -> Sums {
    let ceil_log2 = groups.len().max(1).next_power_of_two().trailing_zeros();
    let power = 4.max(ceil_log2 / LEVELS as u32);
    let mut levels = [Sums::default(); LEVELS];
    let chunks = groups.chunks_exact(1 << power);
    let rest = chunks.remainder();
    for (chunk, group_count) in chunks.zip(1usize..) {
        chunk.iter().for_each(|group| add_all(&mut levels[0], group));
        for level in 1..LEVELS {
            let below = std::mem::take(&mut levels[level - 1]);
            add_all(&mut levels[level], &below);
            if group_count & (((1 << power) - 1) << ((level - 1) as u32 * power)) != 0 {
                break;
            }
        }
    }
    rest.iter().for_each(|group| add_all(&mut levels[0], group));
    let [mut sums, others @ ..] = levels;
    others.iter().for_each(|level| add_all(&mut sums, level));
    sums
}

fn add_all(sums: &mut Sums, group: &Sums) {
    sums.iter_mut().zip(group).for_each(|(sum, vector)| add(sum, vector));
}

fn add(sum: &mut [f32; LANES], vector: &[f32; LANES]) {
    sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
}

#[cfg(test)]
mod tests {
    use super::mean;

    /// Numbers whose sum depends on its order.
    fn sample(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 % 10_007) as f32 + 1.0).sqrt() * 0.01).collect()
    }

    /// `torch.from_numpy(sample).mean()` of torch 2.9 with one thread, as bits.
    #[rstest::rstest]
    #[case(3, 0x3f0d_f650)]
    #[case(5, 0x3f09_574b)]
    #[case(7, 0x3f25_87e8)]
    #[case(300, 0x3f2a_7de6)]
    #[case(4_099, 0x3f2a_cede)]
    #[case(70_001, 0x3f2a_bdc0)]
    fn the_mean_is_pytorchs(#[case] count: usize, #[case] bits: u32) {
        assert_eq!(mean(&sample(count)).to_bits(), bits, "{} of {count}", mean(&sample(count)));
    }
}
