//! The images of a store's groups: loaded ahead, and compared with what they were.

use collimate_images::ImageSettings;
use collimate_text::PlacedImage;
use rayon::prelude::*;

use crate::ahead::ImagesAhead;
use crate::error::StoreError;
use crate::groups::{GroupStore, Section};
use crate::head::num_bytes;

impl GroupStore {
    /// Lets [`Self::prefetch`] load images ahead; `once` if each is loaded only once, since the rows of the tower are kept.
    pub fn load_ahead(&mut self, settings: ImageSettings, once: bool) {
        self.ahead = Some(ImagesAhead::new(settings, self.len(), once));
    }

    /// Starts to decode and resize the images of groups that are read next, beside other work. Whatever goes wrong is said when
    /// they are needed.
    pub fn prefetch(&self, positions: &[usize]) {
        let Some(ahead) = &self.ahead else { return };
        for &position in positions.iter().filter(|position| ahead.wants(**position)) {
            if let Ok(images) = self.images(position) {
                ahead.prefetch(&images);
            }
        }
    }

    /// Whether every image is still what it was when its tokens were counted. Each file is read, on all cores, and none decoded.
    pub(crate) fn has_its_images(&self) -> bool {
        let are_unchanged = |images: Vec<PlacedImage>| images.iter().all(|placed| placed.image.is_unchanged());
        (0..self.len()).into_par_iter().all(|position| self.images(position).is_ok_and(are_unchanged))
    }

    fn images(&self, position: usize) -> Result<Vec<PlacedImage>, StoreError> {
        let record = self.record(position)?;
        let responses = self.responses(&record, position)?;
        let bytes = self.read(Section::Tokens, record.tokens_at, num_bytes(&record, &responses))?;
        Ok(self.decode(&record, &responses, &bytes, position)?.images)
    }
}
