//! CubeCL's kernels through wgpu: Vulkan, Metal, DirectX 12 or WebGPU, with the plain forms of a decoder's operations.

use burn_wgpu::{Wgpu, WgpuDevice};
use wgpu::{Backends, DeviceType, Instance, InstanceDescriptor};

use crate::ops::FusedOps;
use crate::{BackendError, DeviceInfo};

impl FusedOps for Wgpu {}

/// An adapter as burn-wgpu names it, with a name for people.
fn adapters() -> Vec<(WgpuDevice, String)> {
    let backends = if cfg!(target_vendor = "apple") { Backends::METAL } else { Backends::VULKAN | Backends::DX12 };
    let descriptor = InstanceDescriptor { backends, ..InstanceDescriptor::new_without_display_handle() };
    let found = pollster::block_on(Instance::new(descriptor).enumerate_adapters(backends));
    let (mut discrete, mut integrated, mut virtual_gpus) = (0, 0, 0);
    let mut next = |counter: &mut usize| std::mem::replace(counter, *counter + 1);
    let named = found.iter().filter_map(|adapter| {
        let info = adapter.get_info();
        let device = match info.device_type {
            DeviceType::DiscreteGpu => WgpuDevice::DiscreteGpu(next(&mut discrete)),
            DeviceType::IntegratedGpu => WgpuDevice::IntegratedGpu(next(&mut integrated)),
            DeviceType::VirtualGpu => WgpuDevice::VirtualGpu(next(&mut virtual_gpus)),
            DeviceType::Cpu => WgpuDevice::Cpu,
            DeviceType::Other => return None,
        };
        Some((device, format!("{} ({})", info.name, info.backend)))
    });
    named.collect()
}

/// The device of an index that [`devices`] lists.
pub(crate) fn device(index: usize) -> Result<WgpuDevice, BackendError> {
    adapters().into_iter().nth(index).map(|(device, _)| device).ok_or_else(none)
}

/// # Errors
/// No graphics driver.
pub(crate) fn devices() -> Result<Vec<DeviceInfo>, BackendError> {
    let describe = |(index, (_, name)): (usize, (WgpuDevice, String))| DeviceInfo {
        index,
        name,
        // No graphics interface says how much of it can be used.
        memory_bytes: None,
        dtypes: vec!["float32"],
    };
    match adapters() {
        adapters if adapters.is_empty() => Err(none()),
        adapters => Ok(adapters.into_iter().enumerate().map(describe).collect()),
    }
}

fn none() -> BackendError {
    let reason =
        "no Vulkan, Metal or DirectX 12 driver; on Debian mesa-vulkan-drivers has one for most GPUs and one in \
                  software, or use --backend flex"
            .to_owned();
    BackendError::NoDevice { backend: "wgpu", reason }
}
