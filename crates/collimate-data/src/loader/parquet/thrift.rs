//! Scans a Parquet file's footer and page headers, which are structs in Thrift's compact protocol.
//!
//! Extracts only what has to be checked before the crate `parquet` parses them: that lengths stay within the input, that
//! nesting is bounded (the crate recurses through the schema and reserves room for the children it claims), and the size a
//! page claims.

use std::io::Read;

/// How deep structs and lists may nest; those of real files nest about eight deep.
const MAX_NESTING: usize = 24;
/// How deep groups of columns may nest.
const MAX_SCHEMA_NESTING: usize = 32;
/// Limit on the columns and groups of a schema.
const MAX_SCHEMA_ELEMENTS: u64 = 10_000;

/// What a page header claims.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PageHead {
    /// Size of the header.
    pub(super) header_bytes: u64,
    /// The page's type.
    pub(super) kind: i64,
    /// Size after decompression.
    pub(super) unpacked_bytes: i64,
    /// Size in the file, without the header.
    pub(super) packed_bytes: i64,
    /// Values including nulls, or entries of a dictionary.
    pub(super) num_values: i64,
}

/// Reads the header of a page, of at most `limit` bytes.
pub(super) fn page_head(reader: impl Read, limit: u64) -> Result<PageHead, String> {
    let mut walk = Walk { reader, remaining: limit };
    let mut head = PageHead::default();
    let mut last = 0;
    while let Some((id, kind)) = walk.field(&mut last)? {
        match (id, kind) {
            (1, I32) => head.kind = walk.zigzag()?,
            (2, I32) => head.unpacked_bytes = walk.zigzag()?,
            (3, I32) => head.packed_bytes = walk.zigzag()?,
            // The headers of a data page, a dictionary page and a version 2 data page. Each begins with its count.
            (5 | 7 | 8, STRUCT) => {
                let mut last = 0;
                while let Some((id, kind)) = walk.field(&mut last)? {
                    match (id, kind) {
                        (1, I32) => head.num_values = walk.zigzag()?,
                        _ => walk.skip(kind, 2)?,
                    }
                }
            }
            _ => walk.skip(kind, 1)?,
        }
    }
    head.header_bytes = limit - walk.remaining;
    Ok(head)
}

/// Checks a file's footer: that its lengths stay within it, and how deep its schema nests.
pub(super) fn check_footer(bytes: &[u8]) -> Result<(), String> {
    let mut walk = Walk { reader: bytes, remaining: bytes.len() as u64 };
    let mut last = 0;
    while let Some((id, kind)) = walk.field(&mut last)? {
        match (id, kind) {
            (2, LIST) => check_schema(&mut walk)?,
            _ => walk.skip(kind, 1)?,
        }
    }
    Ok(())
}

/// Checks the schema, a list of groups and columns in which each group precedes its children.
fn check_schema<R: Read>(walk: &mut Walk<R>) -> Result<(), String> {
    let (count, kind) = walk.list()?;
    if kind != STRUCT || count > MAX_SCHEMA_ELEMENTS {
        return Err(format!("a schema of {count} columns and groups, the limit is {MAX_SCHEMA_ELEMENTS}"));
    }
    // Number of children still to come, for each open group.
    let mut open: Vec<i64> = Vec::new();
    for _ in 0..count {
        let (mut last, mut children) = (0, 0);
        while let Some((id, kind)) = walk.field(&mut last)? {
            match (id, kind) {
                (5, I32) => children = walk.zigzag()?,
                _ => walk.skip(kind, 2)?,
            }
        }
        if let Some(parent) = open.last_mut() {
            *parent -= 1;
        }
        if children > 0 {
            open.push(children);
        }
        while open.last().is_some_and(|remaining| *remaining <= 0) {
            open.pop();
        }
        if open.len() > MAX_SCHEMA_NESTING {
            return Err(format!("its columns nest deeper than {MAX_SCHEMA_NESTING} levels"));
        }
    }
    Ok(())
}

const I32: u8 = 5;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

struct Walk<R> {
    reader: R,
    /// Bytes that may still be read.
    remaining: u64,
}

impl<R: Read> Walk<R> {
    fn byte(&mut self) -> Result<u8, String> {
        self.remaining = self.remaining.checked_sub(1).ok_or_else(truncated)?;
        let mut byte = [0];
        self.reader.read_exact(&mut byte).map_err(|error| error.to_string())?;
        Ok(byte[0])
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("an endless number".to_owned())
    }

