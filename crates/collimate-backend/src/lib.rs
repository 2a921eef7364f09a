//! Compute backends behind one seam.
//!
//! burn's tensors are generic over a backend, a compile-time type, but users choose a backend by name at run time. This
//! crate bridges the two: work that needs a backend implements [`BackendJob`], whose `run` is generic over [`FusedOps`],
//! and [`dispatch`] runs it on the backend and device named. It also holds the operations of a decoder: in plain form
//! ([`plain`]) for any burn backend, as `collimate-kernels` on the CPU (flex), and as CubeCL kernels on GPUs (cuda, wgpu).
//!
//! Read first: [`FusedOps`] and [`AttentionMap`], the operations; [`BACKENDS`] and [`dispatch`], the table of backends.
//!
//! Must not know: models and objectives. No other crate has a feature gate for a backend or names a backend's type.
//!
//! ```
//! use burn::tensor::Tensor;
//! use collimate_backend::{BackendJob, Factor, FusedOps, dispatch};
//!
//! /// Squares a matrix on any backend.
//! struct Square([[f32; 2]; 2]);
//!
//! impl BackendJob for Square {
//!     type Output = Vec<f32>;
//!
//!     fn run<B: FusedOps>(self, device: B::Device) -> Vec<f32> {
//!         let x = Tensor::<B, 2>::from_data(self.0, &device);
//!         B::multiply(None, 1.0, Factor::new(&x), Factor::new(&x)).into_data().iter().collect()
//!     }
//! }
//!
//! let squared = dispatch("flex", 0, Square([[1.0, 2.0], [0.0, 1.0]]))?;
//! assert_eq!(squared, [1.0, 4.0, 0.0, 1.0]);
//! # Ok::<(), collimate_backend::BackendError>(())
//! ```

#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "cuda")]
mod cuda;
mod devices;
mod error;
mod flex;
#[cfg(feature = "libtorch")]
mod libtorch;
mod ops;
#[cfg(all(test, any(feature = "cube", feature = "libtorch")))]
mod packed_tests;
mod plain_backend;
mod table;
mod unpacking;
#[cfg(feature = "wgpu")]
mod wgpu;

pub use attention_map::{AttentionMap, AttentionSaved, AttentionShape, Segment, sinks_backward};
pub use collimate_faults::reports_panic;
pub use collimate_kernels::{MatmulPrecision, set_float32_matmul_precision};
pub use collimate_machine::LimitSource;
pub use collimate_plain::forms as plain;
use collimate_plain::{attention_map, dtype, operands, packed};
pub use devices::{DeviceInfo, DeviceMemory};
pub use dtype::{ComputeDtype, in_dtype, in_float32};
pub use error::{BackendError, guarded};
pub use operands::{
    AdamwStep, DeltaInputs, DeltaShape, DropoutRows, Factor, GateActivation, Gradient, Moments, OutputLayer, Rotary,
    TargetLogp,
};
pub use ops::{FusedOps, PreparedBytes};
pub use packed::{FilePages, HostPacked, PackedTensor, PlainMatrix};
pub use table::{
    BACKENDS, BackendInfo, BackendJob, check_dtype, device_memory, devices, dispatch, keeps_packed, matmul_precision,
    multiplies_in, weight_costs,
};
pub use unpacking::WeightCosts;
