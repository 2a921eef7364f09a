//! The built-in alignment objectives, one file each, with their formulas.
//!
//! They register themselves by name; a program that names this crate (`use collimate_objectives as _;`, or a call of
//! [`link`]) finds them with `collimate_objective::registry`. No objective knows another: [`Combine`] builds its terms
//! through the registry.
//!
//! Legend: B prompts, K responses of a prompt; Δ = log π − log π_ref summed over a response's tokens, in nats;
//! h = βΔ the implicit reward; w and l the best and the worst response; δ = Δ_w − Δ_l; n tokens of a response; p the
//! mean log-probability of a token.

mod aot;
mod aot_unpaired;
mod apo_down;
mod apo_zero;
mod bco_pair;
mod combine;
mod cpo;
mod discopop;
mod dpo;
mod exo_pair;
mod hinge;
mod infonca;
mod ipo;
mod kto;
mod lipo_lambda;
mod math;
mod nca;
mod nca_pair;
mod orpo;
mod pair;
mod pairwise;
mod plackett_luce;
mod robust;
mod rrhf;
mod sft;
mod simpo;
mod sppo_hard;

pub use aot::Aot;
pub use aot_unpaired::AotUnpaired;
pub use apo_down::ApoDown;
pub use apo_zero::ApoZero;
pub use bco_pair::BcoPair;
pub use combine::{Combine, Term};
pub use cpo::Cpo;
pub use discopop::DiscoPop;
pub use dpo::Dpo;
pub use exo_pair::ExoPair;
pub use hinge::Hinge;
pub use infonca::InfoNca;
pub use ipo::Ipo;
pub use kto::Kto;
pub use lipo_lambda::LipoLambda;
pub use nca::Nca;
pub use nca_pair::NcaPair;
pub use orpo::Orpo;
pub use plackett_luce::PlackettLuce;
pub use robust::Robust;
pub use rrhf::Rrhf;
pub use sft::Sft;
pub use simpo::SimPo;
pub use sppo_hard::SppoHard;

/// Keeps the objectives of this crate in a program that uses them only by name.
pub fn link() {}
