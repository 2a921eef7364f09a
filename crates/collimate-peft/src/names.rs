//! The names of an adapter's tensors in PEFT's files.

/// PEFT's prefix of module names.
pub(crate) const PREFIX: &str = "base_model.model.";

/// What a tensor of an adapter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdapterPart {
    /// The factor A of a linear layer, [r, in].
    A,
    /// The factor B of a linear layer, [out, r].
    B,
    /// DoRA's length of each row of the weight, \[out\].
    Magnitude,
    /// The factor A of the embedding, [r, V].
    EmbeddingA,
    /// The factor B of the embedding, [D, r].
    EmbeddingB,
    /// A trained copy of a whole tensor (`modules_to_save`).
    Copy,
}

impl AdapterPart {
    /// The parts of modules that have a name of their own.
    const NAMED: [Self; 5] = [Self::A, Self::B, Self::Magnitude, Self::EmbeddingA, Self::EmbeddingB];

    fn suffix(self) -> &'static str {
        match self {
            Self::A => ".lora_A.weight",
            Self::B => ".lora_B.weight",
            Self::Magnitude => ".lora_magnitude_vector",
            Self::EmbeddingA => ".lora_embedding_A",
            Self::EmbeddingB => ".lora_embedding_B",
            Self::Copy => "",
        }
    }

    /// The name of this part of a module; of a copy, given its tensor's name.
    pub fn name(self, module: &str) -> String {
        format!("{PREFIX}{module}{}", self.suffix())
    }

    /// The module, and which part of it a name stands for; of a copy, its tensor. `None` without PEFT's prefix.
    pub fn parse(name: &str) -> Option<(&str, Self)> {
        let rest = name.strip_prefix(PREFIX)?;
        // Older PEFT writes magnitudes as the weight of a module.
        let rest = rest.strip_suffix("_vector.weight").map_or(rest, |start| &rest[..start.len() + "_vector".len()]);
        let named = |part: Self| rest.strip_suffix(part.suffix()).map(|module| (module, part));
        Some(Self::NAMED.into_iter().find_map(named).unwrap_or((rest, Self::Copy)))
    }

    /// Its name in messages.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::A => "lora_A",
            Self::B => "lora_B",
            Self::Magnitude => "lora_magnitude_vector",
            Self::EmbeddingA => "lora_embedding_A",
            Self::EmbeddingB => "lora_embedding_B",
            Self::Copy => "weight",
        }
    }
}

/// The last part of a module's name.
pub(crate) fn leaf(module: &str) -> &str {
    module.rsplit('.').next().unwrap_or(module)
}
