//! A column's pages, checked before they are decompressed and again before they are decoded.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parquet::basic::{Compression, Encoding, Type};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

use super::budget::{Budget, MAX_DICTIONARY_VALUES, MAX_PAGE_BYTES, MAX_PAGE_VALUES};
use super::thrift::{PageHead, page_head};

/// Page types, as numbered in page headers.
const DATA_PAGE: i64 = 0;
const DICTIONARY_PAGE: i64 = 2;
const DATA_PAGE_V2: i64 = 3;

/// Limit on the values that one row reads per column: its own, and those of other rows on its pages.
const MAX_PULLED_VALUES: u64 = 2 * MAX_PAGE_VALUES;

/// The pages of a column chunk, within limits.
pub(super) struct CheckedPages {
    inner: SerializedPageReader<File>,
    file: Arc<File>,
    budget: Arc<Budget>,
    /// Values of the pages read since the row began.
    pulled: Arc<AtomicU64>,
    physical: Type,
    max_rep: i16,
    max_def: i16,
    /// Offset of the next page's header.
    offset: u64,
    /// End of the column chunk.
    end: u64,
    /// The next header has been checked.
    is_checked: bool,
}

impl CheckedPages {
    pub(super) fn open(
        file: &Arc<File>,
        chunk: &ColumnChunkMetaData,
        num_rows: usize,
        budget: &Arc<Budget>,
        pulled: &Arc<AtomicU64>,
    ) -> std::result::Result<Self, String> {
        if chunk.file_path().is_some() {
            return Err("a column is in another file, which is not supported".to_owned());
        }
        if let Compression::BROTLI(_) | Compression::LZO = chunk.compression() {
            let codec = match chunk.compression() {
                Compression::LZO => "lzo",
                _ => "brotli",
            };
            return Err(format!("the codec {codec} is not supported; use snappy, gzip, zstd, lz4 or none"));
        }
        let (offset, length) = chunk.byte_range();
        let end = offset.checked_add(length).filter(|end| *end <= Length::len(&**file));
        let end = end.ok_or_else(|| "it is truncated: a column extends beyond its end".to_owned())?;
        let inner = SerializedPageReader::new(Arc::clone(file), chunk, num_rows, None);
        let descr = chunk.column_descr();
        Ok(Self {
            inner: inner.map_err(|error| error.to_string())?,
            file: Arc::clone(file),
            budget: Arc::clone(budget),
            pulled: Arc::clone(pulled),
            physical: descr.physical_type(),
            max_rep: descr.max_rep_level(),
            max_def: descr.max_def_level(),
            offset,
            end,
            is_checked: false,
        })
    }

    /// Checks the next page's header, once.
    fn check_head(&mut self) -> std::result::Result<(), String> {
        if self.is_checked || self.offset >= self.end {
            return Ok(());
        }
        let reader = self.file.get_read(self.offset).map_err(|error| error.to_string())?;
        let head = page_head(reader, self.end - self.offset)?;
        self.check_sizes(&head)?;
        self.offset = self.offset.saturating_add(head.header_bytes).saturating_add(head.packed_bytes as u64);
        self.is_checked = true;
        Ok(())
    }

    fn check_sizes(&self, head: &PageHead) -> std::result::Result<(), String> {
        let size = |size: i64| u64::try_from(size).map_err(|_| "a page of negative size".to_owned());
        let (unpacked, packed, values) = (size(head.unpacked_bytes)?, size(head.packed_bytes)?, size(head.num_values)?);
        if unpacked.max(packed) > MAX_PAGE_BYTES {
            return Err(format!("a page of {} bytes, the limit is {MAX_PAGE_BYTES}", unpacked.max(packed)));
        }
        if !matches!(head.kind, DATA_PAGE | DICTIONARY_PAGE | DATA_PAGE_V2) {
            return Err(format!("a page of type {}, which is not supported", head.kind));
        }
        let is_dictionary = head.kind == DICTIONARY_PAGE;
        // Each entry of a dictionary takes at least a byte.
        let limit = if is_dictionary { MAX_DICTIONARY_VALUES.min(unpacked.saturating_add(1)) } else { MAX_PAGE_VALUES };
        if values > limit {
            return Err(format!("a page of {values} values, the limit is {limit}"));
        }
        self.budget.take_page(unpacked, values)?;
        let pulled = self.pulled.fetch_add(if is_dictionary { 0 } else { values }, Ordering::Relaxed);
        match pulled > MAX_PULLED_VALUES {
            true => Err(format!("a row has more than {MAX_PULLED_VALUES} values in a column")),
            false => Ok(()),
        }
    }

