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

/// Keys that the configuration of TRL's DPO trainer has, with the losses that read them; it passes them over for its other
/// losses.
const DPO_KEYS: [(&str, &str); 3] = [
    (
        "beta",
        "dpo hinge ipo exo_pair nca_pair robust bco_pair sppo_hard aot aot_unpaired apo_zero apo_down discopop dpo_norm",
    ),
    ("label_smoothing", "exo_pair robust aot aot_unpaired"),
    ("tau", "discopop"),
];

/// The losses of TRL's DPO trainer beside those that read beta.
const DPO_LOSS_WITHOUT_BETA: &str = "sft";

/// A pair of arguments with this key is the verb that the recipe is for: an objective, or one of TRL's trainers, which leave a
/// recipe its `loss_type`. It is no key of recipes.
pub const VERB: &str = "verb";

impl Trainer {
    pub(crate) fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, trainer)| *trainer)
    }

    /// The trainer that has an objective. DPO's can imitate too: `loss_type: sft`.
    pub(crate) fn for_objective(objective: &str, names_a_loss: bool) -> Self {
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

    /// Whether the trainer has a parameter of this name among its keys, but does not read it for this loss.
    pub(crate) fn passes_over(self, parameter: &str, loss: &str) -> bool {
        let readers = |name: &str| DPO_KEYS.iter().find(|(key, _)| *key == name).map(|(_, losses)| *losses);
        let reads = |name: &str| readers(name).is_some_and(|losses| losses.split(' ').any(|reader| reader == loss));
        let is_loss = reads("beta") || loss == DPO_LOSS_WITHOUT_BETA;
        self == Self::Dpo && is_loss && readers(parameter).is_some() && !reads(parameter)
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

/// TRL's name for the loss of an objective.
pub(crate) fn trl_name(objective: &str) -> &str {
    match objective {
        "dpo" => "sigmoid",
        "dpo_norm" => "sigmoid_norm",
        other => other,
    }
}
