//! The header of a safetensors file, checked against the file.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use safetensors::tensor::TensorInfo;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::shards::MAX_TENSORS;

/// The largest header, in bytes: the format's own limit.
const MAX_HEADER_BYTES: usize = 100_000_000;

/// Key of the header's texts, which is no tensor.
const TEXTS: &str = "__metadata__";

/// The tensors of a file by name. Every name is there once, and the tensors fill the data without gap or overlap.
#[derive(Debug)]
pub(super) struct Header(BTreeMap<Box<str>, TensorInfo>);

impl Header {
    /// The names, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|name| &**name)
    }

    /// A tensor's type, shape and place in the data.
    pub(super) fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.0.get(name)
    }

    /// The length of the data, after checking where the tensors are.
    fn check(&self) -> Result<usize, String> {
        let mut tensors: Vec<(&Box<str>, &TensorInfo)> = self.0.iter().collect();
        tensors.sort_by_key(|(_, info)| info.data_offsets);
        let mut next = 0;
        for (name, info) in tensors {
            let (start, end) = info.data_offsets;
            if start != next || end < start {
                return Err(format!("invalid offset for tensor `{name}`"));
            }
            let elements = info.shape.iter().try_fold(1_usize, |size, &dim| size.checked_mul(dim));
            let bits = elements.and_then(|elements| elements.checked_mul(info.dtype.bitsize()));
            let bits = bits.ok_or_else(|| format!("overflow in the size of tensor `{name}`"))?;
            if !bits.is_multiple_of(8) || bits / 8 != end - start {
                return Err(format!("tensor `{name}` of shape {:?} has {} bytes", info.shape, end - start));
            }
            next = end;
        }
        Ok(next)
    }
}

/// The data's offset and the header, after checking that the header describes the file.
pub(super) fn parse(bytes: &[u8]) -> Result<(usize, Header), String> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(format!("{} bytes are too few for a header", bytes.len()));
    };
    let length = u64::from_le_bytes(*length);
    let text = usize::try_from(length).ok().and_then(|length| rest.get(..length));
    let Some(text) = text else {
        let found = bytes.len();
        return Err(format!("its header should have {length} bytes and the whole file has {found}: cut short?"));
    };
    if text.len() > MAX_HEADER_BYTES {
        return Err(format!("its header has {length} bytes, at most {MAX_HEADER_BYTES} are read"));
    }
    let header: Header = serde_json::from_slice(text).map_err(|error| format!("header: {error}"))?;
    let (expected, found) = (header.check().map_err(|message| format!("header: {message}"))?, rest.len() - text.len());
    if expected != found {
        let cut = if found < expected { ": cut short?" } else { "" };
        return Err(format!("its header tells of {expected} bytes of data and there are {found}{cut}"));
    }
    Ok((8 + text.len(), header))
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Tensors)
    }
}

/// Reads the tensors of a header one by one, so that too many end it before they take memory.
struct Tensors;

impl<'de> Visitor<'de> for Tensors {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Header, A::Error> {
        let (mut tensors, mut has_texts) = (BTreeMap::new(), false);
        while let Some(name) = entries.next_key::<Box<str>>()? {
            // serde_json alone would silently keep the last of two.
            let is_known = if &*name == TEXTS { has_texts } else { tensors.contains_key(&name) };
            if is_known {
                return Err(A::Error::custom(format!("tensor \"{name}\" is given twice")));
            }
            if &*name == TEXTS {
                entries.next_value::<HashMap<String, String>>()?;
                has_texts = true;
                continue;
            }
            if tensors.len() == MAX_TENSORS {
                return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors, as many as are read")));
            }
            tensors.insert(name, entries.next_value()?);
        }
        Ok(Header(tensors))
    }
}
