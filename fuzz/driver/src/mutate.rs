//! Mutations of inputs, the same for the same seed on every machine.

use crate::corpus::Corpus;

/// Longest input, in bytes.
const LONGEST: usize = 64 << 10;

/// Numbers at the limits of the integer types that parsers use.
const NUMBERS: [&str; 22] = [
    "0",
    "-0",
    "-1",
    "1",
    "127",
    "255",
    "256",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e18",
    "1e308",
    "1e999",
    "-1e-400",
    "0.1",
];

/// Values of types that a field does not expect.
const VALUES: [&str; 14] = [
    "null",
    "true",
    "false",
    "\"\"",
    "[]",
    "{}",
    "[[]]",
    "NaN",
    "Infinity",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"../x\"",
    "~",
    "!!binary x",
];

/// Generates inputs from a corpus.
#[derive(Debug)]
pub struct Mutator<'a> {
    corpus: &'a Corpus,
    state: u64,
}

impl<'a> Mutator<'a> {
    /// Starts from a seed.
    pub fn new(corpus: &'a Corpus, seed: u64) -> Self {
        Self { corpus, state: seed }
    }

    /// The next input: one of the corpus with one to sixteen changes, usually few.
    pub fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.any().to_vec();
        let changes = 1 + self.below(4) * self.below(5).min(self.below(5));
        for _ in 0..changes {
            self.change(&mut input);
            input.truncate(LONGEST);
        }
        if self.below(2) == 0 {
            repair_header(&mut input);
        }
        input
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.random() % end.max(1) as u64) as usize
    }

    /// An input from the corpus; rarely a past finding, since most of those take a parser to its limits.
    fn any(&mut self) -> &'a [u8] {
        let (findings, plain): (Vec<_>, Vec<_>) =
            self.corpus.inputs.iter().partition(|(name, _)| name.starts_with("regression"));
        let among = if findings.is_empty() || self.below(64) > 0 { plain } else { findings };
        let place = self.below(among.len());
        among.get(place).map_or(&[], |(_, input)| input)
    }

    /// A range of bytes, usually short.
    fn run(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let longest = 1 << self.below(10);
        start..(start + self.below(longest) + 1).min(length)
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        match self.below(16) {
            0 => self.flip(input),
            1 => {
                let run = self.run(input.len());
                input.drain(run);
            }
            2 => {
                let end = self.below(input.len() + 1);
                input.truncate(end);
            }
            3 => self.duplicate(input),
            4 | 5 => self.insert_word(input),
            6 | 7 => self.replace_number(input),
            8 => self.replace_value(input),
            9 => self.cross(input),
            10 => self.nest(input),
            11 => self.swap_lines(input),
            12 => {
                let (at, byte) = (self.below(input.len() + 1), self.random() as u8);
                input.insert(at, byte);
            }
            13 => self.binary_number(input),
            14 => self.repeat_token(input),
            _ => self.replace_string(input),
        }
    }

    fn flip(&mut self, input: &mut [u8]) {
        let (at, bit) = (self.below(input.len()), self.below(8));
        if let Some(byte) = input.get_mut(at) {
            *byte ^= 1 << bit;
        }
    }

    /// Repeats a range, once or many times.
    fn duplicate(&mut self, input: &mut Vec<u8>) {
        let run = self.run(input.len());
        let times = if self.below(8) == 0 { 1 << self.below(8) } else { 1 };
        let (end, copies) = (run.end, input[run].repeat(times));
        input.splice(end..end, copies.into_iter().take(LONGEST));
    }

    fn insert_word(&mut self, input: &mut Vec<u8>) {
        let words = &self.corpus.words;
        let word = match words.is_empty() {
            true => VALUES[self.below(VALUES.len())].as_bytes(),
            false => &words[self.below(words.len())],
        };
        let at = self.below(input.len() + 1);
        let replaced = self.below(2) * self.below(word.len() + 1);
        let end = (at + replaced).min(input.len());
        input.splice(at..end, word.iter().copied());
    }

    fn replace_number(&mut self, input: &mut Vec<u8>) {
        let number = NUMBERS[self.below(NUMBERS.len())];
        self.replace(input, |byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'), number);
    }

    fn replace_value(&mut self, input: &mut Vec<u8>) {
        let value = VALUES[self.below(VALUES.len())];
        self.replace(input, |byte| !matches!(byte, b',' | b':' | b'{' | b'}' | b'[' | b']' | b'\n' | b' '), value);
    }

    /// Replaces one quoted string by another.
    fn replace_string(&mut self, input: &mut Vec<u8>) {
        let other = self.any();
        let from = self.run(other.len());
        let text: Vec<u8> = other[from].iter().copied().filter(|byte| !matches!(byte, b'"' | b'\n')).collect();
        let start = self.below(input.len());
        let mut quotes = (start..input.len()).filter(|at| input[*at] == b'"');
        if let (Some(open), Some(close)) = (quotes.next(), quotes.next()) {
            input.splice(open + 1..close, text);
        }
    }

    /// Replaces the first run of bytes that `belongs` accepts, after a random position, by `text`.
    fn replace(&mut self, input: &mut Vec<u8>, belongs: fn(&u8) -> bool, text: &str) {
        let from = self.below(input.len());
        let Some(start) = (from..input.len()).find(|at| belongs(&input[*at])) else { return };
        let end = (start..input.len()).find(|at| !belongs(&input[*at])).unwrap_or(input.len());
        input.splice(start..end, text.bytes());
    }

    /// Joins the start of this input to the end of another.
    fn cross(&mut self, input: &mut Vec<u8>) {
        let other = self.any();
        let (start, end) = (self.below(input.len() + 1), self.below(other.len() + 1));
        input.truncate(start);
        input.extend_from_slice(&other[end..]);
    }

    /// Wraps a range in brackets, perhaps very many.
    fn nest(&mut self, input: &mut Vec<u8>) {
        const PAIRS: [(&str, &str); 7] = [
            ("[", "]"),
            ("{\"a\":", "}"),
            ("(", ")"),
            ("{{", "}}"),
            ("{% if 1 %}", "{% endif %}"),
            ("- ", ""),
            ("!x ", ""),
        ];
        let (open, close) = PAIRS[self.below(PAIRS.len())];
        let depth = 1 << self.below(13);
        let run = self.run(input.len());
        input.splice(run.end..run.end, close.bytes().cycle().take(depth * close.len()));
        input.splice(run.start..run.start, open.bytes().cycle().take(depth * open.len()));
    }

    fn swap_lines(&mut self, input: &mut Vec<u8>) {
        let mut lines: Vec<Vec<u8>> = input.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let (a, b) = (self.below(lines.len()), self.below(lines.len()));
        lines.swap(a, b);
        *input = lines.join(&b'\n');
    }

    /// Overwrites a little-endian number, as found in headers.
    fn binary_number(&mut self, input: &mut [u8]) {
        let at = if self.below(2) == 0 { 0 } else { self.below(input.len()) };
        let number = match self.below(5) {
            0 => u64::MAX,
            1 => 1 << self.below(64),
            2 => input.len() as u64,
            3 => (input.len() as u64).wrapping_sub(self.below(16) as u64),
            _ => self.below(4096) as u64,
        };
        let width = if self.below(2) == 0 { 8 } else { 4 };
        for (place, byte) in input.iter_mut().skip(at).take(width).zip(number.to_le_bytes()) {
            *place = byte;
        }
    }

    /// Inserts one byte or word many times.
    fn repeat_token(&mut self, input: &mut Vec<u8>) {
        let run = self.run(input.len());
        let token = input[run.start..run.end.min(run.start + 12)].to_vec();
        let times = 1 << self.below(12);
        let copies = token.repeat(times);
        input.splice(run.start..run.start, copies.into_iter().take(LONGEST));
    }
}

/// Repairs the header length of a weight file; otherwise most mutated inputs would fail on it.
fn repair_header(input: &mut [u8]) {
    let start = input.windows(9).take(64).position(|part| part[8] == b'{' && part[4..8] == [0; 4]);
    let Some(start) = start else { return };
    let (length, header) = input[start..].split_at_mut(8);
    if let Some(end) = header.iter().rposition(|byte| *byte == b'}') {
        length.copy_from_slice(&(end as u64 + 1).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_follow_from_the_seed() {
        let inputs = vec![("a".to_owned(), b"{\"a\": [1, 2.5, \"x\"]}\n{}".to_vec()), ("b".to_owned(), Vec::new())];
        let corpus = Corpus { inputs, words: vec![b"word".to_vec()] };
        let made = |seed| {
            let mut mutator = Mutator::new(&corpus, seed);
            (0..2000).map(|_| mutator.next_input()).collect::<Vec<_>>()
        };
        let first = made(1);
        assert_eq!(first, made(1));
        assert_ne!(first, made(2));
        assert!(first.iter().all(|input| input.len() <= LONGEST));
        let different = first.iter().collect::<std::collections::BTreeSet<_>>().len();
        assert!(different > 1000, "{different}");
    }
}
