//! Images that are decoded and resized on the cores while the model computes something else.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use collimate_images::{AHEAD_BYTES, ImageSettings, PromptImage};
use collimate_text::PlacedImage;

use crate::bits::Bits;

/// The images that were asked for ahead, by the hash of their content.
pub(crate) struct ImagesAhead {
    settings: Arc<ImageSettings>,
    /// Groups whose images were asked for, if once is enough: the rows of a frozen tower are kept.
    seen: Option<Mutex<Bits>>,
    waiting: Mutex<HashMap<[u8; 32], PromptImage>>,
}

impl ImagesAhead {
    /// For images with these settings, of so many groups; `once` if each is loaded only once.
    pub(crate) fn new(settings: ImageSettings, num_groups: usize, once: bool) -> Self {
        let seen = once.then(|| Mutex::new(Bits::none(num_groups)));
        Self { settings: Arc::new(settings), seen, waiting: Mutex::default() }
    }

    /// Whether the images of a group need to be asked for; not again if once is enough.
    pub(crate) fn wants(&self, position: usize) -> bool {
        let Some(seen) = &self.seen else { return true };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        !seen.get(position) && {
            seen.set(position, true);
            true
        }
    }

    /// Starts to load images, as far as those that wait have room: [`AHEAD_BYTES`]. The others are loaded when they are needed.
    pub(crate) fn prefetch(&self, images: &[PlacedImage]) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = |image: &PromptImage| self.settings.resized_bytes(image.grid());
        let mut held: u64 = waiting.values().map(bytes).sum();
        for placed in images {
            let image = placed.image.clone();
            held += bytes(&image);
            if held > AHEAD_BYTES {
                return;
            }
            if waiting.insert(*image.hash(), image.clone()).is_none() {
                let settings = Arc::clone(&self.settings);
                rayon::spawn(move || image.prefetch(&settings));
            }
        }
    }

    /// Gives a group those of its images that were asked for; they no longer wait.
    pub(crate) fn take(&self, images: &mut [PlacedImage]) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for placed in images {
            if let Some(image) = waiting.remove(placed.image.hash()) {
                placed.image = image;
            }
        }
    }
}

impl fmt::Debug for ImagesAhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImagesAhead").field("once", &self.seen.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use collimate_images::{ImageSource, RgbImage};

    use super::*;

    fn placed(level: u8, side: usize) -> PlacedImage {
        let image = RgbImage { height: side, width: side, bytes: vec![level; side * side * 3] };
        let source = ImageSource::Bytes(image.to_png().expect("a file").into());
        let image = PromptImage::check(source, &ImageSettings::default()).expect("an image");
        PlacedImage { tokens: 0..4, grid: image.grid().merged(2), image }
    }

    #[test]
    fn a_group_gets_the_image_that_was_loaded_ahead() {
        let ahead = ImagesAhead::new(ImageSettings::default(), 1, false);
        let (first, second) = (placed(1, 56), placed(2, 56));
        ahead.prefetch(std::slice::from_ref(&first));
        // Read from a store again, it is another object of the same content.
        let mut images = [placed(1, 56), second.clone()];
        ahead.take(&mut images);
        assert!(images[0].image.is_same_object(&first.image) && images[1].image.is_same_object(&second.image));
        let settings = ImageSettings::default();
        assert_eq!(images[0].image.load(&settings), first.image.load(&settings));
        assert!(ahead.waiting.lock().expect("no panic").is_empty());
    }

    #[test]
    fn no_more_wait_than_have_room() {
        let ahead = ImagesAhead::new(ImageSettings::default(), 1, false);
        // 1,003,520 pixels are 3 MB; the third of them takes the sum over 8 MB.
        let images: Vec<PlacedImage> = (0..4).map(|level| placed(level, 1001)).collect();
        let bytes = ahead.settings.resized_bytes(images[0].image.grid());
        ahead.prefetch(&images);
        assert_eq!(ahead.waiting.lock().expect("no panic").len() as u64, (AHEAD_BYTES / bytes).min(4));
    }

    #[test]
    fn once_is_enough_for_a_tower_whose_rows_are_kept() {
        let [once, often] = [true, false].map(|once| ImagesAhead::new(ImageSettings::default(), 3, once));
        assert_eq!([0, 2, 0, 1].map(|position| once.wants(position)), [true, true, false, true]);
        assert!(often.wants(1) && often.wants(1));
    }
}
