//! Compressed files, with a limit on their decompressed size.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

/// Decompressed size that any file may have, in bytes.
const BASE_BYTES: u64 = 16 << 20;
/// Further decompressed bytes per byte of the file. Natural text compresses to a third, generated text to a hundredth.
const PER_BYTE: u64 = 1000;

/// Magic numbers of compressed files.
pub(super) const GZIP: &[u8] = b"\x1f\x8b";
pub(super) const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";

/// Limit on the decompressed size of a file of this length.
pub(super) fn max_bytes(file_bytes: u64) -> u64 {
    BASE_BYTES.saturating_add(file_bytes.saturating_mul(PER_BYTE))
}

/// Decompresses a file that begins with [`GZIP`] or [`ZSTD`].
pub(super) fn decompress(
    reader: impl BufRead + Send + 'static,
    is_gzip: bool,
    file_bytes: u64,
) -> io::Result<Decompressed> {
    let reader: Box<dyn Read + Send> = match is_gzip {
        true => Box::new(MultiGzDecoder::new(reader)),
        false => Box::new(zstd::Decoder::with_buffer(reader)?),
    };
    Ok(BufReader::with_capacity(1 << 18, Bounded { reader, remaining: max_bytes(file_bytes) }))
}

pub(super) type Decompressed = BufReader<Bounded>;

/// A reader that fails once a file decompresses to more than [`max_bytes`] allows.
pub(super) struct Bounded {
    reader: Box<dyn Read + Send>,
    remaining: u64,
}

impl Read for Bounded {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let damaged =
            |error: io::Error| io::Error::new(error.kind(), format!("its compressed data is damaged: {error}"));
        let count = self.reader.read(into).map_err(damaged)?;
        match self.remaining.checked_sub(count as u64) {
            Some(remaining) => self.remaining = remaining,
            None => return Err(io::Error::other(format!("it decompresses to more than {PER_BYTE} times its size"))),
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endless_output_is_an_error() {
        let mut bounded = Bounded { reader: Box::new(io::repeat(b'\n')), remaining: 1000 };
        let error = io::copy(&mut bounded, &mut io::sink()).unwrap_err();
        assert!(error.to_string().contains("decompresses to more than 1000 times its size"), "{error}");
    }
}
