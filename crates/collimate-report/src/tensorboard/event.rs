//! The `Event` messages of a run, in protobuf's encoding.
//!
//! Field numbers are those of `event.proto`, `summary.proto` and `tensor.proto`.

/// Wire types.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// `DataType.DT_STRING`.
const STRING: u64 = 7;
/// `SessionLog.SessionStatus.START`.
const START: u64 = 1;

/// The first event of a file.
pub(super) fn version(wall_time: f64) -> Vec<u8> {
    event(wall_time, 0, &bytes(3, b"brain.Event:2"))
}

/// The start of a process: events of earlier files at this step or later are dropped.
pub(super) fn session_start(wall_time: f64, step: u64) -> Vec<u8> {
    event(wall_time, step, &bytes(7, &varint(1, START)))
}

/// Figures of a step, by tag.
pub(super) fn scalars(wall_time: f64, step: i64, figures: &[(String, f32)]) -> Vec<u8> {
    let value = |(tag, figure): &(String, f32)| bytes(1, &[bytes(1, tag.as_bytes()), fixed32(2, *figure)].concat());
    let summary: Vec<u8> = figures.iter().flat_map(value).collect();
    event(wall_time, step.max(0) as u64, &bytes(5, &summary))
}

/// A text as TensorBoard's text plugin expects it: a tensor of one string.
pub(super) fn text(wall_time: f64, tag: &str, text: &str) -> Vec<u8> {
    let shape = bytes(2, &bytes(2, &varint(1, 1)));
    let tensor = [varint(1, STRING), shape, bytes(8, text.as_bytes())].concat();
    let metadata = bytes(1, &bytes(1, b"text"));
    let value = [bytes(1, tag.as_bytes()), bytes(8, &tensor), bytes(9, &metadata)].concat();
    event(wall_time, 0, &bytes(5, &bytes(1, &value)))
}

fn event(wall_time: f64, step: u64, what: &[u8]) -> Vec<u8> {
    [key(1, FIXED64), wall_time.to_le_bytes().to_vec(), varint(2, step), what.to_vec()].concat()
}

fn key(field: u64, kind: u64) -> Vec<u8> {
    base128(field << 3 | kind)
}

fn varint(field: u64, value: u64) -> Vec<u8> {
    [key(field, VARINT), base128(value)].concat()
}

fn bytes(field: u64, content: &[u8]) -> Vec<u8> {
    [&key(field, BYTES)[..], &base128(content.len() as u64), content].concat()
}

fn fixed32(field: u64, value: f32) -> Vec<u8> {
    [&key(field, FIXED32)[..], &value.to_le_bytes()].concat()
}

/// Base-128 varint: seven bits a byte, lowest first; the top bit marks that more follow.
fn base128(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(10);
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(1, &[1])]
    #[case(127, &[127])]
    #[case(300, &[0b1010_1100, 0b10])]
    fn varints_are_those_of_protobuf(#[case] value: u64, #[case] expected: &[u8]) {
        assert_eq!(base128(value), expected);
    }

    #[test]
    fn a_scalar_event_byte_by_byte() {
        let value = [&[0x0a, 1, b'x', 0x15][..], &1.5f32.to_le_bytes()].concat();
        let expected = [&[0x09][..], &2.0f64.to_le_bytes(), &[0x10, 3, 0x2a, 10, 0x0a, 8], &value].concat();
        assert_eq!(scalars(2.0, 3, &[("x".to_owned(), 1.5)]), expected);
    }
}
