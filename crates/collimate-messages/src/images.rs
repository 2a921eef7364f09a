//! The images of a conversation: parts of its turns' content, or a list beside it.

use std::path::{Path, PathBuf};

use collimate_images::ImageSource;
use serde_json::{Map, Value};

use crate::message::Message;
use crate::part::{IMAGE, is_empty, is_image, text_of};

/// An image of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageImage {
    /// Its place: the number of its turn, and of its part in the turn's content.
    pub place: [usize; 2],
    /// Where its bytes are.
    pub source: ImageSource,
}

/// The place of an image, as [`MessageImage::place`], and what is wrong with it.
pub type ImageProblem = ([usize; 2], String);

/// Puts a list of images into the conversation's parts that have none, in order; if it has no such parts, before the first user's
/// text. Paths become relative to `folder` as the data file's.
///
/// # Errors
/// What is wrong with the image of this number, or with the whole list.
pub fn put_into_prompt(messages: &mut [Message], images: &[Value]) -> Result<(), (Option<usize>, String)> {
    for (number, image) in images.iter().enumerate() {
        text_of(image).map_err(|expected| (Some(number), expected.to_owned()))?;
    }
    let bare: usize = messages.iter().map(|message| parts(message).filter(|part| is_bare(part)).count()).sum();
    if bare == 0 && messages.iter().all(|message| parts(message).next().is_none()) {
        let Some(first) = messages.iter_mut().find(|message| message.role == "user") else {
            return Err((None, "a user's message for them to stand in".to_owned()));
        };
        first.put_before(images);
        return Ok(());
    }
    if bare != images.len() {
        return Err((
            None,
            format!("as many images as the conversation has parts of type \"image\" without one, {bare}"),
        ));
    }
    let mut images = images.iter();
    for message in messages {
        let Some(Value::Array(parts)) = message.fields.get_mut("content") else { continue };
        for part in parts.iter_mut().filter_map(Value::as_object_mut).filter(|part| is_bare(part)) {
            if let Some(image) = images.next() {
                part.insert(IMAGE.to_owned(), image.clone());
            }
        }
    }
    Ok(())
}

fn parts(message: &Message) -> impl Iterator<Item = &Map<String, Value>> {
    parts_in(&message.fields)
}

fn parts_in(fields: &Map<String, Value>) -> impl Iterator<Item = &Map<String, Value>> {
    let list = fields.get("content").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_object)
}

/// Whether a turn with these fields has an image.
pub fn has_images(fields: &Map<String, Value>) -> bool {
    parts_in(fields).any(is_image)
}

fn is_bare(part: &Map<String, Value>) -> bool {
    is_image(part) && part.get(IMAGE).is_none_or(is_empty)
}

impl Message {
    /// Whether the turn has an image.
    pub fn has_images(&self) -> bool {
        has_images(&self.fields)
    }

    /// Puts images before the turn's text; none changes nothing.
    pub fn put_before(&mut self, images: &[Value]) {
        if images.is_empty() {
            return;
        }
        let part = |name: &str, value: &Value| {
            let fields = [("type", Value::from(name)), (name, value.clone())];
            Value::Object(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
        };
        let text = part("text", &Value::from(self.content.as_str()));
        let parts = images.iter().map(|image| part(IMAGE, image)).chain([text]).collect();
        self.fields.insert("content".to_owned(), Value::Array(parts));
    }

    /// Makes the paths of the turn's images those of files beside `folder`, wherever the program runs.
    pub fn place_images(&mut self, folder: &Path) {
        self.replace_paths(|text| folder.join(text).to_string_lossy().into_owned());
    }

    /// Makes the paths of the turn's images those that they are from `folder`, so that they do not say where the data is.
    pub fn unplace_images(&mut self, folder: &Path) {
        let own = |text: &str| Path::new(text).strip_prefix(folder).unwrap_or(Path::new(text)).to_owned();
        self.replace_paths(|text| own(text).to_string_lossy().into_owned());
    }

    fn replace_paths(&mut self, replaced: impl Fn(&str) -> String) {
        let Some(Value::Array(parts)) = self.fields.get_mut("content") else { return };
        for part in parts.iter_mut().filter_map(Value::as_object_mut).filter(|part| is_image(part)) {
            let Some(text) = part.get(IMAGE).and_then(|value| text_of(value).ok()) else { continue };
            let text = if is_data_uri(text) { text.to_owned() } else { replaced(text) };
            part.insert(IMAGE.to_owned(), text.into());
        }
    }
}

/// Takes the images out of a conversation: its turns as a chat template needs them, and the images in order.
///
/// # Errors
/// The place of an image without a value or with a broken data URI, and what is wrong with it.
pub fn take_out(messages: &[Message]) -> Result<(Vec<Message>, Vec<MessageImage>), ImageProblem> {
    let (mut left, mut images) = (messages.to_vec(), Vec::new());
    for (turn, message) in left.iter_mut().enumerate() {
        let Some(Value::Array(parts)) = message.fields.get_mut("content") else { continue };
        for (number, part) in parts.iter_mut().enumerate() {
            let Some(part) = part.as_object_mut().filter(|part| is_image(part)) else { continue };
            let place = [turn, number];
            let value = part.shift_remove(IMAGE).unwrap_or(Value::Null);
            let text = text_of(&value).map_err(|expected| (place, format!("expected {expected}")))?;
            let source = match is_data_uri(text) {
                true => ImageSource::Bytes(data_of(text).map_err(|problem| (place, problem))?.into()),
                false => ImageSource::File(PathBuf::from(text)),
            };
            images.push(MessageImage { place, source });
        }
    }
    Ok((left, images))
}

fn is_data_uri(text: &str) -> bool {
    text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("data:"))
}

