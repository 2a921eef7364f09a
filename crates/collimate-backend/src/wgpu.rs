//! CubeCL's kernels through wgpu: Vulkan or Metal.

use burn_wgpu::graphics::{AutoGraphicsApi, GraphicsApi};
use burn_wgpu::{Wgpu, WgpuDevice};
use wgpu::{DeviceType, Instance, InstanceDescriptor};

use crate::devices::{FoundDevice, HasDevices, machine_memory};
use crate::error::{BackendError, check_index};

impl HasDevices for Wgpu {
    const NAME: &'static str = "wgpu";

    fn found() -> Result<Vec<FoundDevice>, BackendError> {
        let describe = |adapter: Adapter| FoundDevice {
            name: adapter.name,
            // No graphics interface reports how much of a card's own memory can be used.
            memory: if adapter.shares_memory { machine_memory() } else { None },
        };
        Ok(adapters()?.into_iter().map(describe).collect())
    }

    fn device(index: usize) -> Result<WgpuDevice, BackendError> {
        let mut adapters = adapters()?;
        check_index(Self::NAME, index, adapters.len())?;
        Ok(adapters.swap_remove(index).device)
    }
}

/// A graphics adapter.
struct Adapter {
    device: WgpuDevice,
    name: String,
    /// Whether it uses the machine's memory rather than its own.
    shares_memory: bool,
}

/// The adapters of the graphics API that burn-wgpu will use, which numbers each kind of adapter separately.
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
