//! `polyview devices`.

use std::process::ExitCode;

use clap::Args;
use comfy_table::{Table, presets};

use super::{CommandResult, print_json, print_text};
use crate::device::{self, DeviceInfo};
use crate::units::ByteSize;

/// Command-line options.
#[derive(Debug, Args)]
pub(super) struct DevicesArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl DevicesArgs {
    pub(super) fn run(&self) -> CommandResult {
        let devices = device::list();
        if self.json {
            print_json(&devices)?;
        } else {
            print_text(&table(&devices))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Formats a few lines for each device: columns would be wider than a terminal.
fn table(devices: &[DeviceInfo]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["--device", "device"]);
    for device in devices {
        let id = if device.auto { format!("{}\n(auto)", device.id) } else { device.id.clone() };
        table.add_row([id, description(device)]);
    }
    table.to_string()
}

fn description(device: &DeviceInfo) -> String {
    let is_cpu = device.api == "cpu";
    let kind = if is_cpu { String::new() } else { format!(", {}, {}", device.api, device.kind) };
    let memory = device.memory_bytes.map_or("unknown".to_owned(), |b| ByteSize(b).to_string());
    let mut limits = vec![format!("memory {memory}")];
    limits.extend(device.max_binding_bytes.map(|b| format!("buffers up to {} MiB", b >> 20)));
    limits.extend(device.max_workgroup.map(|size| format!("{size} invocations per workgroup")));
    let mut lines = vec![
        format!("{}{kind}", device.name),
        format!("driver {}", device.driver),
        limits.join(", "),
    ];
    if !is_cpu {
        let units = device.matrix_units();
        let units =
            units.map_or("no matrix units".to_owned(), |size| format!("matrix units {size}"));
        lines.push(format!("f16 {}, {units}", device.half_storage()));
    }
    lines.join("\n")
}
