//! Pictures of shapes: white on black, of ten classes, at random places and in random sizes.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Side of a picture in pixels.
pub const SIDE: usize = 32;
/// Number of classes.
pub const CLASSES: usize = 10;
/// What the classes show, in order.
pub const NAMES: [&str; CLASSES] =
    ["disc", "ring", "square", "frame", "triangle", "funnel", "plus", "cross", "lines across", "lines down"];
/// Farthest that a shape is from the middle, in pixels.
pub const FARTHEST: i32 = 5;
/// Radii of shapes, in pixels.
pub const RADII: std::ops::RangeInclusive<i32> = 7..=11;

/// A picture: the brightness of each pixel from 0 to 1, in reading order.
pub type Picture = Vec<f32>;

/// A shape in a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Its class.
    pub class: usize,
    /// How far it is to the right of the middle.
    pub x: i32,
    /// How far it is below the middle.
    pub y: i32,
    /// Half of its width.
    pub radius: i32,
}

impl Shape {
    /// A random shape of a class; the same for the same seed and number.
    pub fn random(class: usize, seed: u64, number: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut place = || rng.random_range(-FARTHEST..=FARTHEST);
        let (x, y) = (place(), place());
        Self { class, x, y, radius: rng.random_range(RADII) }
    }

    /// The picture.
    pub fn draw(&self) -> Picture {
        let middle = |offset: i32| SIDE as f32 / 2.0 - 0.5 + offset as f32;
        let (x, y) = (middle(self.x), middle(self.y));
        let pixel = |index: usize| {
            let place = |at: usize, from: f32| (at as f32 - from) / self.radius as f32;
            let inside = is_inside(self.class, place(index % SIDE, x), place(index / SIDE, y));
            if inside { 1.0 } else { 0.0 }
        };
        (0..SIDE * SIDE).map(pixel).collect()
    }
}

/// Whether a point is part of a shape of radius 1 around the origin; v grows downwards.
fn is_inside(class: usize, u: f32, v: f32) -> bool {
    let (square, round) = (u.abs().max(v.abs()), u * u + v * v);
    let is_line = |w: f32| (((w + 1.0) / 0.4) as i32) % 2 == 0;
    match class {
        0 => round <= 1.0,
        1 => (0.4..=1.0).contains(&round),
        2 => square <= 0.9,
        3 => (0.6..=1.0).contains(&square),
        4 => square <= 1.0 && u.abs() <= (v + 1.0) / 2.0,
        5 => square <= 1.0 && u.abs() <= (1.0 - v) / 2.0,
        6 => square <= 1.0 && u.abs().min(v.abs()) <= 0.3,
        7 => square <= 1.0 && (u - v).abs().min((u + v).abs()) <= 0.4,
        8 => square <= 1.0 && is_line(v),
        _ => square <= 1.0 && is_line(u),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_inside_their_pictures_and_differ() {
        let pictures: Vec<Picture> = (0..CLASSES).map(|class| Shape { class, x: 0, y: 0, radius: 11 }.draw()).collect();
        for (class, picture) in pictures.iter().enumerate() {
            let bright = picture.iter().filter(|pixel| **pixel > 0.5).count();
            assert!((120..500).contains(&bright), "{}: {bright}", NAMES[class]);
            let edge = (0..SIDE).all(|i| picture[i] == 0.0 && picture[i * SIDE] == 0.0);
            assert!(edge, "{} reaches the edge", NAMES[class]);
            assert_eq!(pictures.iter().filter(|other| *other == picture).count(), 1);
        }
        let random = |number| Shape::random(1, 7, number);
        assert_eq!(random(3), random(3));
        assert!((0..50).map(random).any(|shape| shape != random(0)));
    }
}
