//! Which class a picture shows: that of the shape that differs from it in the fewest pixels.

use crate::shapes::{CLASSES, FARTHEST, RADII, SIDE, Shape};

/// Pixels of a picture as bits.
type Bits = [u64; SIDE * SIDE / 64];

/// Every shape that a picture may have.
#[derive(Debug)]
pub struct Classifier {
    shapes: Vec<(usize, Bits)>,
}

/// What a picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The class of the nearest shape.
    pub class: usize,
    /// Pixels in which that differs.
    pub distance: u32,
}

impl Default for Classifier {
    fn default() -> Self {
        Self::new()
    }
}

impl Classifier {
    /// Draws every shape.
    pub fn new() -> Self {
        let places = || -FARTHEST..=FARTHEST;
        let shapes = (0..CLASSES).flat_map(|class| {
            places().flat_map(move |x| {
                places()
                    .flat_map(move |y| RADII.map(move |radius| (class, bits(&Shape { class, x, y, radius }.draw()))))
            })
        });
        Self { shapes: shapes.collect() }
    }

    /// The nearest shape; among several the first.
    pub fn classify(&self, picture: &[f32]) -> Seen {
        let own = bits(picture);
        let distance = |shape: &Bits| shape.iter().zip(&own).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>();
        let seen = self.shapes.iter().map(|(class, shape)| Seen { class: *class, distance: distance(shape) });
        seen.min_by_key(|seen| seen.distance).unwrap_or(Seen { class: 0, distance: u32::MAX })
    }
}

fn bits(picture: &[f32]) -> Bits {
    let mut bits = Bits::default();
    for (index, _) in picture.iter().take(SIDE * SIDE).enumerate().filter(|(_, pixel)| **pixel > 0.5) {
        bits[index / 64] |= 1 << (index % 64);
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_known_again_even_with_some_wrong_pixels() {
        let classifier = Classifier::new();
        for class in 0..CLASSES {
            let shape = Shape::random(class, 3, class as u64);
            let mut picture = shape.draw();
            assert_eq!(classifier.classify(&picture), Seen { class, distance: 0 });
            // A dozen pixels in a corner where no shape is.
            (0..12).for_each(|at| picture[(at / 4) * SIDE + at % 4] = 1.0);
            assert_eq!(classifier.classify(&picture), Seen { class, distance: 12 });
        }
    }
}
