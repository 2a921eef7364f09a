//! The causal convolution against float64.

use collimate_kernels::Segment;
use collimate_recurrent::{Convolution, convolution, convolution_backward};

use crate::testing::{assert_close, in_threads, numbers};

const WIDTH: usize = 19;
const TAPS: usize = 4;

fn segments() -> Vec<Segment> {
    let segment = |context, rows| Segment { context, rows };
    // The second prompt is shorter than the convolution, and so is the first response.
    vec![
        segment(0..0, 0..70),
        segment(0..70, 70..72),
        segment(0..70, 72..150),
        segment(0..0, 150..152),
        segment(150..152, 152..160),
    ]
}

/// The output in float64, sequence by sequence.
fn expected(x: &[f64], weight: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; x.len()];
    for segment in segments() {
        let sequence: Vec<usize> = segment.context.clone().chain(segment.rows.clone()).collect();
        for (position, &row) in sequence.iter().enumerate().skip(segment.context.len()) {
            for column in 0..WIDTH {
                let sum: f64 = (0..TAPS)
                    .filter(|tap| position + tap + 1 >= TAPS)
                    .map(|tap| weight[column * TAPS + tap] * x[sequence[position + tap + 1 - TAPS] * WIDTH + column])
                    .sum();
                out[row * WIDTH + column] = sum / (1.0 + (-sum).exp());
            }
        }
    }
    out
}

fn wide(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().map(|&x| f64::from(x)).collect()
}

#[test]
fn forward_and_backward_are_those_of_float64() {
    let segments = segments();
    let (x, weight, d) = (numbers(160 * WIDTH, 1), numbers(WIDTH * TAPS, 2), numbers(160 * WIDTH, 3));
    let shape = Convolution { weight: &weight, taps: TAPS, segments: &segments };
    let mut out = vec![0.0; x.len()];
    convolution(&shape, &x, &mut out);
    assert_close(&out, &expected(&wide(&x), &wide(&weight)), 1e-6);

    let mut d_weight = vec![0.5; weight.len()];
    let d_x = convolution_backward(&shape, &x, &d, Some(&mut d_weight));
    let objective = |x: &[f64], weight: &[f64]| -> f64 {
        expected(x, weight).iter().zip(&d).map(|(out, &d)| out * f64::from(d)).sum()
    };
    let slope = |of: &dyn Fn(f64) -> f64| (of(1e-5) - of(-1e-5)) / 2e-5;
    let changed = |numbers: &[f32], i: usize, by: f64| {
        let mut numbers = wide(numbers);
        numbers[i] += by;
        numbers
    };
    for i in (0..x.len()).step_by(41).chain(67 * WIDTH..70 * WIDTH) {
        let expected = slope(&|by| objective(&changed(&x, i, by), &wide(&weight)));
        assert!((f64::from(d_x[i]) - expected).abs() < 1e-5, "x {i}: {} against {expected}", d_x[i]);
    }
    for (i, &found) in d_weight.iter().enumerate() {
        let expected = 0.5 + slope(&|by| objective(&wide(&x), &changed(&weight, i, by)));
        assert!((f64::from(found) - expected).abs() < 2e-5, "weight {i}: {found} against {expected}");
    }
    assert_eq!(convolution_backward(&shape, &x, &d, None), d_x);
}

#[test]
fn neither_threads_nor_other_segments_change_a_row() {
    let (x, weight, d) = (numbers(160 * WIDTH, 1), numbers(WIDTH * TAPS, 2), numbers(160 * WIDTH, 3));
    let run = |threads: usize, segments: &[Segment]| {
        let rows = segments.iter().map(|segment| segment.rows.end).max().expect("rows");
        let shape = Convolution { weight: &weight, taps: TAPS, segments };
        let (x, d) = (&x[..rows * WIDTH], &d[..rows * WIDTH]);
        let (mut out, mut d_weight) = (vec![0.0; x.len()], vec![0.0; weight.len()]);
        let d_x = in_threads(threads, || {
            convolution(&shape, x, &mut out);
            convolution_backward(&shape, x, d, Some(&mut d_weight))
        });
        (out, d_x, d_weight)
    };
    let all = run(1, &segments());
    assert!(all == run(2, &segments()) && all == run(3, &segments()));
    let first = run(2, &segments()[..3]);
    assert!(first.0 == all.0[..150 * WIDTH] && first.1 == all.1[..150 * WIDTH]);
}
