//! The `quantization_config` of config.json.

use serde_json::{Map, Value};

use crate::error::QuantizedError;
use crate::four_bit::FourBitKind;
use crate::gptq::ZeroPoints;

/// How a checkpoint's weights are packed, as its config.json says.
///
/// Which weights are packed is decided by the tensors of the files, since configurations are not precise there.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizationConfig {
    /// The method, with what readers need of it.
    pub method: QuantizationMethod,
    /// Modules that are said not to be packed.
    pub skipped_modules: Vec<String>,
}

/// A method whose checkpoints are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuantizationMethod {
    /// bitsandbytes with `load_in_4bit`.
    FourBit {
        /// Which codes.
        kind: FourBitKind,
        /// Whether scales are quantized too.
        double: bool,
        /// The type that it computes in, as PyTorch names it.
        compute_dtype: Option<String>,
    },
    /// bitsandbytes with `load_in_8bit`.
    Int8,
    /// FP8 by blocks, or with one scale a weight.
    Fp8 {
        /// Rows and columns of a block; all of them, if there are none.
        block: Option<[usize; 2]>,
    },
    /// MXFP4.
    Mxfp4,
    /// GPTQ.
    Gptq {
        /// Bits of a code: 2, 3, 4 or 8.
        bits: u32,
        /// Columns of a group; all of them, if there is none.
        group: Option<usize>,
        /// How zeros are stored.
        zero_points: ZeroPoints,
    },
    /// AWQ with four bits.
    Awq {
        /// Columns of a group; all of them, if there is none.
        group: Option<usize>,
    },
}

impl QuantizationMethod {
    /// The name of the method.
    pub fn name(&self) -> &'static str {
        match self {
            Self::FourBit { .. } | Self::Int8 => "bitsandbytes",
            Self::Fp8 { .. } => "fp8",
            Self::Mxfp4 => "mxfp4",
            Self::Gptq { .. } => "gptq",
            Self::Awq { .. } => "awq",
        }
    }
}

const READ: &str = "bitsandbytes, fp8, mxfp4, gptq or awq";

impl QuantizationConfig {
    /// Reads the object that config.json has under `quantization_config`.
    ///
    /// # Errors
    /// The method is not one that is read, or a key says something of it that is not. Errors name the key.
    pub fn from_json(value: &Value) -> Result<Self, QuantizedError> {
        let Value::Object(object) = value else { return Err(bad("quant_method", "expected an object")) };
        let keys = Keys(object);
        let method = match (keys.text("quant_method")?, keys.flag("load_in_4bit")? || keys.flag("load_in_8bit")?) {
            (Some("bitsandbytes"), _) | (None, true) => bitsandbytes(keys)?,
            (Some("fp8"), _) => fp8(keys)?,
            (Some("mxfp4"), _) => QuantizationMethod::Mxfp4,
            (Some("gptq"), _) => gptq(keys)?,
            (Some("awq"), _) => awq(keys)?,
            (Some(other), _) => {
                return Err(bad("quant_method", format!("{other:?} is not supported: expected {READ}")));
            }
            (None, false) => return Err(bad("quant_method", format!("missing: expected {READ}"))),
        };
        let mut skipped_modules = Vec::new();
        for key in ["modules_to_not_convert", "llm_int8_skip_modules", "ignored_layers"] {
            skipped_modules.extend(keys.texts(key)?);
        }
        Ok(Self { method, skipped_modules })
    }
}

fn bitsandbytes(keys: Keys<'_>) -> Result<QuantizationMethod, QuantizedError> {
    match (keys.flag("load_in_4bit")?, keys.flag("load_in_8bit")?) {
        (true, true) => Err(bad("load_in_8bit", "both load_in_4bit and load_in_8bit are true")),
        (false, false) => Err(bad("load_in_4bit", "neither load_in_4bit nor load_in_8bit is true")),
        (false, true) => Ok(QuantizationMethod::Int8),
        (true, false) => {
            let kind = match keys.text("bnb_4bit_quant_type")? {
                Some("nf4") => FourBitKind::Nf4,
                Some("fp4") | None => FourBitKind::Fp4,
                Some(other) => return Err(bad("bnb_4bit_quant_type", format!("{other:?}: expected nf4 or fp4"))),
            };
            let double = keys.flag("bnb_4bit_use_double_quant")?;
            let compute_dtype = keys.text("bnb_4bit_compute_dtype")?.map(str::to_owned);
            Ok(QuantizationMethod::FourBit { kind, double, compute_dtype })
        }
    }
}

