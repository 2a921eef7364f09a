//! `collimate backends`: what computes.

use collimate_backend::{BACKENDS, BackendInfo, DeviceInfo, devices};
use serde_json::{Value, json};

use crate::error::CliError;
use crate::io::Io;

/// List the compute backends of this build and the devices they find
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
            let backends: Result<Vec<Value>, CliError> = BACKENDS.iter().map(describe).collect();
            return io.json(&Value::Array(backends?));
        }
        for backend in BACKENDS {
            let state = if backend.compiled { "" } else { " (not in this build)" };
            io.line(format_args!("{}{state}\n  {}", backend.name, backend.summary))?;
            for device in found(backend)? {
                let memory = device.memory_bytes.map(|bytes| format!(", {:.1} GiB", bytes as f64 / f64::powi(2.0, 30)));
                let (memory, dtypes) = (memory.unwrap_or_default(), device.dtypes.join(", "));
                io.line(format_args!("  device {}: {}{memory}, {dtypes}", device.index, device.name))?;
            }
        }
        Ok(())
    }
}

fn found(backend: &BackendInfo) -> Result<Vec<DeviceInfo>, CliError> {
    Ok(if backend.compiled { devices(backend.name)? } else { Vec::new() })
}

fn describe(backend: &BackendInfo) -> Result<Value, CliError> {
    let device = |device: DeviceInfo| {
        json!({
            "index": device.index,
            "name": device.name,
            "memory_bytes": device.memory_bytes,
            "dtypes": device.dtypes,
        })
    };
    let devices: Vec<Value> = found(backend)?.into_iter().map(device).collect();
    Ok(json!({
        "name": backend.name,
        "summary": backend.summary,
        "compiled": backend.compiled,
        "devices": devices,
    }))
}
