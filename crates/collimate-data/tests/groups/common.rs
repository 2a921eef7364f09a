//! Helpers shared by the loaders' tests.

use std::path::PathBuf;

use collimate_data::{DataError, DataSource, GroupReader, LoadOptions, PromptGroup};

/// Path of a fixture.
pub(crate) fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// All groups of a fixture.
pub(crate) fn load(name: &str, options: &LoadOptions) -> Vec<PromptGroup> {
    DataSource::open(fixture(name), options).unwrap().collect::<Result<_, _>>().unwrap()
}

/// A reader over text; messages call it `data.jsonl`.
pub(crate) fn reader(text: &str, options: &LoadOptions) -> Result<GroupReader, DataError> {
    DataSource::from_reader(std::io::Cursor::new(text.to_owned()), "data.jsonl", options)
}

/// The first error in a text, from opening it or from a row.
pub(crate) fn first_error(text: &str, options: &LoadOptions) -> String {
    match reader(text, options) {
        Err(error) => error.to_string(),
        Ok(mut groups) => groups.find_map(Result::err).expect("no error").to_string(),
    }
}

/// The rewards of a group.
pub(crate) fn rewards(group: &PromptGroup) -> Vec<f64> {
    group.responses.iter().map(|response| response.reward).collect()
}
