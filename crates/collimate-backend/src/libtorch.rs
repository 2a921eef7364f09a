//! PyTorch's library through burn-tch: attention by PyTorch's own kernels, every other operation in its plain form.
//!
//! Devices are the GPUs that libtorch finds, in CUDA's order, and then the CPU.

mod attention;
mod packed;

use std::process::{Command, Stdio};

use burn_tch::{LibTorch, LibTorchDevice};
use collimate_quantized::Format;

use self::attention::Batches;
use self::packed::TorchPacked;
use crate::devices::{FoundDevice, HasDevices, machine_memory, own_memory};
use crate::dtype::ComputeDtype;
use crate::error::{BackendError, check_index};
use crate::ops::FusedOps;
use crate::unpacking;

impl FusedOps for LibTorch {
    type Attention = Batches;
    type Packed = TorchPacked;

    fn unpacking_bytes(format: Option<Format>, dtype: ComputeDtype) -> u64 {
        unpacking::by_libtorch(format, dtype)
    }
}

impl HasDevices for LibTorch {
    const NAME: &'static str = "libtorch";

    fn found() -> Result<Vec<FoundDevice>, BackendError> {
        let num_gpus = num_gpus();
        let alike = (num_gpus > 0).then(gpus_alike).flatten();
        let gpus = (0..num_gpus).map(|index| FoundDevice {
            name: alike.as_ref().map_or_else(|| format!("CUDA device {index}"), |(name, _)| name.clone()),
            memory: alike.as_ref().map(|(_, bytes)| own_memory(*bytes)),
        });
        let threads = tch::get_num_threads();
        let name = format!("CPU, {threads} {}", if threads == 1 { "thread" } else { "threads" });
        let cpu = FoundDevice { name, memory: machine_memory() };
        Ok(gpus.chain(std::iter::once(cpu)).collect())
    }

    fn device(index: usize) -> Result<LibTorchDevice, BackendError> {
        let num_gpus = num_gpus();
        check_index(Self::NAME, index, num_gpus + 1)?;
        Ok(if index < num_gpus { LibTorchDevice::Cuda(index) } else { LibTorchDevice::Cpu })
    }
}

fn num_gpus() -> usize {
    usize::try_from(tch::Cuda::device_count()).unwrap_or(0)
}

/// Name and memory of the machine's GPUs if all are the same model.
///
/// libtorch's C interface reports neither, and `nvidia-smi` may list the GPUs in another order.
fn gpus_alike() -> Option<(String, u64)> {
    let mut query = Command::new("nvidia-smi");
    query.args(["--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]);
    let output = query.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    common_line(&String::from_utf8_lossy(&output.stdout))
}

/// Parses lines of "name, MiB"; `None` unless all are the same.
fn common_line(text: &str) -> Option<(String, u64)> {
    let first = text.lines().next()?;
    let (name, mib) = first.rsplit_once(',')?;
    let bytes = mib.trim().parse::<u64>().ok()? << 20;
    text.lines().all(|line| line == first).then(|| (name.trim().to_owned(), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_have_a_name_and_memory_if_all_are_the_same_model() {
        let one = "NVIDIA H100 80GB HBM3, 81559\n";
        let expected = Some(("NVIDIA H100 80GB HBM3".to_owned(), 81_559 << 20));
        assert_eq!(common_line(one), expected);
        assert_eq!(common_line(&one.repeat(2)), expected);
        assert_eq!(common_line(&format!("{one}NVIDIA T4, 15360\n")), None);
        assert_eq!(common_line("No devices were found\n"), None);
    }

    #[test]
    fn the_cpu_is_the_last_device() {
        let count = <LibTorch>::found().expect("the CPU").len();
        assert_eq!(<LibTorch>::device(count - 1), Ok(LibTorchDevice::Cpu));
        let expected = BackendError::DeviceOutOfRange { backend: "libtorch".to_owned(), index: count, count };
        assert_eq!(<LibTorch>::device(count), Err(expected));
    }
}
