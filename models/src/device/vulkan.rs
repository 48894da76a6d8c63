//! GPUs with a Vulkan driver.

use std::sync::OnceLock;

use burn_wgpu::{RuntimeOptions, WgpuDevice, graphics, init_setup};
use cubecl::wgpu::WgpuRuntime;

use super::cube::Gpu;
use crate::{Device, Error, Found};

/// burn's backend for Vulkan.
pub(super) type Vulkan = Gpu<WgpuRuntime>;

/// Adapters of a kind that are looked at.
const MOST: usize = 16;

/// Kinds of adapters, the best first.
const KINDS: [wgpu::DeviceType; 4] = [
    wgpu::DeviceType::DiscreteGpu,
    wgpu::DeviceType::IntegratedGpu,
    wgpu::DeviceType::VirtualGpu,
    wgpu::DeviceType::Cpu,
];

/// An adapter, as burn counts those of its kind.
#[derive(Debug)]
struct Adapter {
    device: WgpuDevice,
    name: String,
    software: bool,
    ready: OnceLock<()>,
}

/// The adapters, real GPUs first.
pub(super) fn find() -> Vec<Found> {
    let found = |(index, adapter): (usize, &Adapter)| Found {
        device: Device::Vulkan(index),
        name: adapter.name.clone(),
        automatic: !adapter.software,
    };
    adapters().iter().enumerate().map(found).collect()
}

/// The adapter of this number.
pub(super) fn device(index: usize) -> Result<WgpuDevice, Error> {
    let Some(adapter) = adapters().get(index) else {
        let count = adapters().len();
        return Err(Error::UnknownDevice {
            name: Device::Vulkan(index).to_string(),
            reason: match count {
                0 => "no Vulkan driver was found: check `vulkaninfo`, or use --device cpu".into(),
                _ => format!("there are {count} Vulkan adapters, counted from 0"),
            },
        });
    };
    // Once a process and device: burn refuses a second time.
    adapter.ready.get_or_init(|| {
        init_setup::<graphics::Vulkan>(&adapter.device, RuntimeOptions::default());
    });
    Ok(adapter.device.clone())
}

/// Asked once a process.
fn adapters() -> &'static [Adapter] {
    static ADAPTERS: OnceLock<Vec<Adapter>> = OnceLock::new();
    ADAPTERS.get_or_init(|| {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends: wgpu::Backends::VULKAN,
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        let all = cubecl::future::block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
        let infos: Vec<_> = all.iter().map(wgpu::Adapter::get_info).collect();
        let mut adapters = Vec::new();
        for kind in KINDS {
            let these = infos.iter().filter(|info| info.device_type == kind);
            adapters.extend(these.take(MOST).enumerate().map(|(index, info)| Adapter {
                device: match kind {
                    wgpu::DeviceType::DiscreteGpu => WgpuDevice::DiscreteGpu(index),
                    wgpu::DeviceType::IntegratedGpu => WgpuDevice::IntegratedGpu(index),
                    wgpu::DeviceType::VirtualGpu => WgpuDevice::VirtualGpu(index),
                    _ => WgpuDevice::Cpu,
                },
                name: format!("{} ({:?}, Vulkan)", info.name, info.device_type),
                software: kind == wgpu::DeviceType::Cpu,
                ready: OnceLock::new(),
            }));
        }
        adapters
    })
}
