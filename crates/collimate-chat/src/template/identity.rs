//! What tells chat templates apart.

use super::ChatTemplate;

impl ChatTemplate {
    /// Everything that a rendering depends on besides the conversation.
    pub fn identity(&self) -> String {
        let with_tools = self.with_tools.as_ref().map(|template| template.identity());
        format!("{:?}{:?}{:?}{with_tools:?}", self.source, self.special_tokens, self.defaults)
    }

    /// Whether it may print the time.
    pub fn reads_the_clock(&self) -> bool {
        self.mentions(&["strftime_now"])
    }

    /// Whether one of these texts is in its source, or in that for conversations with tools.
    pub fn mentions(&self, texts: &[&str]) -> bool {
        let with_tools = self.with_tools.as_ref().is_some_and(|template| template.mentions(texts));
        with_tools || texts.iter().any(|text| self.source.contains(text))
    }
}
