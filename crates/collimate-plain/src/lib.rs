//! A decoder's operations in plain form, on any burn backend, and the operands that they share with kernels.
//!
//! `collimate-backend` makes these forms the defaults of its `FusedOps`; backends with kernels replace them, and tests
//! compare the two. Read first: [`forms`], the operations; [`operands`] and [`packed`], what they work on.
//!
//! Must not know: which backends there are, devices by name, models.
//!
//! ```
//! use burn::tensor::Tensor;
//! use burn_flex::{Flex, FlexDevice};
//! use collimate_plain::{forms, operands::Factor};
//!
//! let x = Tensor::<Flex, 2>::from_data([[1.0, 2.0], [0.0, 1.0]], &FlexDevice);
//! let squared = forms::multiply(None, 1.0, Factor::new(&x), Factor::new(&x));
//! assert_eq!(squared.into_data().iter().collect::<Vec<f32>>(), [1.0, 4.0, 0.0, 1.0]);
//! ```

pub mod attention_map;
pub mod dtype;
pub mod forms;
pub mod operands;
pub mod packed;
