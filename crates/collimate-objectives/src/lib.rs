//! The built-in alignment objectives, one file each, with their formulas.
//!
//! They register themselves by name. A program that mentions this crate (`use collimate_objectives as _;`, or a call to
//! [`link`]) finds them through `collimate_objective::registry`. Read [`Nca`] and [`Dpo`] first. Objectives must not know
//! each other: even [`Combine`] builds its terms through the registry.
//!
//! Notation: Δ = log π − log π_ref, summed over a response's tokens, in nats; h = βΔ, the implicit reward; w and l, the
//! best and the worst response; δ = Δ_w − Δ_l; n, a response's number of tokens; p, its mean log-probability per token.
//!
//! ```
//! use std::f64::consts::LN_2;
//!
//! use collimate_objective::{GroupScores, evaluate, registry, serde_json::json};
//!
//! collimate_objectives::link();
//! let parameters = json!({"beta": 0.1, "alpha": 0.33});
//! let nca = registry::build("nca", parameters.as_object().expect("an object"))?;
//! // One prompt with three responses; the policy still equals the reference.
//! let group = GroupScores {
//!     policy_logps: vec![-20.0, -31.0, -25.5],
//!     reference_logps: Some(vec![-20.0, -31.0, -25.5]),
//!     rewards: vec![1.0, 0.0, 0.4],
//!     lengths: vec![12, 18, 15],
//! };
//! let evaluation = evaluate(nca.as_ref(), &[group])?;
//! assert!((evaluation.mean_loss() - 2.0 * LN_2).abs() < 1e-12);
//! // Gradient descent raises the best response and lowers the worst.
//! assert!(evaluation.coefficients[0][0] < 0.0 && evaluation.coefficients[0][1] > 0.0);
//! # Ok::<(), collimate_objective::ObjectiveError>(())
//! ```

mod aot;
mod aot_unpaired;
mod apo_down;
mod apo_zero;
mod bco_pair;
mod by_hand;
mod cca;
mod combine;
mod cpo;
mod discopop;
mod divergence;
mod dpo;
mod dpo_norm;
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
mod plackett_luce;
mod rebel;
mod robust;
mod rpo;
mod rrhf;
mod sft;
mod simpo;
mod sppo_hard;

pub use aot::Aot;
pub use aot_unpaired::AotUnpaired;
pub use apo_down::ApoDown;
pub use apo_zero::ApoZero;
pub use bco_pair::BcoPair;
pub use cca::{Cca, Form, Share};
pub use combine::{Combine, Term};
pub use cpo::Cpo;
pub use discopop::DiscoPop;
pub use divergence::{Divergence, DivergenceType};
pub use dpo::Dpo;
pub use dpo_norm::DpoNorm;
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
pub use rebel::Rebel;
pub use robust::Robust;
pub use rpo::Rpo;
pub use rrhf::Rrhf;
pub use sft::Sft;
pub use simpo::SimPo;
pub use sppo_hard::SppoHard;

/// Does nothing, but a call to it keeps the linker from dropping objectives that are only used by name.
pub fn link() {}
