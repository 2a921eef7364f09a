//! TRL's trainers: the losses of each, and where its defaults are not those of the DPO trainer.

/// One of TRL's trainers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trainer {
    Dpo,
    Cpo,
    Kto,
    Sft,
}

/// The trainers by their verbs, which are the objectives of recipes that name no loss.
const NAMES: [(&str, Trainer); 4] =
    [("dpo", Trainer::Dpo), ("cpo", Trainer::Cpo), ("kto", Trainer::Kto), ("sft", Trainer::Sft)];

/// A pair of arguments with this key is the verb that the recipe is for: an objective, or one of TRL's trainers, which leave a
/// recipe its `loss_type`. It is no key of recipes.
pub const VERB: &str = "verb";

impl Trainer {
    pub(crate) fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, trainer)| *trainer)
    }

    /// The trainer that has an objective. DPO's can imitate too: `loss_type: sft`.
    pub(crate) fn of(objective: &str, names_a_loss: bool) -> Self {
        match objective {
            "kto" => Self::Kto,
            "sft" if !names_a_loss => Self::Sft,
            _ => Self::Dpo,
        }
    }

    /// The objective for a loss of this trainer, given as the objective that it would be for the DPO trainer.
    ///
    /// # Errors
    /// It is not supported.
    pub(crate) fn loss(self, name: &str) -> Result<String, String> {
        match (self, name) {
            (Self::Dpo, _) | (Self::Cpo, "cpo" | "simpo") | (Self::Kto, "kto") | (Self::Sft, "sft") => {
                Ok(name.to_owned())
            }
            (Self::Cpo, "dpo") => Ok("cpo".to_owned()),
            (Self::Cpo, _) => Err(format!("CPO's loss {name} is not supported; its losses sigmoid and simpo are")),
            (Self::Kto, _) => Err(format!("KTO's loss {name} is not supported; its loss kto is")),
            (Self::Sft, _) => Err(format!("SFT's loss {name} is not supported; its loss nll is")),
        }
    }

    /// Keys whose defaults differ from those of the DPO trainer, in YAML.
    pub(crate) fn defaults(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Dpo | Self::Cpo => &[],
            // `train_sampling_strategy: sequential`.
            Self::Kto => &[("shuffle", "false")],
            Self::Sft => &[("learning_rate", "2.0e-5")],
        }
    }

    /// Whether it turns off dropout by default.
    pub(crate) fn disables_dropout(self) -> bool {
        self != Self::Sft
    }
}
