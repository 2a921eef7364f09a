//! Compressed files, and how much may come out of one.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

/// What any file may unfold to, in bytes.
const BASE_BYTES: u64 = 16 << 20;
/// What it may unfold to beyond that for each byte of the file: text of people shrinks to a third, of machines to a
/// hundredth.
const PER_BYTE: u64 = 1000;

/// The first bytes of compressed files.
pub(super) const GZIP: &[u8] = b"\x1f\x8b";
pub(super) const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";

/// The most that a file of this length may unfold to.
pub(super) fn most_bytes(file_bytes: u64) -> u64 {
    BASE_BYTES.saturating_add(file_bytes.saturating_mul(PER_BYTE))
}

/// The text of a compressed file that begins with [`GZIP`] or [`ZSTD`].
pub(super) fn unpacked(reader: impl BufRead + Send + 'static, is_gzip: bool, file_bytes: u64) -> io::Result<Unpacked> {
    let reader: Box<dyn Read + Send> = match is_gzip {
        true => Box::new(MultiGzDecoder::new(reader)),
        false => Box::new(zstd::Decoder::with_buffer(reader)?),
    };
    Ok(BufReader::with_capacity(1 << 18, Bounded { reader, left: most_bytes(file_bytes) }))
}

pub(super) type Unpacked = BufReader<Bounded>;

/// A reader that ends with an error where more comes than a sound file holds.
pub(super) struct Bounded {
    reader: Box<dyn Read + Send>,
    left: u64,
}

impl Read for Bounded {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let broken = |error: io::Error| io::Error::new(error.kind(), format!("its compressed data is broken: {error}"));
        let count = self.reader.read(into).map_err(broken)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other(format!("it unfolds to more than {PER_BYTE} times its size"))),
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_unfolds_without_end_is_an_error() {
        let mut bounded = Bounded { reader: Box::new(io::repeat(b'\n')), left: 1000 };
        let error = io::copy(&mut bounded, &mut io::sink()).unwrap_err();
        assert!(error.to_string().contains("unfolds to more than 1000 times its size"), "{error}");
    }
}
