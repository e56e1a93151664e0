//! `polyview devices`.

use std::process::ExitCode;

use clap::Args;
use comfy_table::{Table, presets};

use super::{CommandResult, print_json, print_text};
use crate::device::{self, DeviceInfo};
use crate::units::ByteSize;

/// Options as typed.
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

fn table(devices: &[DeviceInfo]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "--device",
        "name",
        "API",
        "kind",
        "driver",
        "memory",
        "largest buffer",
        "workgroup",
        "f16",
        "matrix units",
        "",
    ]);
    for device in devices {
        table.add_row([
            device.id.clone(),
            device.name.clone(),
            device.api.clone(),
            device.kind.clone(),
            device.driver.clone(),
            device.memory_bytes.map_or("?".to_owned(), |b| ByteSize(b).to_string()),
            device.max_binding_bytes.map_or("memory".to_owned(), |b| format!("{} MiB", b >> 20)),
            device.max_workgroup.map_or_else(String::new, |size| size.to_string()),
            device.half_storage().to_owned(),
            device.matrix_units().unwrap_or_else(|| "no".to_owned()),
            if device.auto { "← auto" } else { "" }.to_owned(),
        ]);
    }
    table.to_string()
}