/// The bytes of a data URI.
fn data_of(uri: &str) -> Result<Vec<u8>, String> {
    let broken = || "expected a data URI with \";base64,\" before its bytes".to_owned();
    let (head, data) = uri.split_once(',').ok_or_else(broken)?;
    if !head.to_ascii_lowercase().ends_with(";base64") {
        return Err(broken());
    }
    base64(data).ok_or_else(|| "expected base64 after the comma of the data URI".to_owned())
}

/// A data URI of these bytes, which are of a media type such as `image/png`.
pub fn data_uri(media_type: &str, bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut uri = format!("data:{media_type};base64,");
    uri.reserve(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let word = three.iter().enumerate().fold(0_u32, |word, (i, byte)| word | u32::from(*byte) << (16 - 8 * i));
        for digit in 0..4 {
            let is_there = digit <= three.len();
            let value = (word >> (18 - 6 * digit)) & 63;
            uri.push(if is_there { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    uri
}

/// Bytes of base64, in the usual alphabet or that of addresses.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut word, mut bits) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'\n' | b'\r' => continue,
            _ => return None,
        };
        word = (word << 6) | u32::from(digit);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
            word &= (1 << bits) - 1;
        }
    }
    // Six left bits are a digit too many.
    (bits < 6).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn message(json: Value) -> Message {
        serde_json::from_value(json).expect("a message")
    }

    #[test]
    fn images_are_taken_out_in_order_and_their_places_stay() {
        let content = json!([{"type": "text", "text": "a"}, {"type": "image", "image": "b.png"},
            {"type": "image", "image": {"bytes": null, "path": "c.png"}}, {"type": "image", "image": "data:image/png;base64,AQI="}]);
        let mut turn = message(json!({"role": "user", "content": content}));
        assert_eq!((turn.content.as_str(), turn.has_images()), ("a", true));
        turn.place_images(Path::new("data"));
        let (left, images) = take_out(&[Message::new("system", "s"), turn]).expect("images");
        let sources: Vec<_> = images.iter().map(|image| (image.place, image.source.clone())).collect();
        let file = |name: &str| ImageSource::File(Path::new("data").join(name));
        assert_eq!(
            sources,
            [([1, 1], file("b.png")), ([1, 2], file("c.png")), ([1, 3], ImageSource::Bytes(vec![1, 2].into()))]
        );
        let bare = json!({"type": "image"});
        let expected = json!([{"type": "text", "text": "a"}, bare, bare, bare]);
        assert_eq!(left[1].fields["content"], expected);
    }

    #[test]
    fn a_list_fills_bare_parts_or_stands_before_the_first_users_text() {
        let bare = message(json!({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}]}));
        let mut turns = [bare];
        assert_eq!(put_into_prompt(&mut turns, &[json!("b.png")]), Ok(()));
        assert_eq!(turns[0].fields["content"][1], json!({"type": "image", "image": "b.png"}));
        let problem = put_into_prompt(&mut turns, &[json!("b.png")]).expect_err("no part is bare");
        assert_eq!(problem.0, None);
        let mut plain = [Message::new("system", "s"), Message::new("user", "a")];
        assert_eq!(put_into_prompt(&mut plain, &[json!("b.png"), json!("c.png")]), Ok(()));
        let expected = json!([{"type": "image", "image": "b.png"}, {"type": "image", "image": "c.png"}, {"type": "text", "text": "a"}]);
        assert_eq!(plain[1].fields["content"], expected);
        assert_eq!(put_into_prompt(&mut plain[..1], &[json!(7)]).expect_err("a number").0, Some(0));
    }

    #[rstest]
    #[case(json!({"type": "image", "image": "https://a/b.png"}), "content[0].image")]
    #[case(json!({"type": "image", "image": 7}), "content[0].image")]
    #[case(json!({"type": "image", "image": "a.png", "text": "b"}), "content[0].text")]
    #[case(json!({"type": "image_url", "image_url": {"url": "a.png"}}), "content[0].type")]
    fn what_is_no_image_is_refused_by_field(#[case] part: Value, #[case] field: &str) {
        let json = json!({"role": "user", "content": [part]});
        let problem = Message::try_from(json.as_object().cloned().expect("an object")).expect_err("a problem");
        assert_eq!(problem.field, field);
    }

    #[rstest]
    #[case(&[], "")]
    #[case(b"f", "Zg==")]
    #[case(b"to", "dG8=")]
    #[case(b"foo", "Zm9v")]
    #[case(&[0xfb, 0xff, 0xfe, 0x00], "+//+AA==")]
    fn bytes_become_base64_and_back(#[case] bytes: &[u8], #[case] expected: &str) {
        let uri = data_uri("image/png", bytes);
        assert_eq!(uri.split_once(',').expect("a comma").1, expected);
        assert_eq!(data_of(&uri).as_deref(), Ok(bytes));
    }

    #[rstest]
    #[case("data:image/png,abc", "expected a data URI with \";base64,\" before its bytes")]
    #[case("data:image/png;base64,a!", "expected base64 after the comma of the data URI")]
    #[case("data:image/png;base64,AQIDB", "expected base64 after the comma of the data URI")]
    fn a_broken_data_uri_is_refused(#[case] uri: &str, #[case] expected: &str) {
        let turn = message(json!({"role": "user", "content": [{"type": "image", "image": uri}]}));
        assert_eq!(take_out(&[turn]), Err(([0, 0], expected.to_owned())));
    }
}
