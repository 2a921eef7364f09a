//! Names the kind of a file that is not data, by its first bytes.

/// What can be read, for messages.
pub(super) const READ: &str = "JSON Lines, a JSON list or Parquet, the first two also in gzip or Zstandard, are read";

/// Whether a file begins like a safetensors file: a length of eight bytes, then JSON.
pub(super) fn is_safetensors(start: &[u8]) -> bool {
    matches!(start, [_, _, _, _, _, 0, 0, 0, b'{', ..])
}

/// Names the kind of a file that begins with these bytes and is none of those that are read; `is_file` is false for a stream.
pub(super) fn other_kind(start: &[u8], is_file: bool) -> Option<String> {
    let kind = match start {
        [b'P', b'A', b'R', b'1', ..] if !is_file => {
            return Some("this is Parquet, which can only be read from a file, not from a stream".to_owned());
        }
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] if !is_file => {
            return Some(
                "this is compressed; decompress the stream first, or name the file, which can be read directly"
                    .to_owned(),
            );
        }
        [b'P', b'K', 3, 4, ..] => "a ZIP archive, or a PyTorch, NumPy or Excel file in one",
        [b'A', b'R', b'R', b'O', b'W', b'1', ..] | [0xff, 0xff, 0xff, 0xff, ..] => {
            "an Arrow file (`to_parquet` writes what is read)"
        }
        [b'G', b'G', b'U', b'F', ..] => "a GGUF model",
        [b'S', b'Q', b'L', b'i', b't', b'e', ..] => "an SQLite database",
        [b'B', b'Z', b'h', ..] => "a bzip2 archive",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "an xz archive",
        [b'%', b'P', b'D', b'F', ..] => "a PDF document",
        [0x80, 2..=5, ..] => "a Python pickle, which is never loaded",
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "text in UTF-16 (UTF-8 is read)",
        start if is_safetensors(start) => {
            "a safetensors file, and one of token maps can only be read from a file, not from a stream"
        }
        _ => text_kind(start)?,
    };
    Some(format!("this is {kind}; {READ}"))
}

/// Names the kind of a text.
fn text_kind(start: &[u8]) -> Option<&'static str> {
    let end = start.iter().position(|byte| *byte == b'\n').unwrap_or(start.len());
    let line = std::str::from_utf8(&start[..end]).ok()?.trim();
    match line.chars().next()? {
        '{' | '[' => None,
        '<' => Some("HTML or XML, perhaps a page that was downloaded instead of the file"),
        _ if line.starts_with("version https://git-lfs") => {
            Some("a pointer of Git LFS: `git lfs pull` fetches the file")
        }
        _ if line.contains('\t') => Some("a table of tab-separated values"),
        _ if line.starts_with("---") || line.starts_with('#') || is_key(line) => {
            Some("YAML, perhaps a recipe: `collimate train RECIPE`")
        }
        _ if line.contains(',') => {
            Some("a CSV table (pandas' `to_json(lines=True, orient=\"records\")` writes what is read)")
        }
        _ => None,
    }
}

/// Whether a line is `key:` or `key: value`.
fn is_key(line: &str) -> bool {
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    line.split_once(':').is_some_and(|(name, value)| is_name(name) && (value.is_empty() || value.starts_with(' ')))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(b"prompt,chosen,rejected\nA,B,C\n", "a CSV table")]
    #[case(b"prompt\tchosen\nA\tB\n", "tab-separated")]
    #[case(b"\x40\x01\0\0\0\0\0\0{\"weight\":", "a safetensors file")]
    #[case(b"PK\x03\x04", "a ZIP archive")]
    #[case(b"ARROW1\0\0", "an Arrow file")]
    #[case(b"model_name_or_path: models/base\n", "perhaps a recipe")]
    #[case(b"# recipe.yaml\nmodel_name_or_path: models/base\n", "perhaps a recipe")]
    #[case(b"version https://git-lfs.github.com/spec/v1\n", "Git LFS")]
    #[case(b"<!DOCTYPE html>", "HTML")]
    fn a_kind_is_named_with_what_is_read(#[case] start: &[u8], #[case] expected: &str) {
        let text = other_kind(start, true).unwrap();
        assert!(text.contains(expected) && text.contains("JSON Lines, a JSON list or Parquet"), "{text}");
    }

    #[rstest]
    #[case(b"{\"prompt\": 3")]
    #[case(b"3\n")]
    #[case(b"plain text")]
    #[case(b"")]
    fn anything_else_is_left_to_the_parser(#[case] start: &[u8]) {
        assert_eq!(other_kind(start, true), None);
    }
}
