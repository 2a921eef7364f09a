//! PyTorch's library through burn-tch: its own attention, and the plain forms of a decoder's other operations.
//!
//! libtorch finds its GPUs itself: they come first, in CUDA's order, and the CPU last.

mod attention;

use std::process::{Command, Stdio};

use burn_tch::{LibTorch, LibTorchDevice};

use self::attention::Batches;
use crate::flex::total_memory;
use crate::ops::FusedOps;
use crate::{BackendError, DeviceInfo, check_index};

impl FusedOps for LibTorch {
    type Attention = Batches;
}

fn num_gpus() -> usize {
    usize::try_from(tch::Cuda::device_count()).unwrap_or(0)
}

/// The device of an index that [`devices`] lists.
///
/// # Errors
/// There is none of this index.
pub(crate) fn device(index: usize) -> Result<LibTorchDevice, BackendError> {
    let num_gpus = num_gpus();
    check_index("libtorch", index, num_gpus + 1)?;
    Ok(if index < num_gpus { LibTorchDevice::Cuda(index) } else { LibTorchDevice::Cpu })
}

pub(crate) fn devices() -> Vec<DeviceInfo> {
    let num_gpus = num_gpus();
    let alike = (num_gpus > 0).then(gpus_alike).flatten();
    let gpus = (0..num_gpus).map(|index| DeviceInfo {
        index,
        name: alike.as_ref().map_or_else(|| format!("CUDA device {index}"), |(name, _)| name.clone()),
        memory_bytes: alike.as_ref().map(|(_, bytes)| *bytes),
        dtypes: vec!["float32"],
    });
    let cpu = DeviceInfo {
        index: num_gpus,
        name: format!("CPU, {} threads", tch::get_num_threads()),
        memory_bytes: total_memory(),
        dtypes: vec!["float32"],
    };
    gpus.chain(std::iter::once(cpu)).collect()
}

/// Name and memory of the machine's GPUs where they are all the same: libtorch's C interface tells neither, and the
/// driver's own program has another order.
fn gpus_alike() -> Option<(String, u64)> {
    let mut query = Command::new("nvidia-smi");
    query.args(["--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]);
    let output = query.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    common_line(&String::from_utf8_lossy(&output.stdout))
}

/// From lines of a name and a number of MiB.
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
    fn gpus_of_the_backend_have_a_name_and_memory_where_all_are_the_same() {
        let one = "NVIDIA H100 80GB HBM3, 81559\n";
        let expected = Some(("NVIDIA H100 80GB HBM3".to_owned(), 81_559 << 20));
        assert_eq!(common_line(one), expected);
        assert_eq!(common_line(&one.repeat(2)), expected);
        assert_eq!(common_line(&format!("{one}NVIDIA T4, 15360\n")), None);
        assert_eq!(common_line("No devices were found\n"), None);
    }

    #[test]
    fn the_cpu_is_the_backends_last_device() {
        let devices = devices();
        let last = devices.last().expect("the CPU");
        assert_eq!(device(last.index), Ok(LibTorchDevice::Cpu));
        let expected = BackendError::DeviceOutOfRange {
            backend: "libtorch".to_owned(),
            index: devices.len(),
            count: devices.len(),
        };
        assert_eq!(device(devices.len()), Err(expected));
    }
}
