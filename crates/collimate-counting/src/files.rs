//! The base, as it is compiled into the program.

use collimate_quickstart::base::BaseFiles;

/// The base model's files in the repository.
pub(crate) const FILES: BaseFiles = BaseFiles(&[
    ("config.json", include_bytes!("../assets/base/config.json")),
    ("model.safetensors", include_bytes!("../assets/base/model.safetensors")),
    ("preprocessor_config.json", include_bytes!("../assets/base/preprocessor_config.json")),
    ("tokenizer.json", include_bytes!("../assets/base/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../assets/base/tokenizer_config.json")),
]);
