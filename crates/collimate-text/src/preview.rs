//! Shows a tokenized group in the terminal.

use collimate_data::{counted, either};
use std::fmt::Write as _;

use crate::{TextError, TextTokenizer, TokenizedGroup, with_one_token_an_image};

const DIM: &str = "\x1b[2m";
const BOLD: &str = "\x1b[1m";
const SHADES: [&str; 2] = ["\x1b[38;5;39m", "\x1b[38;5;75m"];
const END: &str = "\x1b[1;97;41m";
const RESET: &str = "\x1b[0m";

/// What to tell the user if prompts of a model with a chat template are text.
pub fn text_prompt_note(count: usize) -> String {
    let stand = either(count, "is text and encoded as it stands", "are text and encoded as they stand");
    let prompts = format!("{} {stand}", counted(count, "prompt"));
    format!(
        "{prompts}, without the model's chat template; a list of messages would be \
         rendered by it"
    )
}

/// Shows a group: the prompt, then each response with its reward, its scored tokens, its end token and what was cut.
///
/// With `color` the prompt is dim, scored tokens alternate between two shades, and the end token is white on red; without,
/// tokens are separated by `|`. Control characters are escaped, so that data cannot steer the terminal; a newline is
/// shown as `↵`.
///
/// # Errors
/// [`TextError::Encoding`] if the tokenizer cannot decode the ids.
pub fn preview(group: &TokenizedGroup, tokenizer: &TextTokenizer, color: bool) -> Result<String, TextError> {
    let paint = Paint { color };
    let mut out = paint.wrap(BOLD, &format!("line {}", group.line));
    let _ = writeln!(out, " · prompt {}{}", tokens(group.prompt_ids.len()), cut(group.num_prompt_cut, "start"));
    for (number, placed) in group.images.iter().enumerate() {
        let _ = writeln!(out, "image {}: {}", number + 1, visible(&placed.describe()));
    }
    let _ = writeln!(out, "{}", paint.wrap(DIM, &visible(&shown_prompt(group, tokenizer)?)));
    for (k, response) in group.responses.iter().enumerate() {
        let heading = format!("[{k}] reward {}", response.reward);
        let _ = write!(out, "{}", paint.wrap(BOLD, &heading));
        let _ = writeln!(out, " · {} scored{}", tokens(response.ids.len()), cut(response.num_cut, "end"));
        let _ = writeln!(out, "{}", paint.tokens(&response.ids, tokenizer)?);
    }
    Ok(out)
}

/// A group's prompt as text, with one token for each image.
///
/// # Errors
/// As [`preview`].
pub fn shown_prompt(group: &TokenizedGroup, tokenizer: &TextTokenizer) -> Result<String, TextError> {
    Ok(tokenizer.pieces(&with_one_token_an_image(&group.prompt_ids, &group.images))?.concat())
}

struct Paint {
    color: bool,
}

impl Paint {
    fn wrap(&self, style: &str, text: &str) -> String {
        if self.color { format!("{style}{text}{RESET}") } else { text.to_owned() }
    }

    fn tokens(&self, ids: &[u32], tokenizer: &TextTokenizer) -> Result<String, TextError> {
        let pieces = tokenizer.pieces(ids)?;
        let painted = ids.iter().zip(&pieces).enumerate().map(|(i, (id, piece))| {
            let last = i + 1 == ids.len();
            let ends = *id == tokenizer.eos_id()
                || (last && (tokenizer.is_special(*id) || tokenizer.turn_ends().ids().contains(id)));
            let style = if ends { END } else { SHADES[i % 2] };
            self.wrap(style, &visible(piece))
        });
        let painted: Vec<_> = painted.collect();
        Ok(painted.join(if self.color { "" } else { "|" }))
    }
}

fn tokens(count: usize) -> String {
    format!("{count} token{}", if count == 1 { "" } else { "s" })
}

fn cut(count: usize, side: &str) -> String {
    if count == 0 { String::new() } else { format!(", {} cut from its {side}", tokens(count)) }
}

/// Escapes characters that could steer a terminal.
fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push('↵'),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests;
