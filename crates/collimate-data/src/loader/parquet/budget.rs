//! What a file may unfold to: bounds that a few bytes which stand for very many cannot pass.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::loader::lines::MAX_LINE_BYTES;

/// The largest page, in bytes: writers make pages of some megabyte, larger ones only of single texts.
pub(super) const MAX_PAGE_BYTES: u64 = 128 << 20;
/// Most values of a page: writers end pages at 20,000 rows or, the old ones, at a megabyte of values of a bit or two.
pub(super) const MAX_PAGE_VALUES: u64 = 8 << 20;
/// Most values of a dictionary: writers give one up at a megabyte.
pub(super) const MAX_DICTIONARY_VALUES: u64 = 4 << 20;
/// Most values, lists and objects of a row.
const MAX_ROW_VALUES: u64 = 1 << 20;

/// What is left of a file's bounds. Counters only: which thread counts does not matter.
pub(super) struct Budget {
    file_bytes: u64,
    page_bytes: AtomicU64,
    values: AtomicU64,
    text_bytes: AtomicU64,
    row_values: AtomicU64,
    row_text_bytes: AtomicU64,
}

impl Budget {
    /// The bounds of a file of this length: so much for any file, and so much for each byte of it.
    pub(super) fn of(file_bytes: u64) -> Self {
        let bound = |base: u64, per_byte: u64| AtomicU64::new(base.saturating_add(file_bytes.saturating_mul(per_byte)));
        Self {
            file_bytes,
            page_bytes: bound(MAX_PAGE_BYTES, 1000),
            values: bound(1 << 20, 64),
            text_bytes: bound(MAX_LINE_BYTES as u64, 1000),
            row_values: AtomicU64::new(MAX_ROW_VALUES),
            row_text_bytes: AtomicU64::new(MAX_LINE_BYTES as u64),
        }
    }

    /// Whether so many rows can stand in the file: each takes a byte of it.
    pub(super) fn check_rows(&self, num_rows: u64) -> Result<(), String> {
        match num_rows > self.file_bytes.saturating_add(1 << 16) {
            true => Err(format!("it should have {num_rows} rows, more than bytes")),
            false => Ok(()),
        }
    }

    /// Bytes and values of a page that is about to be unpacked.
    pub(super) fn take_page(&self, bytes: u64, values: u64) -> Result<(), String> {
        take(&self.page_bytes, bytes, "bytes")?;
        take(&self.values, values, "values")
    }

    pub(super) fn begin_row(&self) {
        self.row_values.store(MAX_ROW_VALUES, Ordering::Relaxed);
        self.row_text_bytes.store(MAX_LINE_BYTES as u64, Ordering::Relaxed);
    }

    /// Values, lists and objects of this row.
    pub(super) fn take_row_values(&self, count: u64) -> Result<(), String> {
        let too_many = |_| format!("the row has more than {MAX_ROW_VALUES} values");
        take(&self.row_values, count, "values").map_err(too_many)
    }

    /// Bytes of text of this row.
    pub(super) fn take_text(&self, bytes: u64) -> Result<(), String> {
        let too_long = |_| format!("the row is longer than {MAX_LINE_BYTES} bytes");
        take(&self.row_text_bytes, bytes, "bytes").map_err(too_long)?;
        take(&self.text_bytes, bytes, "bytes of text")
    }
}

fn take(left: &AtomicU64, count: u64, what: &str) -> Result<(), String> {
    let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(count));
    taken.map(|_| ()).map_err(|_| format!("it unfolds to far more {what} than a file of its size can hold"))
}
