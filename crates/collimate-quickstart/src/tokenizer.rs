//! The quickstart's tokenizer: a byte-level BPE trained on generated problems.

use std::path::Path;

use collimate_data::DataError;
use collimate_files::write_atomically;
use serde_json::json;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split as SplitAt, SplitPattern};
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::{AddedToken, SplitDelimiterBehavior, TokenizerImpl};

use crate::problems::{Split, problem};

/// Padding; id 0.
pub const PAD: &str = "<|endoftext|>";
/// Start of a turn; id 1.
pub const START: &str = "<|im_start|>";
/// End of a turn and of every response (EOS); id 2.
pub const END: &str = "<|im_end|>";

/// Largest vocabulary: 3 special tokens, 256 bytes, the rest merges.
pub const MAX_VOCAB: usize = 512;

/// Merges stay within one match: a digit, a word with the space before it, or punctuation with the space after it, so that
/// `. ` is one token.
const PIECES: &str = r"\p{N}| ?\p{L}+|[^\p{L}\p{N}]+";

/// Number of problems to learn the merges from.
const NUM_PROBLEMS: u64 = 4000;

/// ChatML turns.
const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] \
                             + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

type Tokenizer = TokenizerImpl<BPE, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// Trains the tokenizer on problems of a seed and writes `tokenizer.json` and `tokenizer_config.json` into `dir`.
///
/// Every digit is its own token, so the model sees a number digit by digit; any text can be encoded, byte by byte if
/// need be. Returns the size of the vocabulary, at most [`MAX_VOCAB`]. The result is the same on every machine.
///
/// # Errors
/// [`DataError::Io`] if a file cannot be written, [`DataError::File`] if training fails.
pub fn write_tokenizer(dir: &Path, seed: u64) -> Result<usize, DataError> {
    let texts = (0..NUM_PROBLEMS).map(|index| {
        let problem = problem(seed, index, Split::Train);
        format!("{}{}", problem.prompt, problem.solution)
    });
    SmallTokenizer { special: &[PAD, START, END], chat_template: CHAT_TEMPLATE }.write(dir, texts)
}

/// A tokenizer like [`write_tokenizer`]'s, for other texts.
#[derive(Debug, Clone, Copy)]
pub struct SmallTokenizer<'a> {
    /// Special tokens, whose ids count from 0; [`PAD`] and [`END`] are among them.
    pub special: &'a [&'a str],
    /// The template of a conversation.
    pub chat_template: &'a str,
}

impl SmallTokenizer<'_> {
    /// Trains it on texts, and writes its files as [`write_tokenizer`].
    ///
    /// # Errors
    /// As [`write_tokenizer`].
    pub fn write(&self, dir: &Path, texts: impl Iterator<Item = String> + Send) -> Result<usize, DataError> {
        let path = dir.join("tokenizer.json");
        let failed = |error: tokenizers::Error| DataError::File { path: path.clone(), problem: error.to_string() };
        let tokenizer = self.train(texts).map_err(failed)?;
        let text = tokenizer.to_string(false).map_err(failed)?;
        write(&path, &text)?;
        let config = json!({
            "bos_token": null,
            "eos_token": END,
            "pad_token": PAD,
            "unk_token": null,
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": false,
            "chat_template": self.chat_template,
        });
        write(&dir.join("tokenizer_config.json"), &format!("{config:#}\n"))?;
        Ok(tokenizer.get_vocab_size(true))
    }

    fn train(&self, texts: impl Iterator<Item = String> + Send) -> tokenizers::Result<Tokenizer> {
        let bytes = ByteLevel::new(false, false, false);
        let pieces = SplitAt::new(SplitPattern::Regex(PIECES.to_owned()), SplitDelimiterBehavior::Isolated, false)?;
        let mut tokenizer = Tokenizer::new(BPE::default());
        tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![pieces.into(), bytes.into()])));
        tokenizer.with_decoder(Some(bytes));
        let special = self.special.iter().map(|text| AddedToken::from(*text, true)).collect();
        let mut trainer = BpeTrainer::builder()
            .vocab_size(MAX_VOCAB)
            .min_frequency(2)
            .show_progress(false)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .special_tokens(special)
            .build();
        tokenizer.train(&mut trainer, texts)?;
        Ok(tokenizer)
    }
}

fn write(path: &Path, text: &str) -> Result<(), DataError> {
    Ok(write_atomically(path, text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use collimate_text::TextTokenizer;

    use super::*;

    fn written(seed: u64) -> (tempfile::TempDir, TextTokenizer) {
        let dir = tempfile::tempdir().unwrap();
        let size = write_tokenizer(dir.path(), seed).unwrap();
        let tokenizer = TextTokenizer::from_model_dir(dir.path()).unwrap();
        assert_eq!(size, tokenizer.vocab_size());
        assert!(size <= MAX_VOCAB);
        (dir, tokenizer)
    }

    #[test]
    fn digits_stand_alone_and_special_tokens_have_the_first_ids() {
        let (_dir, tokenizer) = written(0);
        let ids = tokenizer.encode("137+20=157. Answer: 157", false).unwrap();
        let digits = ids.iter().filter(|id| tokenizer.token_text(**id).unwrap().contains(|c: char| c.is_ascii_digit()));
        assert_eq!(digits.count(), 3 + 2 + 3 + 3);
        assert_eq!(tokenizer.eos_id(), 2);
        assert_eq!([PAD, START, END].map(|text| tokenizer.token_id(text).unwrap()), [0, 1, 2]);
    }

    #[test]
    fn any_text_comes_back() {
        let (_dir, tokenizer) = written(0);
        for text in ["3+4=7. Answer: 7", "Ünï ✓ 多\t\u{0}", "  two  spaces\n\n"] {
            assert_eq!(tokenizer.decode(&tokenizer.encode(text, true).unwrap(), false).unwrap(), text);
        }
    }

    #[test]
    fn problems_are_short() {
        let (_dir, tokenizer) = written(0);
        let (mut prompts, mut solutions) = (Vec::new(), Vec::new());
        for index in 0..500 {
            let problem = problem(1, index, Split::HeldOut);
            prompts.push(tokenizer.encode(&problem.prompt, true).unwrap().len());
            solutions.push(tokenizer.encode(&problem.solution, false).unwrap().len());
        }
        let longest = |lengths: &[usize]| lengths.iter().max().copied().unwrap();
        let mean = |lengths: &[usize]| lengths.iter().sum::<usize>() as f64 / lengths.len() as f64;
        assert!(longest(&prompts) <= 44 && mean(&prompts) < 36.0, "{} {}", longest(&prompts), mean(&prompts));
        assert!(longest(&solutions) <= 32 && mean(&solutions) < 24.0, "{} {}", longest(&solutions), mean(&solutions));
    }

    #[test]
    fn training_twice_gives_the_same_file() {
        let read = |dir: &tempfile::TempDir| std::fs::read(dir.path().join("tokenizer.json")).unwrap();
        assert_eq!(read(&written(5).0), read(&written(5).0));
    }
}
