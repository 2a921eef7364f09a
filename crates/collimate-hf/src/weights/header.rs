//! The header of a safetensors file, checked against the file.

use std::collections::BTreeSet;
use std::fmt;

use safetensors::tensor::Metadata;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

/// The largest header, in bytes: the format's own limit.
const MAX_HEADER_BYTES: usize = 100_000_000;

/// The data's offset and the header, after checking that the header describes the file.
pub(super) fn parse(bytes: &[u8]) -> Result<(usize, Metadata), String> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(format!("{} bytes are too few for a header", bytes.len()));
    };
    let length = u64::from_le_bytes(*length);
    let header = usize::try_from(length).ok().and_then(|length| rest.get(..length));
    let Some(header) = header else {
        let found = bytes.len();
        return Err(format!("its header should have {length} bytes and the whole file has {found}: cut short?"));
    };
    if header.len() > MAX_HEADER_BYTES {
        return Err(format!("its header has {length} bytes, at most {MAX_HEADER_BYTES} are read"));
    }
    let once: Result<NamesOnce, _> = serde_json::from_slice(header);
    once.map_err(|error| format!("header: {error}"))?;
    let metadata: Metadata = serde_json::from_slice(header).map_err(|error| format!("header: {error}"))?;
    let (expected, found) = (metadata.data_len(), rest.len() - header.len());
    if expected != found {
        let cut = if found < expected { ": cut short?" } else { "" };
        return Err(format!("its header tells of {expected} bytes of data and there are {found}{cut}"));
    }
    Ok((8 + header.len(), metadata))
}

/// Rejects a header that names a tensor twice; serde_json would silently keep the last one.
struct NamesOnce;

impl<'de> Deserialize<'de> for NamesOnce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self)
    }
}

impl<'de> Visitor<'de> for NamesOnce {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut tensors: A) -> Result<Self, A::Error> {
        let mut names = BTreeSet::new();
        while let Some(name) = tensors.next_key::<String>()? {
            let IgnoredAny = tensors.next_value()?;
            if let Some(name) = names.replace(name) {
                return Err(A::Error::custom(format!("tensor \"{name}\" is given twice")));
            }
        }
        Ok(self)
    }
}
