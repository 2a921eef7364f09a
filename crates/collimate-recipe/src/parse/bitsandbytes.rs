//! The keys of TRL and transformers that have bitsandbytes pack a base model.

use crate::foreign::Notes;
use crate::recipe::Recipe;

/// These keys, as they were read.
#[derive(Debug, Default)]
pub(super) struct BitsAndBytes {
    four_bit: bool,
    eight_bit: bool,
    double: bool,
    /// `bnb_4bit_compute_dtype`.
    compute_dtype: Option<String>,
}

impl BitsAndBytes {
    /// Sets a key that is true or false.
    pub(super) fn switch(&mut self, key: &str, value: bool) {
        match key {
            "load_in_4bit" => self.four_bit = value,
            "load_in_8bit" => self.eight_bit = value,
            _ => self.double |= value,
        }
    }

    /// Sets a key that is a name.
    ///
    /// # Errors
    /// The names that are allowed.
    pub(super) fn name(&mut self, key: &str, value: Option<String>) -> Result<(), &'static str> {
        match (key, value.as_deref()) {
            (_, None) => {}
            ("bnb_4bit_quant_type", Some("nf4")) => {}
            ("bnb_4bit_quant_type", _) => return Err("nf4 (fp4 is not supported)"),
            (_, Some("float32" | "float16" | "bfloat16")) => self.compute_dtype = value,
            _ => return Err("float32, float16 or bfloat16"),
        }
        Ok(())
    }

    /// Whether the base is to be computed in bfloat16.
    pub(super) fn computes_in_bfloat16(&self) -> bool {
        self.four_bit && self.compute_dtype.as_deref() == Some("bfloat16")
    }

    /// Sets `quantization`; `is_set` tells which keys of ours were set.
    ///
    /// # Errors
    /// A key that contradicts another, and in what.
    pub(super) fn finish(
        &self,
        recipe: &mut Recipe,
        is_set: &dyn Fn(&str) -> bool,
        notes: &mut Notes,
    ) -> Result<(), (&'static str, String)> {
        let (key, asked) = match (self.four_bit, self.eight_bit) {
            (true, true) => {
                let problem = "is true, and so is load_in_8bit: leave one out".to_owned();
                return Err(("load_in_4bit", problem));
            }
            (true, false) if self.double => ("load_in_4bit", "nf4-double"),
            (true, false) => ("load_in_4bit", "nf4"),
            (false, true) => ("load_in_8bit", "int8"),
            (false, false) => return Ok(()),
        };
        if is_set("quantization") && recipe.quantization != asked {
            let problem = format!("asks for {asked}, and quantization says {}: leave one out", recipe.quantization);
            return Err((key, problem));
        }
        if key == "load_in_4bit" && self.compute_dtype.as_deref() == Some("float16") {
            notes.instead("bnb_4bit_compute_dtype", "nothing is computed in float16: compute_dtype decides");
        }
        asked.clone_into(&mut recipe.quantization);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn load(text: &str) -> Result<(String, bool), String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("recipe.yaml");
        std::fs::write(&path, text).expect("a recipe");
        let parsed = Recipe::parse(Some(&path), &[]).map_err(|error| error.to_string())?;
        Ok((parsed.recipe.quantization, parsed.prefers_bfloat16))
    }

    #[rstest]
    #[case("load_in_4bit: true\n", "nf4", false)]
    #[case("load_in_4bit: false\nuse_bnb_nested_quant: true\n", "none", false)]
    #[case("load_in_4bit: true\nuse_bnb_nested_quant: true\nbnb_4bit_quant_type: nf4\n", "nf4-double", false)]
    #[case("load_in_4bit: true\nbnb_4bit_use_double_quant: true\n", "nf4-double", false)]
    #[case("load_in_4bit: true\nbnb_4bit_compute_dtype: bfloat16\n", "nf4", true)]
    #[case("load_in_4bit: true\nbnb_4bit_compute_dtype: bfloat16\ncompute_dtype: float32\n", "nf4", false)]
    #[case("load_in_8bit: true\n", "int8", false)]
    #[case("quantization: nf4\nload_in_4bit: true\n", "nf4", false)]
    fn the_keys_name_a_format(#[case] text: &str, #[case] format: &str, #[case] in_bfloat16: bool) {
        // TRL's own defaults compute in bfloat16.
        let text = format!("bf16: false\nuse_peft: true\n{text}");
        assert_eq!(load(&text), Ok((format.to_owned(), in_bfloat16)));
    }

    #[rstest]
    #[case("load_in_4bit: true\nload_in_8bit: true\n", "and so is load_in_8bit")]
    #[case("load_in_4bit: true\nquantization: int8\n", "asks for nf4, and quantization says int8")]
    #[case("load_in_4bit: true\nbnb_4bit_quant_type: fp4\n", "nf4 (fp4 is not supported)")]
    #[case("quantization: nf3\n", "must be none or nf4 or nf4-double or int8, is \"nf3\"")]
    fn what_contradicts_itself_is_refused(#[case] text: &str, #[case] expected: &str) {
        let error = load(text).expect_err("a refusal");
        assert!(error.contains(expected), "{error}");
    }
}
