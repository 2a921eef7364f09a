//! The orientation that EXIF data gives an image.

/// The tag of the orientation.
const ORIENTATION: u16 = 0x0112;
/// An unsigned number of 16 bits.
const SHORT: u16 = 3;

/// The orientation in EXIF data, from its TIFF header on or with the `Exif` mark before it; 1 (as it is) if there is none.
pub(crate) fn orientation(exif: &[u8]) -> u16 {
    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    in_tiff(tiff).unwrap_or(1)
}

/// The orientation in an XMP packet, where EXIF has none.
pub(crate) fn xmp_orientation(packet: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(packet);
    let (_, rest) = text.split_once("tiff:Orientation")?;
    let rest = rest.strip_prefix("=\"").or_else(|| rest.strip_prefix('>'))?;
    rest.chars().next()?.to_digit(10).map(|digit| digit as u16)
}

fn in_tiff(tiff: &[u8]) -> Option<u16> {
    let is_little = match tiff.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let short = |at: usize| -> Option<u16> {
        let bytes = *tiff.get(at..)?.first_chunk::<2>()?;
        Some(if is_little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let offset = *tiff.get(4..)?.first_chunk::<4>()?;
    let start = if is_little { u32::from_le_bytes(offset) } else { u32::from_be_bytes(offset) } as usize;
    let count = usize::from(short(start)?);
    let mut entries = (0..count).filter_map(|i| start.checked_add(2 + 12 * i));
    let entry = entries.find(|&at| short(at) == Some(ORIENTATION) && short(at + 2) == Some(SHORT))?;
    short(entry + 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiff(is_little: bool, tag: u16, value: u16) -> Vec<u8> {
        let short = |n: u16| if is_little { n.to_le_bytes() } else { n.to_be_bytes() };
        let long = |n: u32| if is_little { n.to_le_bytes() } else { n.to_be_bytes() };
        let mut bytes = if is_little { b"II*\0".to_vec() } else { b"MM\0*".to_vec() };
        bytes.extend(long(8));
        bytes.extend(short(1));
        bytes.extend([short(tag), short(SHORT)].concat());
        bytes.extend(long(1));
        bytes.extend([short(value), [0, 0]].concat());
        bytes
    }

    #[test]
    fn both_orders_of_bytes_are_read() {
        assert_eq!(orientation(&tiff(true, ORIENTATION, 6)), 6);
        assert_eq!(orientation(&[b"Exif\0\0".to_vec(), tiff(false, ORIENTATION, 3)].concat()), 3);
        assert_eq!(orientation(&tiff(true, 0x0110, 6)), 1);
    }

    #[test]
    fn a_cut_or_lying_header_gives_none() {
        let whole = tiff(true, ORIENTATION, 6);
        for len in 0..whole.len() - 2 {
            assert_eq!(orientation(&whole[..len]), 1, "{len}");
        }
        let mut far = whole;
        far[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(orientation(&far), 1);
    }

    #[test]
    fn a_packet_has_it_as_attribute_or_element() {
        assert_eq!(xmp_orientation(b"<rdf tiff:Orientation=\"8\"/>"), Some(8));
        assert_eq!(xmp_orientation(b"<tiff:Orientation>3</tiff:Orientation>"), Some(3));
        assert_eq!(xmp_orientation(b"<rdf/>"), None);
    }
}
