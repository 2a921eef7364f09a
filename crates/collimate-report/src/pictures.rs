//! Pictures of a page: PNG files inside the page itself, which fetches nothing.

use std::io::Read;
use std::path::Path;

use collimate_files::{WriteError, open_plain, read_plain, write_atomically};
use collimate_messages::data_uri;
use serde::{Deserialize, Serialize};

/// Name of the file in a run's folder that lists its pictures.
const PICTURES_FILE: &str = "pictures.json";

/// Size limit of that file, in bytes.
const MAX_LIST_BYTES: u64 = 1 << 20;

/// The largest PNG file in a page, in bytes.
const MAX_PNG_BYTES: usize = 4 << 20;

/// The most pictures of a list.
const MAX_PICTURES: usize = 64;

const PNG_START: &[u8] = b"\x89PNG\r\n\x1a\n";
const URI_START: &str = "data:image/png;base64,";

/// A picture as a page holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// What it shows, for those who do not see it.
    pub alt: String,
    /// Its PNG file as a data URI.
    src: String,
    /// Pixels of a row.
    width: u32,
    /// Rows.
    height: u32,
}

impl Picture {
    /// The picture of a PNG file of at most 4 MiB, with the text that stands for it; `None` if the bytes are not that. Only its
    /// first chunk is looked at.
    pub fn from_png(png: &[u8], alt: &str) -> Option<Self> {
        let number = |at: usize| Some(u32::from_be_bytes(*png.get(at..)?.first_chunk()?));
        let is_png = png.starts_with(PNG_START) && png.get(12..16) == Some(b"IHDR") && png.len() <= MAX_PNG_BYTES;
        let (width, height) = (number(16)?, number(20)?);
        let is_one = is_png && width > 0 && height > 0;
        is_one.then(|| Self { alt: alt.to_owned(), src: data_uri("image/png", png), width, height })
    }

    /// Its PNG file as a data URI; `None` if it was read from a file that has something else in its place.
    pub(crate) fn uri(&self) -> Option<&str> {
        let digits = self.src.strip_prefix(URI_START)?;
        let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
        digits.bytes().all(is_digit).then_some(&self.src)
    }

    /// Width and height in pixels.
    pub fn size(&self) -> [u32; 2] {
        [self.width, self.height]
    }
}

/// A PNG file in a run's folder that its report shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureFile {
    /// Its name in the run's folder, without folders.
    pub file: String,
    /// What it shows, for those who do not see it.
    pub alt: String,
    /// What stands below it.
    pub caption: String,
}

/// The pictures that a run's report shows under one heading: `pictures.json` of its folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureList {
    /// The heading.
    pub title: String,
    /// The pictures, in this order.
    pub pictures: Vec<PictureFile>,
}

impl PictureList {
    /// Writes the list into a run's folder, in place of an earlier one. The files may be written before or after.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, run: &Path) -> Result<(), WriteError> {
        let text = serde_json::to_string_pretty(self).unwrap_or_default() + "\n";
        write_atomically(&run.join(PICTURES_FILE), text.as_bytes())
    }

    fn read(run: &Path) -> Option<Self> {
        serde_json::from_str(&read_plain(&run.join(PICTURES_FILE), MAX_LIST_BYTES).ok()?).ok()
    }
}

/// The pictures of a run's folder, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gallery {
    /// The heading.
    pub title: String,
    /// Each picture with what stands below it.
    pub pictures: Vec<(Picture, String)>,
}

impl Gallery {
    /// Reads the pictures that a run's folder lists. Missing and damaged files are left out, since they are only illustrations;
    /// `None` if nothing is left.
    pub fn read(run: &Path) -> Option<Self> {
        let list = PictureList::read(run)?;
        let picture = |entry: PictureFile| {
            let is_name = Path::new(&entry.file).file_name().is_some_and(|name| name == entry.file.as_str());
            let mut png = Vec::new();
            let file = open_plain(&run.join(&entry.file)).ok().filter(|_| is_name)?;
            file.take(MAX_PNG_BYTES as u64 + 1).read_to_end(&mut png).ok()?;
            Some((Picture::from_png(&png, &entry.alt)?, entry.caption))
        };
        let pictures: Vec<_> = list.pictures.into_iter().take(MAX_PICTURES).filter_map(picture).collect();
        (!pictures.is_empty()).then_some(Self { title: list.title, pictures })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What a page needs of a file of `width` × `height` pixels.
    pub(crate) fn png(width: u32, height: u32) -> Vec<u8> {
        let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
        [PNG_START, &[0, 0, 0, 13], b"IHDR", &size].concat()
    }

    #[test]
    fn only_png_files_become_pictures() {
        let picture = Picture::from_png(&png(3, 2), "three \"by\" two").expect("a picture");
        assert_eq!((picture.size(), picture.uri()), ([3, 2], Some(picture.src.as_str())));
        let large = [png(3, 2), vec![0; MAX_PNG_BYTES]].concat();
        for bytes in [&b"<svg onload=..>"[..], &png(0, 2), &png(3, 2)[..20], &large, b""] {
            assert_eq!(Picture::from_png(bytes, ""), None);
        }
    }

    #[test]
    fn what_is_not_a_data_uri_of_a_png_is_not_shown() {
        for src in ["https://a/b.png", "data:image/svg+xml;base64,AA==", "data:image/png;base64,\" onerror=\"x"] {
            let picture = Picture { alt: String::new(), src: src.to_owned(), width: 1, height: 1 };
            assert_eq!(picture.uri(), None, "{src}");
        }
    }

    #[test]
    fn a_folder_s_pictures_are_found_in_it_and_nowhere_else() {
        let parent = tempfile::tempdir().expect("a folder");
        let run = parent.path().join("run");
        std::fs::create_dir(&run).expect("a folder");
        std::fs::write(parent.path().join("outside.png"), png(1, 1)).expect("a file");
        std::fs::write(run.join("a.png"), png(4, 4)).expect("a file");
        std::fs::write(run.join("b.png"), "text").expect("a file");
        let file = |name: &str| PictureFile { file: name.to_owned(), alt: "x".to_owned(), caption: name.to_owned() };
        let pictures = ["../outside.png", "missing.png", "b.png", "a.png", "."].map(file).to_vec();
        assert_eq!(Gallery::read(&run), None);
        PictureList { title: "Drawn".to_owned(), pictures }.write(&run).expect("a list");
        let gallery = Gallery::read(&run).expect("pictures");
        let captions: Vec<&str> = gallery.pictures.iter().map(|(_, caption)| caption.as_str()).collect();
        assert_eq!((gallery.title.as_str(), captions), ("Drawn", vec!["a.png"]));
    }
}
