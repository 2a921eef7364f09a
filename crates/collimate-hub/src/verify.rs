//! Whether the bytes of a file are those that the hub names by its ETag.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Checks a complete file of `size` bytes. The hub's ETag is the SHA-256 of a large file and git's hash of a small one;
/// other servers may give other ETags, which say nothing about the bytes.
///
/// # Errors
/// The file cannot be read. The inner error says what differs.
pub(crate) fn verify(file: &mut File, size: u64, etag: &str) -> io::Result<Result<(), String>> {
    let is_hex = etag.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (found, name) = match etag.len() {
        64 if is_hex => (vec![digest::<Sha256>(file, b"")?], "SHA-256"),
        // A mirror may give the SHA-1 of the bytes alone.
        40 if is_hex => {
            let header = format!("blob {size}\0");
            (vec![digest::<Sha1>(file, header.as_bytes())?, digest::<Sha1>(file, b"")?], "SHA-1")
        }
        _ => return Ok(Ok(())),
    };
    match found.iter().any(|found| found.eq_ignore_ascii_case(etag)) {
        true => Ok(Ok(())),
        false => Ok(Err(format!("its {name} is {}, and the hub says {etag}", found[0]))),
    }
}

fn digest<D: Digest>(file: &mut File, header: &[u8]) -> io::Result<String> {
    let mut digest = D::new_with_prefix(header);
    file.seek(SeekFrom::Start(0))?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => digest.update(&buffer[..read]),
        }
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rstest::rstest;

    use super::*;

    #[rstest]
    // `printf abc | sha256sum`, `printf abc | git hash-object --stdin`, `printf abc | sha1sum`.
    #[case("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", true)]
    #[case("f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f", true)]
    #[case("a9993e364706816aba3e25717850c26c9cd0d89d", true)]
    #[case("BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD", true)]
    #[case("ca7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", false)]
    #[case("f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7e", false)]
    #[case("5d41402abc4b2a76b9719d911017c592", true)]
    #[case("of-another-kind", true)]
    fn the_etag_of_the_hub_is_a_hash(#[case] etag: &str, #[case] expected: bool) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abc").unwrap();
        let found = verify(&mut file, 3, etag).unwrap();
        assert_eq!(found.is_ok(), expected, "{found:?}");
    }
}
