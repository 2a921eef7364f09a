//! An image among the tokens of a prompt, and the positions that it gives them.

use std::ops::Range;

use collimate_images::{Grid, PromptImage};

/// An image among the tokens of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedImage {
    /// The image.
    pub image: PromptImage,
    /// Its tokens, as a range of the prompt's.
    pub tokens: Range<usize>,
    /// Its tokens' rows and columns.
    pub grid: Grid,
}

impl PlacedImage {
    /// What it is, for people: `image of 640 × 480 pixels, 391 tokens`, width first.
    pub fn describe(&self) -> String {
        let [height, width] = self.image.size();
        format!("image of {width} × {height} pixels, {} tokens", self.tokens.len())
    }
}

/// The tokens of a prompt with one in place of those of each image, for people to read.
pub fn with_one_token_an_image(ids: &[u32], images: &[PlacedImage]) -> Vec<u32> {
    let is_shown = |index: usize| {
        let own = images.iter().find(|placed| placed.tokens.contains(&index));
        own.is_none_or(|placed| placed.tokens.start == index)
    };
    ids.iter().enumerate().filter(|(index, _)| is_shown(*index)).map(|(_, id)| *id).collect()
}

/// Positions of a prompt's tokens in time, row and column, \[P\], and the position at which a response goes on.
///
/// Text counts up on all three axes. An image of h × w tokens that begins at s has (s, s + row, s + column), and what follows goes
/// on at s + max(h, w).
pub fn axes_of_prompt(num_tokens: usize, images: &[PlacedImage]) -> (Vec<[u32; 3]>, u32) {
    let mut axes = Vec::with_capacity(num_tokens);
    let mut next = 0;
    for PlacedImage { tokens, grid, .. } in images {
        next = push_text(&mut axes, next, tokens.start);
        let places = (0..grid.rows as u32).flat_map(|row| (0..grid.columns as u32).map(move |column| (row, column)));
        axes.extend(places.map(|(row, column)| [next, next + row, next + column]));
        next += grid.rows.max(grid.columns) as u32;
    }
    next = push_text(&mut axes, next, num_tokens);
    (axes, next)
}

/// Counts on up to the token `end`; returns the next position.
fn push_text(axes: &mut Vec<[u32; 3]>, next: u32, end: usize) -> u32 {
    let count = end.saturating_sub(axes.len()) as u32;
    axes.extend((next..next + count).map(|position| [position; 3]));
    next + count
}

#[cfg(test)]
mod tests {
    use collimate_images::ImageSource;

    use super::*;

    fn image_of_two_by_three() -> PromptImage {
        PromptImage::known(ImageSource::Bytes([0].into()), [0; 32], Grid { rows: 4, columns: 6 }, [56, 84])
    }

    #[test]
    fn text_goes_on_after_the_longer_side_of_an_image() {
        let (grid, image) = (Grid { rows: 2, columns: 3 }, image_of_two_by_three());
        let (axes, next) = axes_of_prompt(9, &[PlacedImage { image, tokens: 2..8, grid }]);
        let image = [[2, 2, 2], [2, 2, 3], [2, 2, 4], [2, 3, 2], [2, 3, 3], [2, 3, 4]];
        assert_eq!(axes, [vec![[0; 3], [1; 3]], image.to_vec(), vec![[5; 3]]].concat());
        assert_eq!(next, 6);
        let placed = PlacedImage { image: image_of_two_by_three(), tokens: 2..8, grid };
        assert_eq!(placed.describe(), "image of 84 × 56 pixels, 6 tokens");
        assert_eq!(with_one_token_an_image(&[1, 2, 5, 5, 5, 5, 5, 5, 5], &[placed]), [1, 2, 5, 5]);
    }
}
