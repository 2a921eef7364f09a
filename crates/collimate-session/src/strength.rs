//! The adapter at another strength than the trained one.

use collimate_backend::FusedOps;
use collimate_hf::HostTensor;
use collimate_model::CausalLm;
use collimate_peft::{AdapterPart, times_strength};

use crate::error::SessionError;

/// The factors B of an adapter as they were trained, by their indices among the model's parameters.
pub(crate) type TrainedFactors = Vec<(usize, HostTensor)>;

/// Sets the factors B of the model's adapter to `strength` times what they were trained to, which is kept in `trained` from the
/// first call on; 1 brings back the same bits.
pub(crate) fn set<B: FusedOps>(
    model: &mut CausalLm<B>,
    trained: &mut Option<TrainedFactors>,
    strength: f64,
) -> Result<(), SessionError> {
    let refused = |key, message: &str| Err(SessionError::Option { key, message: message.to_owned() });
    let Some(config) = model.lora() else {
        return refused("use_peft", "the model has no adapter, so there is no strength to set");
    };
    if let Some((key, message)) = config.no_strength() {
        return refused(key, message);
    }
    let trained = trained.get_or_insert_with(|| {
        let infos = model.parameters().iter().enumerate();
        let factors = infos.filter(|(_, info)| info.is_adapter && AdapterPart::is_b(&info.name));
        factors.map(|(index, _)| (index, model.download(index))).collect()
    });
    trained.iter().for_each(|(index, factor)| model.load(*index, times_strength(factor, strength)));
    Ok(())
}
