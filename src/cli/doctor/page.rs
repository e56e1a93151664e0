//! The report as text, to be read and pasted into a bug report.

use std::fmt::Write;

use super::{Outcome, Tested};
use crate::device::DeviceInfo;
use crate::doctor::{Folder, Report};
use crate::units::ByteSize;

/// Formats what is known without using any device.
pub(super) fn facts(report: &Report) -> String {
    let Report { build, machine, vulkan, ffmpeg, folders, .. } = report;
    let mut lines = Lines::default();
    lines.add("polyview", format!("{} for {}", build.version, build.target));
    lines.add(
        "build",
        format!(
            "{}, for {}, {}",
            if build.debug { "dev profile" } else { "release profile" },
            build.processors,
            if build.cuda { "wgpu and CUDA" } else { "wgpu, without CUDA" },
        ),
    );
    lines.add("system", format!("{}, kernel {}", machine.system, machine.kernel));
    if let Some(container) = &machine.container {
        lines.add("container", container.clone());
    }
    lines.add("processor", format!("{}, kernels use {}", machine.processor, machine.vectors));
    let (cores, usable) = (machine.cores, machine.usable_cores);
    lines.add(
        "cores",
        match usable < cores {
            true => format!("{usable} of {cores} usable (affinity or a container's quota)"),
            false => usable.to_string(),
        },
    );
    let (memory, free) = (machine.memory_bytes, machine.free_memory_bytes);
    lines.add("memory", format!("{}, {} free", ByteSize(memory), ByteSize(free)));
    if let Some(vulkan) = vulkan {
        let loader = if vulkan.loader { "loader found" } else { "no loader" };
        let drivers = match vulkan.drivers.as_slice() {
            [] => String::new(),
            names => format!(", drivers: {}", names.join(", ")),
        };
        let drivers = match vulkan.chosen_by {
            Some(variable) => format!("{drivers} (by {variable})"),
            None => drivers,
        };
        lines.add("Vulkan", format!("{loader}{drivers}"));
    }
    lines.add(
        "ffmpeg",
        match (&ffmpeg.version, &ffmpeg.refused) {
            (Some(version), _) => version.clone(),
            (None, Some(_)) => "does not work".to_owned(),
            (None, None) => "not found".to_owned(),
        },
    );
    for Folder { purpose, path, free_bytes, refused, .. } in folders {
        let free =
            free_bytes.map_or("free space unknown".to_owned(), |b| format!("{} free", ByteSize(b)));
        let refused = refused.as_ref().map_or(String::new(), |_| ", not writable".to_owned());
        lines.add(purpose, format!("{path}: {free}{refused}"));
    }
    lines.0
}

/// Formats the devices.
pub(super) fn devices(report: &Report) -> String {
    let mut lines = Lines::default();
    report.devices.iter().for_each(|device| lines.add("device", describe(device)));
    lines.0
}

/// Formats the self-tests and the problems.
pub(super) fn findings(report: &Report, tests: &[Tested]) -> String {
    let mut lines = Lines::default();
    for test in tests {
        let text = match &test.outcome {
            Outcome::Failed(reason) => format!("FAILED: {reason}"),
            Outcome::Result(result) => format!(
                "{} ({}), {:.1} ms per step of {}",
                if result.sound { "passed" } else { "WRONG NUMBERS" },
                result.errors(),
                result.step_ms,
                result.step,
            ),
        };
        lines.add("self-test", format!("{}: {text}", test.device));
    }
    match report.problems.as_slice() {
        [] => lines.add("problems", "none".to_owned()),
        problems => problems.iter().for_each(|problem| lines.add("problem", problem.clone())),
    }
    lines.0
}

fn describe(device: &DeviceInfo) -> String {
    let mut text = format!("{}: {}", device.id, device.name);
    if device.api != "cpu" {
        let features = &device.features;
        let _ = write!(text, ", {} {}, {}", device.kind, device.api, device.driver);
        let _ = write!(text, "; f16 {}", device.half_storage());
        let _ = match features.subgroups {
            Some([least, most]) if least == most => write!(text, ", subgroups of {least}"),
            Some([least, most]) => write!(text, ", subgroups of {least} to {most}"),
            None => write!(text, ", no subgroups"),
        };
        let _ = match features.matrix_units.as_slice() {
            [] => write!(text, ", no matrix units"),
            units => write!(text, ", matrix units {}", units.join(" ")),
        };
        if let Some(bytes) = device.max_binding_bytes {
            let _ = write!(text, ", buffers up to {} MiB", bytes >> 20);
        }
    }
    if device.auto {
        text.push_str("  ← auto");
    }
    text
}

/// Lines of text, each with a name in front.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, text: String) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{name:<16}{text}");
    }
}
