//! Where the inputs of blocks wait for the backward pass.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};
use half::{bf16, f16};

use crate::error::{ModelError, StoreError};

/// Which input it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InputKey {
    /// Index of the block.
    pub layer: usize,
    /// Index of the pack among those that go through the model together.
    pub pack: usize,
}

/// Keeps inputs of blocks outside of memory until the backward pass.
pub trait InputStore: Send {
    /// Keeps the exact bytes of an input.
    ///
    /// # Errors
    /// They cannot be kept.
    fn put(&mut self, key: InputKey, bytes: &[u8]) -> Result<(), StoreError>;

    /// Brings an input back, which is asked for once: fills `bytes`, which are as many as were put.
    ///
    /// # Errors
    /// They cannot be brought back.
    fn take(&mut self, key: InputKey, bytes: &mut [u8]) -> Result<(), StoreError>;
}

/// Where the inputs of blocks wait for the backward pass. Their bits are the same everywhere.
pub enum InputPlace {
    /// In the memory of the device that computes.
    Device,
    /// In the memory of the host, for devices with memory of their own.
    Host,
    /// In a store, such as a file; one at a time is in memory.
    Store(Box<dyn InputStore>),
}

/// An input that waits, [N, D].
pub(crate) enum KeptInput<B: Backend> {
    Device(Tensor<B, 2>),
    Host(TensorData),
    Stored { shape: [usize; 2], dtype: DType },
}

impl InputPlace {
    /// Puts an input away.
    pub(crate) fn keep<B: Backend>(&mut self, key: InputKey, x: Tensor<B, 2>) -> Result<KeptInput<B>, ModelError> {
        Ok(match self {
            Self::Device => KeptInput::Device(x),
            Self::Host => KeptInput::Host(x.into_data()),
            Self::Store(store) => {
                let (shape, dtype) = (x.dims(), x.dtype());
                store.put(key, x.into_data().as_bytes()).map_err(ModelError::InputStore)?;
                KeptInput::Stored { shape, dtype }
            }
        })
    }

    /// Brings an input back, in the dtype it had.
    pub(crate) fn fetch<B: Backend>(
        &mut self,
        key: InputKey,
        kept: KeptInput<B>,
        device: &B::Device,
    ) -> Result<Tensor<B, 2>, ModelError> {
        let data = match (kept, self) {
            (KeptInput::Device(x), _) => return Ok(x),
            (KeptInput::Stored { shape, dtype }, Self::Store(store)) => {
                let mut data = zeros(shape, dtype);
                store.take(key, &mut data.bytes).map_err(ModelError::InputStore)?;
                data
            }
            (KeptInput::Stored { .. }, _) => return Err(ModelError::InputStore("the store of inputs is gone".into())),
            (KeptInput::Host(data), _) => data,
        };
        let dtype = data.dtype;
        Ok(Tensor::from_data(data, (device, dtype)))
    }
}

/// Room for an input, aligned as its elements are.
fn zeros(shape: [usize; 2], dtype: DType) -> TensorData {
    match dtype {
        DType::BF16 => TensorData::zeros::<bf16, _>(shape),
        DType::F16 => TensorData::zeros::<f16, _>(shape),
        _ => TensorData::zeros::<f32, _>(shape),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashMap;

    use burn_flex::{Flex, FlexDevice};
    use rstest::rstest;

    use super::*;

    /// Inputs as bytes. Each must be asked for once, with room for exactly its bytes; none may be left.
    #[derive(Default)]
    pub(crate) struct Bytes(HashMap<InputKey, Vec<u8>>);

    impl InputStore for Bytes {
        fn put(&mut self, key: InputKey, bytes: &[u8]) -> Result<(), StoreError> {
            assert!(self.0.insert(key, bytes.to_vec()).is_none(), "{key:?} is put twice");
            Ok(())
        }

        fn take(&mut self, key: InputKey, bytes: &mut [u8]) -> Result<(), StoreError> {
            bytes.copy_from_slice(&self.0.remove(&key).ok_or("never put")?);
            Ok(())
        }
    }

    impl Drop for Bytes {
        fn drop(&mut self) {
            assert!(self.0.is_empty() || std::thread::panicking(), "inputs that nobody asked for");
        }
    }

    /// A NaN with a payload, an infinity, a negative zero, the least number, and plain ones, as halves of float32 or as bfloat16.
    const BITS: [u16; 12] = [0x1234, 0x7fc1, 0, 0x7f80, 0, 0x8000, 1, 0, 0xdb0f, 0x4049, 0xffff, 0x3dcc];

    #[rstest]
    fn every_bit_comes_back(#[values(DType::F32, DType::BF16)] dtype: DType) {
        let bytes: Vec<u8> = BITS.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        let shape = [2, bytes.len() / 2 / dtype.size()];
        let key = InputKey { layer: 3, pack: 1 };
        for mut place in [InputPlace::Device, InputPlace::Host, InputPlace::Store(Box::<Bytes>::default())] {
            let data = TensorData::from_bytes_vec(bytes.clone(), shape, dtype);
            let x = Tensor::<Flex, 2>::from_data(data, (&FlexDevice, dtype));
            let kept = place.keep(key, x).expect("room");
            let found: Tensor<Flex, 2> = place.fetch(key, kept, &FlexDevice).expect("an input");
            assert_eq!((found.dims(), found.dtype()), (shape, dtype));
            assert_eq!(found.into_data().as_bytes(), bytes);
        }
    }
}
