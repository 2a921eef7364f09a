//! Limits on what a file may decode to, since a few bytes can stand for a great many values.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::loader::lines::MAX_LINE_BYTES;

/// Size limit of a page, in bytes. Writers' pages are about a megabyte; larger ones hold a single long text.
pub(super) const MAX_PAGE_BYTES: u64 = 128 << 20;
/// Limit on the values in a page. Writers end a page at 20,000 rows; older ones at a megabyte, of values of a bit or two.
pub(super) const MAX_PAGE_VALUES: u64 = 8 << 20;
/// Limit on the values in a dictionary. Writers abandon a dictionary at a megabyte.
pub(super) const MAX_DICTIONARY_VALUES: u64 = 4 << 20;
/// Limit on the values, lists and objects in a row.
const MAX_ROW_VALUES: u64 = 1 << 20;

/// What remains of a file's limits. Atomic only so that the readers can share it; order does not matter.
pub(super) struct Budget {
    file_bytes: u64,
    page_bytes: AtomicU64,
    values: AtomicU64,
    text_bytes: AtomicU64,
    row_values: AtomicU64,
    row_text_bytes: AtomicU64,
}

impl Budget {
    /// The limits of a file with this length: a base, plus a multiple of the length.
    pub(super) fn new(file_bytes: u64) -> Self {
        let limit = |base: u64, per_byte: u64| AtomicU64::new(base.saturating_add(file_bytes.saturating_mul(per_byte)));
        Self {
            file_bytes,
            page_bytes: limit(MAX_PAGE_BYTES, 1000),
            values: limit(1 << 20, 64),
            text_bytes: limit(MAX_LINE_BYTES as u64, 1000),
            row_values: AtomicU64::new(MAX_ROW_VALUES),
            row_text_bytes: AtomicU64::new(MAX_LINE_BYTES as u64),
        }
    }

    /// Refuses a file that claims more rows than it has bytes.
    pub(super) fn check_rows(&self, num_rows: u64) -> Result<(), String> {
        match num_rows > self.file_bytes.saturating_add(1 << 16) {
            true => Err(format!("it claims {num_rows} rows, more than bytes")),
            false => Ok(()),
        }
    }

    /// Charges for a page that is about to be decompressed.
    pub(super) fn take_page(&self, bytes: u64, values: u64) -> Result<(), String> {
        take(&self.page_bytes, bytes, "bytes")?;
        take(&self.values, values, "values")
    }

    /// Resets the limits of a row.
    pub(super) fn begin_row(&self) {
        self.row_values.store(MAX_ROW_VALUES, Ordering::Relaxed);
        self.row_text_bytes.store(MAX_LINE_BYTES as u64, Ordering::Relaxed);
    }

    /// Charges for values, lists or objects in the current row.
    pub(super) fn take_row_values(&self, count: u64) -> Result<(), String> {
        let too_many = |_| format!("the row has more than {MAX_ROW_VALUES} values");
        take(&self.row_values, count, "values").map_err(too_many)
    }

    /// Charges for text in the current row.
    pub(super) fn take_text(&self, bytes: u64) -> Result<(), String> {
        let too_long = |_| format!("the row is longer than {MAX_LINE_BYTES} bytes");
        take(&self.row_text_bytes, bytes, "bytes").map_err(too_long)?;
        take(&self.text_bytes, bytes, "bytes of text")
    }
}

fn take(remaining: &AtomicU64, count: u64, what: &str) -> Result<(), String> {
    let taken = remaining.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |remaining| remaining.checked_sub(count));
    taken.map(|_| ()).map_err(|_| format!("it decodes to far more {what} than a file of its size can hold"))
}
