//! The table of keys: name, type, default and documentation of each, together.

/// A key of the recipe, for help and documentation.
#[derive(Debug, Clone, Copy)]
pub struct RecipeKey {
    /// The key as a recipe spells it.
    pub name: &'static str,
    /// What it does, in one or a few sentences.
    pub doc: &'static str,
    /// What its value must be, as errors put it.
    pub expected: &'static str,
    /// The JSON schema of its values.
    pub(crate) schema: fn() -> serde_json::Value,
}

impl RecipeKey {
    /// The JSON schema of its values.
    pub fn schema(&self) -> serde_json::Value {
        (self.schema)()
    }
}

macro_rules! recipe_keys {
    ($( $(#[doc = $doc:literal])+ $key:ident : $type:ty = $default:expr, )+) => {
        /// Everything that determines a run. Every key but the model and the data has a default.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        pub struct Recipe { $( $(#[doc = $doc])+ pub $key: $type, )+ }

        impl Default for Recipe {
            fn default() -> Self {
                Self { $( $key: $default, )+ }
            }
        }

        impl Recipe {
            /// Every key, in the order of the resolved recipe.
            pub const KEYS: &'static [RecipeKey] = &[ $( RecipeKey {
                name: stringify!($key),
                doc: concat!($($doc),+),
                expected: <$type as KeyType>::EXPECTED,
                schema: <$type as KeyType>::schema,
            }, )+ ];

            /// Sets a key. The error is what was expected; `None` means that the key does not exist.
            pub(crate) fn set_key(&mut self, key: &str, value: &Value) -> Option<Result<(), &'static str>> {
                match key {
                    $( stringify!($key) => Some(match <$type as KeyType>::from_yaml(value) {
                        Some(parsed) => { self.$key = parsed; Ok(()) }
                        None => Err(<$type as KeyType>::EXPECTED),
                    }), )+
                    _ => None,
                }
            }
        }
    };
}

pub(crate) use recipe_keys;
