//! Sizes of images.

use serde::Serialize;

use crate::lengths::{LengthSummary, Lengths};

/// Sizes of the images of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ImageSummary {
    /// Images.
    pub count: usize,
    /// Widths in pixels.
    pub width: LengthSummary,
    /// Heights in pixels.
    pub height: LengthSummary,
    /// Tokens of an image, if the model is known.
    pub tokens: Option<LengthSummary>,
}

/// Sizes of images, gathered one by one.
#[derive(Debug, Clone, Default)]
pub(crate) struct ImageSizes {
    count: usize,
    widths: Lengths,
    heights: Lengths,
    tokens: Lengths,
}

impl ImageSizes {
    pub(crate) fn add(&mut self, [height, width]: [usize; 2], tokens: Option<usize>) {
        self.count += 1;
        self.widths.extend(&[width]);
        self.heights.extend(&[height]);
        self.tokens.extend(tokens.as_slice());
    }

    pub(crate) fn summary(&self) -> Option<ImageSummary> {
        let (width, height) = (self.widths.summary()?, self.heights.summary()?);
        Some(ImageSummary { count: self.count, width, height, tokens: self.tokens.summary() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_summed_up_and_tokens_only_where_they_are_known() {
        let mut sizes = ImageSizes::default();
        assert_eq!(sizes.summary(), None);
        sizes.add([10, 40], None);
        sizes.add([30, 20], None);
        let summary = sizes.summary().unwrap();
        assert_eq!((summary.count, summary.width.mean, summary.height.max, summary.tokens), (2, 30.0, 30, None));
        sizes.add([30, 20], Some(7));
        assert_eq!(sizes.summary().unwrap().tokens.unwrap().mean, 7.0);
    }
}
