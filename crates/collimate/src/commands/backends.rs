//! `collimate backends`: backends and devices.

use collimate_backend::{BACKENDS, BackendError, BackendInfo, DeviceInfo, devices};
use serde_json::{Value, json};

use crate::error::CliError;
use crate::io::Io;

/// List the compute backends of this build and their devices
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  collimate backends")]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        if self.json {
            return io.json(&BACKENDS.iter().map(describe).collect());
        }
        for backend in BACKENDS {
            let state = if backend.compiled { "" } else { " (not in this build)" };
            io.line(format_args!("{}{state}\n  {}", backend.name, backend.summary))?;
            let devices = match found(backend) {
                Ok(devices) => devices,
                Err(none) => {
                    io.line(format_args!("  no device: {}", reason(none)))?;
                    continue;
                }
            };
            for device in devices {
                let memory = device.memory.as_ref().map(|memory| {
                    let gibibytes = memory.bytes as f64 / f64::powi(2.0, 30);
                    format!(", {gibibytes:.1} GiB ({memory})")
                });
                let (memory, dtypes) = (memory.unwrap_or_default(), device.dtypes.join(", "));
                io.line(format_args!("  device {}: {}{memory}, {dtypes}", device.index, device.name))?;
            }
        }
        Ok(())
    }
}

fn found(backend: &BackendInfo) -> Result<Vec<DeviceInfo>, BackendError> {
    if backend.compiled { devices(backend.name) } else { Ok(Vec::new()) }
}

/// Why a backend has no device, without the backend's name.
fn reason(error: BackendError) -> String {
    match error {
        BackendError::NoDevice { reason, .. } => reason,
        other => other.to_string(),
    }
}

fn describe(backend: &BackendInfo) -> Value {
    let device = |device: DeviceInfo| {
        json!({
            "index": device.index,
            "name": device.name,
            "memory_bytes": device.memory.as_ref().map(|memory| memory.bytes),
            "memory_limit": device.memory.as_ref().map(ToString::to_string),
            "dtypes": device.dtypes,
        })
    };
    let (devices, problem) = match found(backend) {
        Ok(devices) => (devices.into_iter().map(device).collect::<Vec<_>>(), None),
        Err(error) => (Vec::new(), Some(reason(error))),
    };
    json!({
        "name": backend.name,
        "summary": backend.summary,
        "compiled": backend.compiled,
        "devices": devices,
        "problem": problem,
    })
}
