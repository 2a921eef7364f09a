//! The images of a prompt: taken out of its messages, checked, and given their tokens.

use std::borrow::Cow;
use std::ops::Range;

use collimate_data::{Message, Prompt, PromptGroup};
use collimate_images::{ImageSettings, PromptImage};
use collimate_messages::{MessageImage, has_images, take_out};

use crate::tokenizer::ImageTokens;
use crate::{PlacedImage, TextError, TextTokenizer, UnusableReason};

/// A group whose conversation only says where its images are, and these.
pub(super) struct WithoutImages<'a> {
    pub(super) group: Cow<'a, PromptGroup>,
    pub(super) images: Vec<MessageImage>,
}

/// Takes the images out of a group's prompt.
///
/// # Errors
/// The model computes no images, an image stands elsewhere or says not where it is, or a text has the token of an image's place.
pub(super) fn without_images<'a>(
    group: &'a PromptGroup,
    tokenizer: &TextTokenizer,
) -> Result<WithoutImages<'a>, UnusableReason> {
    refuse_typed(group, tokenizer)?;
    for (number, response) in group.responses.iter().enumerate() {
        if has_images(&response.fields) || response.before.iter().any(Message::has_images) {
            let problem = "images stand in prompts only".to_owned();
            return Err(UnusableReason::Image { field: format!("responses[{number}]"), problem });
        }
    }
    let (prompt, images) = images_of(&group.prompt, tokenizer)?;
    let group = match prompt {
        Cow::Borrowed(_) => Cow::Borrowed(group),
        Cow::Owned(prompt) => Cow::Owned(PromptGroup { prompt, ..group.clone() }),
    };
    Ok(WithoutImages { group, images })
}

/// Takes the images out of a prompt.
///
/// # Errors
/// As [`without_images`].
pub(crate) fn images_of<'a>(
    prompt: &'a Prompt,
    tokenizer: &TextTokenizer,
) -> Result<(Cow<'a, Prompt>, Vec<MessageImage>), UnusableReason> {
    let Prompt::Messages(messages) = prompt else { return Ok((Cow::Borrowed(prompt), Vec::new())) };
    let Some(first) = messages.iter().position(Message::has_images) else {
        return Ok((Cow::Borrowed(prompt), Vec::new()));
    };
    if tokenizer.image_tokens().is_none() {
        let problem = "the model computes no images; qwen2_vl and qwen2_5_vl do".to_owned();
        return Err(UnusableReason::Image { field: format!("prompt[{first}].content"), problem });
    }
    let (left, images) =
        take_out(messages).map_err(|(place, problem)| UnusableReason::Image { field: field(place), problem })?;
    Ok((Cow::Owned(Prompt::Messages(left)), images))
}

/// A text with the token of an image's place would be taken for an image.
fn refuse_typed(group: &PromptGroup, tokenizer: &TextTokenizer) -> Result<(), UnusableReason> {
    let Some(tokens) = tokenizer.image_tokens() else { return Ok(()) };
    let typed = |field: String| UnusableReason::Image {
        field,
        problem: format!("the text has {}, which stands for an image", tokens.text()),
    };
    let prompt = match &group.prompt {
        Prompt::Text(text) => tokens.stands_in(text).then(|| "prompt".to_owned()),
        Prompt::Messages(messages) => {
            let found = messages.iter().position(|message| tokens.stands_in(&message.content));
            found.map(|number| format!("prompt[{number}].content"))
        }
    };
    let stands_in = |message: &Message| tokens.stands_in(&message.content);
    let response = || {
        let found = group
            .responses
            .iter()
            .position(|response| tokens.stands_in(&response.content) || response.before.iter().any(stands_in));
        found.map(|number| format!("responses[{number}].content"))
    };
    prompt.or_else(response).map_or(Ok(()), |field| Err(typed(field)))
}

/// Opens and decodes every image of a group's prompt, whatever model is to compute it; returns their heights and widths.
///
/// # Errors
/// [`TextError::Unusable`]: an image is missing, broken, animated or too large; the reason names its field.
pub fn open_images(group: &PromptGroup) -> Result<Vec<[usize; 2]>, TextError> {
    let unusable = |place, problem| {
        let reason = UnusableReason::Image { field: field(place), problem };
        TextError::Unusable { index: group.index, line: group.line, reason }
    };
    let Prompt::Messages(messages) = &group.prompt else { return Ok(Vec::new()) };
    if !messages.iter().any(Message::has_images) {
        return Ok(Vec::new());
    }
    let (_, images) = take_out(messages).map_err(|(place, problem)| unusable(place, problem))?;
    let size = |image: MessageImage| {
        let place = image.place;
        let opened = PromptImage::check(image.source, &ImageSettings::default());
        opened.map(|image| image.size()).map_err(|error| unusable(place, error.to_string()))
    };
    images.into_iter().map(size).collect()
}

fn field([turn, part]: [usize; 2]) -> String {
    format!("prompt[{turn}].content[{part}].image")
}

/// Checks the images and gives each as many tokens as it has, in place of the one that the template writes.
///
/// # Errors
/// An image cannot be read or decoded, or the template wrote another number of places.
pub(crate) fn expanded(
    ids: Vec<u32>,
    images: Vec<MessageImage>,
    tokenizer: &TextTokenizer,
) -> Result<(Vec<u32>, Vec<PlacedImage>), UnusableReason> {
    let Some(tokens) = tokenizer.image_tokens().filter(|_| !images.is_empty()) else { return Ok((ids, Vec::new())) };
    let places = ids.iter().filter(|id| **id == tokens.token()).count();
    if places != images.len() {
        let text = tokens.text();
        let problem = format!("the prompt has {}, and its text as it is tokenized {places} times {text}", images.len());
        return Err(UnusableReason::Image { field: "prompt".to_owned(), problem });
    }
    let mut images = images.into_iter();
    let (mut all, mut placed) = (Vec::with_capacity(ids.len()), Vec::with_capacity(places));
    for id in ids {
        let Some(image) = (id == tokens.token()).then(|| images.next()).flatten() else {
            all.push(id);
            continue;
        };
        let checked = checked(image, tokens)?;
        let tokens = all.len()..all.len() + checked.grid.num_patches();
        all.resize(tokens.end, id);
        placed.push(PlacedImage { tokens, ..checked });
    }
    Ok((all, placed))
}

fn checked(image: MessageImage, tokens: &ImageTokens) -> Result<PlacedImage, UnusableReason> {
    let settings = tokens.settings();
    let place = image.place;
    let image = PromptImage::check(image.source, settings)
        .map_err(|error| UnusableReason::Image { field: field(place), problem: error.to_string() })?;
    let grid = image.grid().merged(settings.merge_size);
    Ok(PlacedImage { image, tokens: Range::default(), grid })
}

/// The images of a prompt that loses its first tokens.
///
/// # Errors
/// The cut goes through an image, or takes one away.
pub(super) fn cut(images: Vec<PlacedImage>, surplus: usize) -> Result<Vec<PlacedImage>, UnusableReason> {
    let cut = |placed: PlacedImage| match placed.tokens.start.checked_sub(surplus) {
        Some(start) => Ok(PlacedImage { tokens: start..placed.tokens.end - surplus, ..placed }),
        None => Err(UnusableReason::Image {
            field: "prompt".to_owned(),
            problem: format!("cutting {surplus} tokens from its start would cut an image; raise max_prompt_length"),
        }),
    };
    images.into_iter().map(cut).collect()
}
