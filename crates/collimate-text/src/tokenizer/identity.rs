//! A hash of everything that token ids depend on besides the text.

use std::io::{self, Write};

use crate::TextTokenizer;

/// Parts of a day that a template may print.
const TIMES_OF_DAY: [&str; 12] = ["%H", "%I", "%M", "%S", "%p", "%f", "%s", "%c", "%X", "%T", "%R", "%r"];

/// Feeds what is written to a hash.
struct Feed(blake3::Hasher);

impl Write for Feed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TextTokenizer {
    /// A hash of vocabulary, special tokens, chat template with its variables, ends of turns, and the model's limits: two
    /// tokenizers with the same hash make the same tokens of a text. `None` if there is no such thing, as for a template that
    /// prints the time of day; one that prints the date has another hash every day.
    pub fn identity(&self) -> Option<blake3::Hash> {
        let mut feed = Feed(blake3::Hasher::new_derive_key("collimate tokenizer"));
        serde_json::to_writer(&mut feed, &*self.tokenizer).ok()?;
        let mut added: Vec<_> = self.added.iter().collect();
        added.sort_unstable_by_key(|(id, _)| **id);
        // Each part is written with its type and quotes, so that no two tokenizers write the same bytes.
        write!(feed, "{added:?}{:?}{:?}", self.special_texts, self.special_ids).ok()?;
        write!(feed, "{:?}{:?}{:?}{:?}", self.eos, self.bos, self.pad, self.limits).ok()?;
        write!(feed, "{:?}{:?}{:?}", self.spaces, self.misplaced, self.ends.ids()).ok()?;
        if let Some(pictures) = &self.pictures {
            write!(feed, "{pictures:?}").ok()?;
        }
        if let Some(template) = &self.chat_template {
            write!(feed, "{}", template.identity()).ok()?;
            if template.reads_the_clock() {
                if template.mentions(&TIMES_OF_DAY) {
                    return None;
                }
                write!(feed, "{}", chrono::Local::now().format("%Y-%m-%d")).ok()?;
            }
        }
        Some(feed.0.finalize())
    }
}

#[cfg(test)]
mod tests {
    use collimate_chat::{ChatDefaults, ChatTemplate};
    use serde_json::json;

    use crate::TextTokenizer;
    use crate::tokenizer::tests::{change_tokenizer, character_dir};

    fn with_template(template: &str) -> TextTokenizer {
        let dir = character_dir(json!({"eos_token": "</s>", "chat_template": template}), &[]);
        TextTokenizer::from_model_dir(dir.path()).unwrap()
    }

    #[test]
    fn the_same_files_have_one_identity_wherever_they_are() {
        assert_eq!(with_template("a{{ x }}").identity(), with_template("a{{ x }}").identity());
        assert!(with_template("a{{ x }}").identity().is_some());
    }

    #[test]
    fn whatever_changes_tokens_changes_the_identity() {
        let plain = with_template("a").identity();
        assert_ne!(with_template("b").identity(), plain);
        let defaults = ChatDefaults { system_prompt: Some("s".to_owned()), ..ChatDefaults::default() };
        assert_ne!(with_template("a").with_chat_defaults(defaults).identity(), plain);
        let template = ChatTemplate::new("a", [("eos_token".to_owned(), "<|im_end|>".to_owned())].into()).unwrap();
        assert_ne!(with_template("a").with_chat_template(template).identity(), plain);
        let changed = |change: fn(&mut serde_json::Value)| {
            let dir = character_dir(json!({"eos_token": "</s>", "chat_template": "a"}), &[]);
            change_tokenizer(dir.path(), change);
            TextTokenizer::from_model_dir(dir.path()).unwrap().identity()
        };
        assert_eq!(changed(|_| {}), plain);
        assert_ne!(changed(|json| json["normalizer"] = json!({"type": "Lowercase"})), plain);
        assert_ne!(changed(|json| json["post_processor"] = json!(null)), plain);
        let end = character_dir(json!({"eos_token": "<|im_end|>", "chat_template": "a"}), &[]);
        assert_ne!(TextTokenizer::from_model_dir(end.path()).unwrap().identity(), plain);
        let limit = [("config.json", r#"{"vocab_size": 50}"#)];
        let limited = character_dir(json!({"eos_token": "</s>", "chat_template": "a"}), &limit);
        assert_ne!(TextTokenizer::from_model_dir(limited.path()).unwrap().identity(), plain);
    }

    #[test]
    fn a_template_that_prints_the_time_has_none() {
        assert!(with_template("{{ strftime_now('%d %b %Y') }}").identity().is_some());
        assert_eq!(with_template("{{ strftime_now('%H:%M') }}").identity(), None);
    }
}
