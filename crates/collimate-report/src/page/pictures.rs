//! Pictures in a page.

use crate::charts::escape;
use crate::pictures::{Gallery, Picture};

/// Smaller pictures are magnified by a whole factor, as far as they stay below this width.
const LEAST_WIDTH: u32 = 160;
/// The most that a picture is magnified.
const MOST_ZOOM: u32 = 8;

/// A picture, or the text that stands for it. Its frame is a gray on which black and white are seen, in dark and light pages.
pub(super) fn picture(picture: &Picture) -> String {
    let alt = escape(&picture.alt);
    let Some(uri) = picture.uri() else { return format!("<span class=\"about\">{alt}</span>") };
    let [width, height] = picture.size();
    let zoom = (LEAST_WIDTH / width.max(1)).clamp(1, MOST_ZOOM);
    let class = if zoom > 1 { "picture zoomed" } else { "picture" };
    let [width, height] = [width, height].map(|side| side.saturating_mul(zoom));
    format!("<img class=\"{class}\" src=\"{uri}\" alt=\"{alt}\" width=\"{width}\" height=\"{height}\">")
}

/// A picture with what stands below it.
pub(super) fn captioned((shown, caption): &(Picture, String)) -> String {
    format!("<figure>{}<figcaption>{}</figcaption></figure>", picture(shown), escape(caption))
}

/// The pictures of a run under their heading.
pub(super) fn gallery(gallery: &Gallery) -> String {
    let figures: String = gallery.pictures.iter().map(captioned).collect();
    format!("<h2>{}</h2><div class=\"gallery\">{figures}</div>", escape(&gallery.title))
}