    fn zigzag(&mut self) -> Result<i64, String> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Id and type of the next field; `None` at the end of the struct.
    fn field(&mut self, last: &mut i64) -> Result<Option<(i64, u8)>, String> {
        let head = self.byte()?;
        if head == 0 {
            return Ok(None);
        }
        *last = match head >> 4 {
            0 => self.zigzag()?,
            delta => last.saturating_add(i64::from(delta)),
        };
        Ok(Some((*last, head & 0x0f)))
    }

    /// Number and type of a list's elements, each of which takes at least a byte.
    fn list(&mut self) -> Result<(u64, u8), String> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.varint()?,
            count => u64::from(count),
        };
        if count > self.remaining {
            return Err(truncated());
        }
        Ok((count, head & 0x0f))
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Result<(), String> {
        if depth > MAX_NESTING {
            return Err(format!("it nests deeper than {MAX_NESTING} levels"));
        }
        match kind {
            // A boolean field's value is its type. Elements of a list take a byte, see `element`.
            1 | 2 => {}
            3 => _ = self.byte()?,
            4..=6 => _ = self.varint()?,
            7 => self.bytes(8)?,
            8 => {
                let length = self.varint()?;
                self.bytes(length)?;
            }
            9 | 10 => {
                let (count, kind) = self.list()?;
                (0..count).try_for_each(|_| self.element(kind, depth + 1))?;
            }
            11 => {
                let count = self.varint()?;
                if count > self.remaining {
                    return Err(truncated());
                }
                let kinds = if count > 0 { self.byte()? } else { 0 };
                for _ in 0..count {
                    self.element(kinds >> 4, depth + 1)?;
                    self.element(kinds & 0x0f, depth + 1)?;
                }
            }
            STRUCT => {
                let mut last = 0;
                while let Some((_, kind)) = self.field(&mut last)? {
                    self.skip(kind, depth + 1)?;
                }
            }
            13 => self.bytes(16)?,
            _ => return Err(format!("a value of the unknown type {kind}")),
        }
        Ok(())
    }

    fn element(&mut self, kind: u8, depth: usize) -> Result<(), String> {
        match kind {
            1 | 2 => self.byte().map(|_| ()),
            kind => self.skip(kind, depth),
        }
    }

    fn bytes(&mut self, count: u64) -> Result<(), String> {
        self.remaining = self.remaining.checked_sub(count).ok_or_else(truncated)?;
        let copied = std::io::copy(&mut self.reader.by_ref().take(count), &mut std::io::sink());
        match copied.map_err(|error| error.to_string())? == count {
            true => Ok(()),
            false => Err(truncated()),
        }
    }
}

fn truncated() -> String {
    "its metadata is truncated".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_header_yields_its_sizes() {
        // Type 0, 300 bytes unpacked, 20 packed, data page header with 7 values and an encoding, end, end.
        let bytes = [0x15, 0x00, 0x15, 0xd8, 0x04, 0x15, 0x28, 0x2c, 0x15, 0x0e, 0x15, 0x00, 0x00, 0x00, 0xff];
        let head = page_head(&bytes[..], 1000).unwrap();
        let expected = PageHead { header_bytes: 14, kind: 0, unpacked_bytes: 300, packed_bytes: 20, num_values: 7 };
        assert_eq!(head, expected);
    }

    #[test]
    fn a_length_beyond_the_end_is_refused_before_anything_is_read() {
        // A string claiming 2^28 - 1 bytes.
        assert_eq!(page_head(&[0x18, 0xff, 0xff, 0xff, 0x7f][..], 100), Err(truncated()));
        // A list claiming as many elements.
        assert_eq!(check_footer(&[0x19, 0xf5, 0xff, 0xff, 0xff, 0x7f]), Err(truncated()));
    }

    #[test]
    fn nesting_is_bounded() {
        let structs = [0x1c; 40];
        assert!(check_footer(&structs).unwrap_err().contains("nests deeper than 24 levels"));
        // A schema of 40 nested groups: field 5, one child.
        let mut schema = vec![0x29, 0xfc, 40];
        schema.extend([0x55, 0x02, 0x00].repeat(40));
        assert!(check_footer(&schema).unwrap_err().contains("nest deeper than 32 levels"));
    }
}
