//! CubeCL's kernels through wgpu: Vulkan or Metal.

use burn_wgpu::WgpuDevice;
use burn_wgpu::graphics::{AutoGraphicsApi, GraphicsApi};
use wgpu::{DeviceType, Instance, InstanceDescriptor};

use crate::flex::total_memory;
use crate::{BackendError, DeviceInfo, check_index};

/// An adapter as burn-wgpu names it, and for people.
struct Adapter {
    device: WgpuDevice,
    name: String,
    /// Whether it computes in the machine's own memory.
    shares_memory: bool,
}

/// The adapters of the graphics interface that burn-wgpu will take; it counts those of a kind.
///
/// # Errors
/// There is none.
fn adapters() -> Result<Vec<Adapter>, BackendError> {
    let backends = AutoGraphicsApi::backend().into();
    let descriptor = InstanceDescriptor { backends, ..InstanceDescriptor::new_without_display_handle() };
    let found = pollster::block_on(Instance::new(descriptor).enumerate_adapters(backends));
    let (mut discrete, mut integrated, mut virtual_gpus) = (0, 0, 0);
    let next = |counter: &mut usize| std::mem::replace(counter, *counter + 1);
    let named = found.iter().filter_map(|adapter| {
        let info = adapter.get_info();
        let device = match info.device_type {
            DeviceType::DiscreteGpu => WgpuDevice::DiscreteGpu(next(&mut discrete)),
            DeviceType::IntegratedGpu => WgpuDevice::IntegratedGpu(next(&mut integrated)),
            DeviceType::VirtualGpu => WgpuDevice::VirtualGpu(next(&mut virtual_gpus)),
            DeviceType::Cpu => WgpuDevice::Cpu,
            DeviceType::Other => return None,
        };
        let shares_memory = matches!(info.device_type, DeviceType::IntegratedGpu | DeviceType::Cpu);
        Some(Adapter { device, name: format!("{} ({})", info.name, info.backend), shares_memory })
    });
    match named.collect::<Vec<_>>() {
        none if none.is_empty() => {
            let reason = "no Vulkan or Metal driver; on Debian mesa-vulkan-drivers has one for most GPUs and one in \
                          software, or use --backend flex";
            Err(BackendError::NoDevice { backend: "wgpu", reason: reason.to_owned() })
        }
        adapters => Ok(adapters),
    }
}

/// The device of an index that [`devices`] lists.
///
/// # Errors
/// No graphics driver, or no adapter of this index.
pub(crate) fn device(index: usize) -> Result<WgpuDevice, BackendError> {
    let mut adapters = adapters()?;
    check_index("wgpu", index, adapters.len())?;
    Ok(adapters.swap_remove(index).device)
}

/// # Errors
/// No graphics driver.
pub(crate) fn devices() -> Result<Vec<DeviceInfo>, BackendError> {
    let describe = |(index, adapter): (usize, Adapter)| DeviceInfo {
        index,
        name: adapter.name,
        // Of a card's own memory no graphics interface says how much can be used.
        memory_bytes: if adapter.shares_memory { total_memory() } else { None },
        dtypes: vec!["float32"],
    };
    Ok(adapters()?.into_iter().enumerate().map(describe).collect())
}