    /// Checks the number of lengths that a text encoding claims, since the crate's decoder allocates for it.
    fn check_values(&self, page: &Page) -> std::result::Result<(), String> {
        if !page.is_data_page() {
            return Ok(());
        }
        match page.encoding() {
            Encoding::DELTA_BYTE_ARRAY => {
                // Its second list of lengths is somewhere inside the page.
                Err("the encoding DELTA_BYTE_ARRAY is not supported; write the file with another".to_owned())
            }
            Encoding::DELTA_LENGTH_BYTE_ARRAY if self.physical != Type::BYTE_ARRAY => {
                Err("lengths for values of fixed length".to_owned())
            }
            Encoding::DELTA_LENGTH_BYTE_ARRAY => match self.count_lengths(page) {
                Some(count) if count <= u64::from(page.num_values()) => Ok(()),
                Some(count) => Err(format!("{count} lengths for {} values", page.num_values())),
                None => Err("a page is truncated".to_owned()),
            },
            _ => Ok(()),
        }
    }

    /// The number of lengths: the third number of the list of lengths, with which the values begin.
    fn count_lengths(&self, page: &Page) -> Option<u64> {
        let mut rest = self.encoded_values(page)?;
        let mut number = || {
            let mut value = 0_u64;
            for shift in (0..64).step_by(7) {
                let (byte, after) = rest.split_first()?;
                rest = after;
                value |= u64::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    return Some(value);
                }
            }
            None
        };
        number()?;
        number()?;
        number()
    }

    /// The part of a page after its levels.
    fn encoded_values<'a>(&self, page: &'a Page) -> Option<&'a [u8]> {
        match page {
            Page::DataPageV2 { buf, rep_levels_byte_len, def_levels_byte_len, .. } => {
                buf.get(rep_levels_byte_len.checked_add(*def_levels_byte_len)? as usize..)
            }
            Page::DataPage { buf, num_values, rep_level_encoding, def_level_encoding, .. } => {
                let levels = [(self.max_rep, rep_level_encoding), (self.max_def, def_level_encoding)];
                levels.iter().filter(|(max, _)| *max > 0).try_fold(&buf[..], |rest, (max, encoding)| {
                    let bits = u64::from(16 - max.leading_zeros());
                    let length = match encoding {
                        Encoding::RLE => u64::from(u32::from_le_bytes(rest.get(..4)?.try_into().ok()?)) + 4,
                        _ => (bits * u64::from(*num_values)).div_ceil(8),
                    };
                    rest.get(usize::try_from(length).ok()?..)
                })
            }
            Page::DictionaryPage { buf, .. } => Some(&buf[..]),
        }
    }
}

fn refused(problem: String) -> ParquetError {
    ParquetError::General(problem)
}

impl PageReader for CheckedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        self.check_head().map_err(refused)?;
        self.is_checked = false;
        let page = self.inner.get_next_page()?;
        if let Some(page) = &page {
            self.check_values(page).map_err(refused)?;
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.check_head().map_err(refused)?;
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        Err(refused("pages cannot be skipped".to_owned()))
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.check_head().map_err(refused)?;
        self.inner.at_record_boundary()
    }
}

impl Iterator for CheckedPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Result<Page>> {
        self.get_next_page().transpose()
    }
}
