//! The page of a few groups of data, as a model sees them.

use super::html::document;
use super::pictures::captioned;
use crate::charts::escape;
use crate::numbers::number;
use crate::pictures::Picture;

/// A group as a model sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct PreviewedGroup {
    /// File and line.
    pub location: String,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Small forms of its images, and what they are.
    pub images: Vec<(Picture, String)>,
    /// The prompt's text, special tokens included.
    pub prompt: String,
    /// Its responses.
    pub responses: Vec<PreviewedResponse>,
}

/// A response as it is scored.
#[derive(Debug, Clone, PartialEq)]
pub struct PreviewedResponse {
    /// Its reward.
    pub reward: f64,
    /// Tokens that are scored.
    pub tokens: usize,
    /// Their text, special tokens included.
    pub text: String,
}

/// The page of `collimate data preview`.
pub fn preview_page(groups: &[PreviewedGroup]) -> String {
    let groups: String = groups.iter().map(group).collect();
    document("Preview of data", &format!("<h1>Preview of data</h1>{groups}"))
}

fn group(group: &PreviewedGroup) -> String {
    let response = |response: &PreviewedResponse| {
        let label = format!("reward {}, {} tokens scored", number(response.reward), response.tokens);
        text(&label, &response.text)
    };
    let responses: String = group.responses.iter().map(response).collect();
    let images: String = group.images.iter().map(captioned).collect();
    let images = if images.is_empty() { images } else { format!("<div class=\"gallery\">{images}</div>") };
    format!(
        "<article><p class=\"about\">{}</p>{images}{}<div class=\"answers\">{responses}</div></article>",
        escape(&group.location),
        text(&format!("prompt, {} tokens", group.prompt_tokens), &group.prompt),
    )
}

fn text(label: &str, text: &str) -> String {
    format!("<div><h4>{}</h4><p class=\"text\">{}</p></div>", escape(label), escape(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pictures::tests::png;

    #[test]
    fn a_group_stands_with_its_images_and_what_they_are() {
        let picture = Picture::from_png(&png(30, 20), "an image").expect("a picture");
        let response = PreviewedResponse { reward: 1.0, tokens: 3, text: "<b>2</b>".to_owned() };
        let group = PreviewedGroup {
            location: "rows.jsonl:7".to_owned(),
            prompt_tokens: 21,
            images: vec![(picture, "image of 30 × 20 pixels, 4 tokens".to_owned())],
            prompt: "How many?".to_owned(),
            responses: vec![response],
        };
        let page = preview_page(&[group]);
        for part in ["rows.jsonl:7", "30 × 20 pixels, 4 tokens</figcaption>", "prompt, 21 tokens", "&lt;b&gt;2"] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert_eq!(page.matches("src=\"data:image/png;base64,").count(), 1);
    }
}