fn fp8(keys: Keys<'_>) -> Result<QuantizationMethod, QuantizedError> {
    // Activations are not rounded here, so it does not matter where their scales would come from.
    keys.only("activation_scheme", &["dynamic", "static"])?;
    keys.only("fmt", &["e4m3"])?;
    keys.only("expert_dtype", &["fp8"])?;
    let block = match keys.0.get("weight_block_size") {
        None => Some([128, 128]),
        Some(Value::Null) => None,
        Some(Value::Array(sides)) => match sides.iter().map(positive).collect::<Option<Vec<_>>>().as_deref() {
            Some(&[rows, columns]) => Some([rows, columns]),
            _ => return Err(bad("weight_block_size", "expected two numbers above 0, or null")),
        },
        Some(_) => return Err(bad("weight_block_size", "expected two numbers above 0, or null")),
    };
    Ok(QuantizationMethod::Fp8 { block })
}

fn gptq(keys: Keys<'_>) -> Result<QuantizationMethod, QuantizedError> {
    let bits = match keys.0.get("bits").and_then(Value::as_u64) {
        Some(bits @ (2 | 3 | 4 | 8)) => bits as u32,
        _ => return Err(bad("bits", format!("{}: expected 2, 3, 4 or 8", keys.shown("bits")))),
    };
    for key in ["dynamic", "extension"] {
        if keys.0.get(key).is_some_and(|value| !value.is_null() && *value != Value::Object(Map::new())) {
            return Err(bad(key, "settings that differ between modules are not supported"));
        }
    }
    keys.only("pack_dtype", &["int32"])?;
    let format = keys.text("checkpoint_format")?.or(keys.text("format")?);
    let zero_points = match format {
        None | Some("gptq") => ZeroPoints::LessOne,
        Some("gptq_v2") => ZeroPoints::Plain,
        Some(other) => {
            return Err(bad("checkpoint_format", format!("{other:?} is not supported: expected gptq or gptq_v2")));
        }
    };
    Ok(QuantizationMethod::Gptq { bits, group: group_size(keys)?, zero_points })
}

fn awq(keys: Keys<'_>) -> Result<QuantizationMethod, QuantizedError> {
    let bits = keys.0.get("bits").or(keys.0.get("w_bit"));
    if bits.is_some_and(|bits| bits.as_u64() != Some(4)) {
        return Err(bad("bits", format!("{}: expected 4", keys.shown("bits"))));
    }
    if keys.0.get("zero_point").is_some_and(|flag| flag != true) {
        return Err(bad("zero_point", "AWQ without zero points is not supported: expected true"));
    }
    keys.only("backend", &["auto", "autoawq", "auto_trainable"])?;
    for key in ["version", "format"] {
        keys.only(key, &["gemm"])?;
    }
    Ok(QuantizationMethod::Awq { group: group_size(keys)? })
}

/// Columns of a group; -1 stands for all.
fn group_size(keys: Keys<'_>) -> Result<Option<usize>, QuantizedError> {
    let key = if keys.0.contains_key("q_group_size") { "q_group_size" } else { "group_size" };
    match keys.0.get(key) {
        None => Ok(Some(128)),
        Some(value) if value.as_i64() == Some(-1) => Ok(None),
        Some(value) => match positive(value) {
            Some(group) => Ok(Some(group)),
            None => Err(bad(key, format!("{value}: expected a number above 0, or -1"))),
        },
    }
}

fn positive(value: &Value) -> Option<usize> {
    value.as_u64().filter(|&number| number > 0 && number <= u64::from(u32::MAX)).map(|number| number as usize)
}

fn bad(field: &str, message: impl Into<String>) -> QuantizedError {
    QuantizedError::Config { field: field.to_owned(), message: message.into() }
}

/// The object's keys; what is null is not there.
#[derive(Clone, Copy)]
struct Keys<'a>(&'a Map<String, Value>);

impl<'a> Keys<'a> {
    fn get(self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn shown(self, key: &str) -> String {
        self.0.get(key).map_or("missing".to_owned(), Value::to_string)
    }

    fn text(self, key: &str) -> Result<Option<&'a str>, QuantizedError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(bad(key, format!("expected text, found {}", kind(other)))),
        }
    }

    fn flag(self, key: &str) -> Result<bool, QuantizedError> {
        match self.get(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(bad(key, format!("expected true or false, found {}", kind(other)))),
        }
    }

    fn texts(self, key: &str) -> Result<Vec<String>, QuantizedError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let texts = value
            .as_array()
            .map(|list| list.iter().map(|text| text.as_str().map(str::to_owned)).collect::<Option<_>>());
        texts.flatten().ok_or_else(|| bad(key, "expected a list of names of modules"))
    }

    /// Checks that a key has one of the values that are supported, in any case of letters, where it is there.
    fn only(self, key: &str, supported: &[&str]) -> Result<(), QuantizedError> {
        match self.text(key)? {
            Some(found) if !supported.iter().any(|value| value.eq_ignore_ascii_case(found)) => {
                Err(bad(key, format!("{found:?} is not supported: expected {}", supported.join(" or "))))
            }
            _ => Ok(()),
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
