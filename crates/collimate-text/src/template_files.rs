//! The chat template of a model's folder.

use std::path::Path;

use collimate_chat::{ChatError, ChatTemplate, TemplateSources};

use crate::TextError;
use crate::model_files::{read_json, read_text};
use crate::special_tokens::SpecialTokens;

/// Reads the chat template of a model's folder; `None` if it has none.
///
/// That is `chat_template.jinja`, or else `chat_template` of `tokenizer_config.json` or `chat_template.json`: a string, or a
/// list of `{name, template}` of which `default` is used. Conversations with tools use the one called `tool_use`, in that
/// list or in `additional_chat_templates`, if there is one.
///
/// # Errors
/// A file cannot be read, `chat_template` has the wrong type, or a template cannot be parsed.
pub fn read_chat_template(dir: &Path) -> Result<Option<ChatTemplate>, TextError> {
    let tokens = SpecialTokens::from_model_dir(dir)?;
    let Some(sources) = template_sources(dir)? else { return Ok(None) };
    Ok(Some(ChatTemplate::from_sources(&sources, tokens.texts)?))
}

fn template_sources(dir: &Path) -> Result<Option<TemplateSources>, TextError> {
    if let Some(default) = read_text(&dir.join("chat_template.jinja"))? {
        let tool_use = read_text(&dir.join("additional_chat_templates").join("tool_use.jinja"))?;
        return Ok(Some(TemplateSources { default, tool_use }));
    }
    // Older image-and-text processors have the second.
    for file in ["tokenizer_config.json", "chat_template.json"] {
        let path = dir.join(file);
        let Some(config) = read_json(&path)? else { continue };
        let problem = |error: ChatError| TextError::File { path, problem: error.to_string() };
        if let Some(sources) = TemplateSources::from_json(&config["chat_template"]).map_err(problem)? {
            return Ok(Some(sources));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use collimate_data::{ChatInputs, Message};
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn model_dir(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("additional_chat_templates")).unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[rstest]
    #[case::file_before_config(&[("chat_template.jinja", "A{{ eos_token }}"), ("tokenizer_config.json", r#"{"eos_token": "!", "chat_template": "B"}"#)], Some("A!"))]
    #[case::string(&[("tokenizer_config.json", r#"{"bos_token": {"content": "^"}, "chat_template": "B{{ bos_token }}"}"#)], Some("B^"))]
    #[case::named(&[("tokenizer_config.json", r#"{"chat_template": [{"name": "rag", "template": "R"}, {"name": "default", "template": "D"}]}"#)], Some("D"))]
    #[case::only_one(&[("tokenizer_config.json", r#"{"chat_template": [{"name": "x", "template": "X"}]}"#)], Some("X"))]
    #[case::null(&[("tokenizer_config.json", r#"{"chat_template": null}"#)], None)]
    #[case::no_files(&[], None)]
    fn finds_the_template_of_a_folder(#[case] files: &[(&str, &str)], #[case] expected: Option<&str>) {
        let dir = model_dir(files);
        let template = read_chat_template(dir.path()).unwrap();
        let text = template.map(|template| template.render(&[], false).unwrap());
        assert_eq!(text.as_deref(), expected);
    }

    #[rstest]
    #[case(r#"{"chat_template": 3}"#, "field \"chat_template\": expected a string or a list")]
    #[case(
        r#"{"chat_template": [{"name": "a", "template": ""}, {"name": "b", "template": ""}]}"#,
        "named default, found a, b"
    )]
    #[case(r#"{"bos_token": 3}"#, "field \"bos_token\": expected a string or an object with \"content\"")]
    #[case("[]", "expected a JSON object")]
    #[case("{", "tokenizer_config.json:1:1: not valid JSON")]
    fn a_bad_tokenizer_config_is_named(#[case] config: &str, #[case] expected: &str) {
        let dir = model_dir(&[("tokenizer_config.json", config)]);
        let error = read_chat_template(dir.path()).unwrap_err().to_string();
        assert!(error.contains("tokenizer_config.json") && error.contains(expected), "{error}");
    }

    #[rstest]
    #[case::list(&[("tokenizer_config.json", r#"{"chat_template": [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T{{ tools | length }}"}]}"#)])]
    #[case::files(&[("chat_template.jinja", "D"), ("additional_chat_templates/tool_use.jinja", "T{{ tools | length }}")])]
    fn conversations_with_tools_have_a_template_of_their_own(#[case] files: &[(&str, &str)]) {
        let template = read_chat_template(model_dir(files).path()).unwrap().unwrap();
        let messages = [Message::new("user", "a")];
        let tools = ChatInputs { tools: Some(vec![json!({"name": "f"})]), ..ChatInputs::default() };
        assert_eq!(template.render(&messages, false).unwrap(), "D");
        assert_eq!(template.render_with(&messages, &tools, false).unwrap(), "T1");
    }
}
