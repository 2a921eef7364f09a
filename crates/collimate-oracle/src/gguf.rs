//! A GGUF reader written from the specification alone. It panics on anything unexpected, as a test should.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A value of a key, in the types that models use.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// An unsigned integer.
    Count(u32),
    /// A float.
    Number(f32),
    /// A boolean.
    Flag(bool),
    /// A string.
    Text(String),
    /// A list of strings.
    Texts(Vec<String>),
    /// A list of floats.
    Numbers(Vec<f32>),
    /// A list of signed integers.
    Kinds(Vec<i32>),
}

/// A tensor.
#[derive(Debug)]
pub struct FoundTensor {
    /// Slowest dimension first.
    pub shape: Vec<usize>,
    /// ggml's id of its type.
    pub kind: u32,
    /// Its offset from the end of the header.
    pub place: usize,
    bytes: Vec<u8>,
}

/// A file.
#[derive(Debug)]
pub struct GgufFile {
    /// Keys and their values.
    pub entries: BTreeMap<String, Found>,
    /// Tensors by name.
    pub tensors: BTreeMap<String, FoundTensor>,
    /// Its size.
    pub num_bytes: u64,
}

impl FoundTensor {
    /// Its values, which must be stored in float32.
    ///
    /// They are stored in another type.
    /// They are not.
    pub fn floats(&self) -> Vec<f32> {
        assert_eq!(self.kind, 0, "float32");
        self.bytes.chunks(4).map(|word| f32::from_le_bytes(word.try_into().expect("four bytes"))).collect()
    }
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_first_chunk().expect("more bytes");
        self.0 = rest;
        *head
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> usize {
        u64::from_le_bytes(self.take()) as usize
    }

    fn text(&mut self) -> String {
        let len = self.u64();
        let (text, rest) = self.0.split_at(len);
        self.0 = rest;
        String::from_utf8(text.to_vec()).expect("text")
    }

    fn value(&mut self) -> Found {
        match self.u32() {
            4 => Found::Count(self.u32()),
            6 => Found::Number(f32::from_le_bytes(self.take())),
            7 => Found::Flag(self.take::<1>() == [1]),
            8 => Found::Text(self.text()),
            9 => {
                let (kind, len) = (self.u32(), self.u64());
                match kind {
                    5 => Found::Kinds((0..len).map(|_| i32::from_le_bytes(self.take())).collect()),
                    6 => Found::Numbers((0..len).map(|_| f32::from_le_bytes(self.take())).collect()),
                    8 => Found::Texts((0..len).map(|_| self.text()).collect()),
                    other => panic!("a list of type {other}"),
                }
            }
            other => panic!("a value of type {other}"),
        }
    }
}

impl GgufFile {
    /// Reads a whole file.
    ///
    /// # Panics
    /// The file does not exist, or violates the specification.
    pub fn read(path: &Path) -> Self {
        let all = fs::read(path).expect("a file");
        let mut cursor = Cursor(&all);
        assert_eq!((cursor.take::<4>(), cursor.u32()), (*b"GGUF", 3));
        let (num_tensors, num_entries) = (cursor.u64(), cursor.u64());
        let entries: BTreeMap<_, _> = (0..num_entries).map(|_| (cursor.text(), cursor.value())).collect();
        assert_eq!(entries.len(), num_entries, "each key once");
        let mut tensors = BTreeMap::new();
        for _ in 0..num_tensors {
            let name = cursor.text();
            let num_dimensions = cursor.u32();
            let mut shape: Vec<usize> = (0..num_dimensions).map(|_| cursor.u64()).collect();
            shape.reverse();
            let (kind, place) = (cursor.u32(), cursor.u64());
            assert_eq!(place % 32, 0, "{name}");
            assert!(tensors.insert(name, FoundTensor { shape, kind, place, bytes: Vec::new() }).is_none());
        }
        let data = &all[(all.len() - cursor.0.len()).next_multiple_of(32)..];
        for tensor in tensors.values_mut() {
            let (values, bytes) = match tensor.kind {
                0 => (1, 4),
                1 | 30 => (1, 2),
                8 => (32, 34),
                2 => (32, 18),
                other => panic!("a tensor of type {other}"),
            };
            let len = tensor.shape.iter().product::<usize>() / values * bytes;
            tensor.bytes = data[tensor.place..tensor.place + len].to_vec();
        }
        Self { entries, tensors, num_bytes: all.len() as u64 }
    }
}
