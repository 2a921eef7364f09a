//! Pictures with a few shapes of three kinds and three colors, on a grid of cells that are one token each.

use collimate_images::RgbImage;
use rand::Rng;

/// Cells of a side.
pub const CELLS: usize = 4;
/// Pixels of a cell's side: those of a token of Qwen2-VL, so that no shape lies in two tokens.
const CELL: usize = 28;
/// Pixels of a picture's side.
pub const SIDE: usize = CELLS * CELL;
/// Least and most distance of a shape's edge from its middle, in pixels.
const RADII: [i32; 2] = [9, 11];
/// Most that a shape is off its cell's middle, in pixels.
const OFF: i32 = 1;
/// What is behind the shapes: the mean of Qwen2-VL's pixels, so that it is next to nothing in a patch.
const GROUND: [u8; 3] = [124, 118, 106];

/// The kind of a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A disc.
    Circle,
    /// A square that stands on a side.
    Square,
    /// A triangle with its point above.
    Triangle,
}

/// The color of a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Color {
    /// Red.
    Red,
    /// Green.
    Green,
    /// Blue.
    Blue,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Circle, Self::Square, Self::Triangle];

    /// The word for several.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Circle => "circles",
            Self::Square => "squares",
            Self::Triangle => "triangles",
        }
    }

    /// Whether a point belongs to a shape of this radius around the origin; y counts downwards.
    fn covers(self, x: i32, y: i32, radius: i32) -> bool {
        match self {
            Self::Circle => x * x + y * y <= radius * radius,
            Self::Square => x.abs().max(y.abs()) <= radius,
            // As wide as its distance from the point above.
            Self::Triangle => y <= radius && 2 * x.abs() <= y + radius,
        }
    }
}

impl Color {
    /// All colors.
    pub const ALL: [Self; 3] = [Self::Red, Self::Green, Self::Blue];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Green => "green",
            Self::Blue => "blue",
        }
    }

    fn rgb(self) -> [u8; 3] {
        match self {
            Self::Red => [208, 48, 42],
            Self::Green => [40, 150, 66],
            Self::Blue => [42, 84, 204],
        }
    }
}

/// One shape of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// Number of its cell, row by row.
    pub cell: usize,
    /// Its kind.
    pub kind: Kind,
    /// Its color.
    pub color: Color,
    /// Pixels that it is off the cell's middle, to the right and down.
    pub off: [i32; 2],
    /// Distance of its edge from its middle, in pixels.
    pub radius: i32,
}

impl Item {
    /// A shape in a cell, at a random place of it and of a random size.
    pub(crate) fn random(cell: usize, kind: Kind, color: Color, rng: &mut impl Rng) -> Self {
        let off = [rng.random_range(-OFF..=OFF), rng.random_range(-OFF..=OFF)];
        Self { cell, kind, color, off, radius: rng.random_range(RADII[0]..=RADII[1]) }
    }
}

/// A picture before it is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    /// Its shapes, at most one a cell.
    pub items: Vec<Item>,
}

impl Scene {
    /// The picture, [`SIDE`] pixels high and wide.
    pub fn draw(&self) -> RgbImage {
        let mut bytes = GROUND.repeat(SIDE * SIDE);
        for item in &self.items {
            let middle = |index: usize, off: i32| (index * CELL + CELL / 2) as i32 + off;
            let (x, y) = (middle(item.cell % CELLS, item.off[0]), middle(item.cell / CELLS, item.off[1]));
            let reach = -item.radius..=item.radius;
            for (dx, dy) in reach.clone().flat_map(|dy| reach.clone().map(move |dx| (dx, dy))) {
                if item.kind.covers(dx, dy, item.radius) {
                    let at = ((y + dy) as usize * SIDE + (x + dx) as usize) * 3;
                    bytes[at..at + 3].copy_from_slice(&item.color.rgb());
                }
            }
        }
        RgbImage { height: SIDE, width: SIDE, bytes }
    }

    /// How many shapes there are of a kind and color, if these are named, in each row of cells.
    pub fn count(&self, kind: Option<Kind>, color: Option<Color>) -> [usize; CELLS] {
        let is_one =
            |item: &&Item| kind.is_none_or(|kind| item.kind == kind) && color.is_none_or(|color| item.color == color);
        let mut rows = [0; CELLS];
        self.items.iter().filter(is_one).for_each(|item| rows[item.cell / CELLS] += 1);
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(cell: usize, kind: Kind, color: Color) -> Item {
        Item { cell, kind, color, off: [0, 0], radius: 8 }
    }

    #[test]
    fn a_shape_is_drawn_in_its_cell_and_color() {
        let scene = Scene { items: vec![item(5, Kind::Square, Color::Blue)] };
        let image = scene.draw();
        let pixel = |x: usize, y: usize| &image.bytes[(y * SIDE + x) * 3..][..3];
        // Cell 5 is the second of the second row; its middle is at 28 + 14.
        assert_eq!(pixel(42, 42), Color::Blue.rgb());
        // A square of radius 8 reaches as many pixels to each side.
        assert_eq!((pixel(50, 34), pixel(51, 42)), (&Color::Blue.rgb()[..], &GROUND[..]));
        let drawn = image.bytes.chunks(3).filter(|pixel| *pixel == Color::Blue.rgb()).count();
        assert_eq!(drawn, 17 * 17);
    }

    #[test]
    fn shapes_at_the_edges_stay_in_the_picture() {
        for off in [[-OFF, -OFF], [OFF, OFF]] {
            for kind in Kind::ALL {
                let items =
                    (0..CELLS * CELLS).map(|cell| Item { off, radius: RADII[1], ..item(cell, kind, Color::Red) });
                assert_eq!(Scene { items: items.collect() }.draw().bytes.len(), SIDE * SIDE * 3);
            }
        }
    }

    #[test]
    fn shapes_are_counted_by_kind_and_color() {
        let items = vec![
            item(0, Kind::Circle, Color::Red),
            item(1, Kind::Circle, Color::Blue),
            item(15, Kind::Square, Color::Red),
        ];
        let scene = Scene { items };
        assert_eq!(scene.count(Some(Kind::Circle), Some(Color::Red)), [1, 0, 0, 0]);
        assert_eq!(scene.count(Some(Kind::Circle), None), [2, 0, 0, 0]);
        assert_eq!(scene.count(None, Some(Color::Red)), [1, 0, 0, 1]);
        assert_eq!(scene.count(None, None), [2, 0, 0, 1]);
        assert_eq!(scene.count(Some(Kind::Triangle), Some(Color::Green)), [0; 4]);
    }
}
