//! Times and bounds as tables, 80 columns wide.

use comfy_table::{CellAlignment, Table, presets};

use super::{Bounds, Report, SeveralReport};
use crate::bench::{Bound, LayerTimes, NormWork, Part, Scaled};
use crate::units::{ByteSize, counted, plural};

/// Formats the times measured on one device.
pub(super) fn times(report: &Report) -> String {
    let Report { times, shape: [n, _, t, h, w], .. } = report;
    let clips = plural(*n, "clip");
    let mut text = format!(
        "{} on {} ({}), {clips} of {t}×{h}×{w}, {}{}:\n{:.1} ms a step, forward {:.1} ms, {:.2} clips/s",
        report.backbone,
        report.device.name,
        report.device.api,
        report.precision,
        if report.stock { ", Burn's own operations" } else { "" },
        times.step_ms,
        times.forward_ms,
        times.clips_per_s,
    );
    let memory = &times.memory;
    text.push_str("\nmemory: ");
    if let Some(peak) = &memory.measured {
        let (in_use, held) = (ByteSize(peak.in_use), ByteSize(peak.reserved));
        text.push_str(&format!("{in_use} in use, {held} held, "));
    }
    text.push_str(&format!("{} estimated", ByteSize(memory.estimated)));
    if let Some(tuned) = &report.tuned {
        text.push_str(&format!("\ntuned: {tuned}"));
    }
    if let Some(first) = report.layers.first() {
        text.push_str("\nper convolution: time, GFLOP/s");
        if let Some(peak) = report.peak_gflop_per_s {
            text.push_str(&format!(" (share of the f32 peak, measured: {peak:.0} GFLOP/s)"));
        }
        if first.stock.is_some() {
            text.push_str(",\ntime of Burn's own convolution, and its ratio to ours");
        }
        text.push('\n');
        text.push_str(&layers(&report.layers).to_string());
    }
    text
}

fn layers(layers: &[LayerTimes]) -> Table {
    let mut table = table(["convolution", "times", "GFLOP", "forward", "dx", "dw"]);
    let (mut sum, mut stock_sum) = ([0.0; 3], [0.0; 3]);
    for layer in layers {
        let cells: [String; 3] = std::array::from_fn(|pass| {
            let mut cell = format!("{}\n{}", ms(layer.ms[pass]), short(layer.gflop_per_s[pass]));
            if let Some(share) = &layer.of_peak {
                cell.push_str(&format!(" ({:.0} %)", share[pass] * 100.0));
            }
            if let Some(stock) = &layer.stock {
                let (time, ratio) = (stock.stock_ms[pass], stock.stock_over_ours[pass]);
                cell.push_str(&format!("\n{}\n{ratio:.1}×", ms(time)));
            }
            cell
        });
        let count = layer.count as f64;
        sum = std::array::from_fn(|pass| sum[pass] + layer.ms[pass] * count);
        if let Some(stock) = &layer.stock {
            stock_sum = std::array::from_fn(|pass| stock_sum[pass] + stock.stock_ms[pass] * count);
        }
        let [forward, dx, dw] = cells;
        let (count, gflop) = (layer.count.to_string(), short(layer.gflop));
        table.add_row([two_lines(&layer.shape), count, gflop, forward, dx, dw]);
    }
    let stock = layers.iter().any(|layer| layer.stock.is_some());
    let [forward, dx, dw] = std::array::from_fn(|pass| {
        let ours = ms(sum[pass]);
        match stock {
            true => {
                let ratio = stock_sum[pass] / sum[pass];
                format!("{ours}\n{}\n{ratio:.1}×", ms(stock_sum[pass]))
            }
            false => ours,
        }
    });
    let blank = String::new;
    table.add_row(["total".to_owned(), blank(), blank(), forward, dx, dw]);
    right_aligned(table)
}

/// Formats the times measured on several devices.
pub(super) fn several(report: &SeveralReport, bytes: u64) -> String {
    let SeveralReport { shape: [n, _, t, h, w], .. } = report;
    let clips = plural(*n, "clip");
    let mut table = table(["devices", "step", "exchange", "clips/s", "efficiency"]);
    for row in &report.times {
        table.add_row([
            row.devices.to_string(),
            ms(row.step_ms),
            ms(row.exchange_ms),
            short(row.clips_per_s),
            format!("{:.0} %", row.efficiency * 100.0),
        ]);
    }
    let names = counted(report.devices.iter().map(|of| format!("{} ({})", of.name, of.id)));
    let mut hardware: Vec<_> = report.devices.iter().map(|device| &device.id).collect();
    hardware.sort();
    hardware.dedup();
    let shared = match hardware.len() < report.devices.len() {
        true => "\nsome devices share hardware, so the efficiency is not that of separate ones",
        false => "",
    };
    format!(
        "{} on {}, {clips} of {t}×{h}×{w} each, {}{}, {} of gradients{shared}\n{}",
        report.backbone,
        names.join(", "),
        report.precision,
        if report.sync_batch_norm { ", synchronised batch norm" } else { "" },
        ByteSize(bytes),
        right_aligned(table)
    )
}

/// Formats what several devices would gain.
pub(super) fn scaling(scaled: &[Scaled], bytes: u64) -> String {
    let mut table =
        table(["link", "devices", "step", "exchange", "waiting", "clips/s", "efficiency"]);
    for row in scaled {
        table.add_row([
            row.link.to_owned(),
            row.devices.to_string(),
            ms(row.step_ms),
            ms(row.exchange_ms),
            ms(row.waiting_ms),
            format!("{:.0}", row.clips_per_s),
            format!("{:.0} %", row.efficiency * 100.0),
        ]);
    }
    let size = ByteSize(bytes);
    format!(
        "by a model, each device with a batch of its own, {size} of gradients\n{}",
        right_aligned(table)
    )
}

/// Formats the computed lower bounds.
pub(super) fn bounds(bounds: &Bounds) -> String {
    let Bounds { backbone, shape: [n, _, t, h, w], precision, roofline } = bounds;
    let clips = plural(*n, "clip");
    let step = &roofline.step;
    let mut text = format!(
        "{backbone}, {clips} of {t}×{h}×{w}, {precision}, a step: {:.1} GFLOP, {:.2} GB at least\n\
         each convolution's passes together, without matrix units; ms at best, * where\n\
         memory bounds them",
        step.gflop,
        step.mb / 1e3,
    );
    for card in &roofline.cards {
        let (tera, name) = (card.gflop_per_s / 1e3, card.name);
        text.push_str(&format!("\n{name}: {tera:.1} TFLOP/s in f32, {:.0} GB/s", card.gb_per_s));
    }
    let norm = |work: &NormWork| format!("{:.1} {}", work.bytes_per_value, work.form);
    let norms: Vec<_> = roofline.normalisations.iter().map(norm).collect();
    let all =
        |number: fn(&NormWork) -> f64| roofline.normalisations.iter().map(number).sum::<f64>();
    let mean = all(|work| work.mb) * 1e6 / all(|work| work.values as f64);
    let norms = norms.join(", ");
    text.push_str(&format!("\nbatch norm, bytes per value: {mean:.1} on average,\n{norms}"));
    let [first, second, third] = roofline.cards.map(|card| card.name.replace(' ', "\n"));
    let heads = ["convolution", "times", "GFLOP", "MB", "FLOP/B", &first, &second, &third];
    let mut table = table(heads);
    for layer in &roofline.layers {
        let [a, b, c] = std::array::from_fn(|card| {
            let mark = if layer.bound[card] == Bound::Bandwidth { "*" } else { "" };
            format!("{:.2}{mark}", layer.ms[card])
        });
        table.add_row([
            two_lines(&layer.shape),
            layer.count.to_string(),
            short(layer.gflop),
            short(layer.mb),
            format!("{:.0}", layer.flop_per_byte),
            a,
            b,
            c,
        ]);
    }
    let parts: [(&str, &Part); 5] = [
        ("all convolutions", &roofline.convolutions),
        ("batch norm, ReLU", &roofline.normalisation),
        ("max pooling", &roofline.pooling),
        ("AdamW", &roofline.optimizer),
        ("step", step),
    ];
    // A network without max pooling has no such row.
    for (name, part) in parts.into_iter().filter(|(_, part)| part.mb > 0.0) {
        let [a, b, c] = part.ms.map(|ms| format!("{ms:.2}"));
        let gflop = if part.gflop > 0.0 { format!("{:.1}", part.gflop) } else { String::new() };
        let mb = format!("{:.0}", part.mb);
        table.add_row([name.to_owned(), String::new(), gflop, mb, String::new(), a, b, c]);
    }
    let [a, b, c] = roofline.clips_per_s.map(|rate| format!("{rate:.0}"));
    let blank = String::new;
    table.add_row(["clips/s".to_owned(), blank(), blank(), blank(), blank(), a, b, c]);
    text.push('\n');
    text.push_str(&right_aligned(table).to_string());
    text
}

/// Breaks a shape into two lines: sizes, then window.
fn two_lines(shape: &str) -> String {
    shape.replacen(", ", "\n", 1)
}

fn ms(ms: f64) -> String {
    format!("{} ms", short(ms))
}

/// Formats a value with three digits, or with all digits before the point if they are more.
fn short(value: f64) -> String {
    let digits = [100.0, 10.0, 1.0].iter().filter(|bound| value < **bound).count();
    format!("{value:.digits$}")
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(header);
    table
}

/// Numbers are right-aligned; the first column is text.
fn right_aligned(mut table: Table) -> Table {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
        // The padding on the right separates the columns.
        column.set_padding((0, 1));
    }
    table
}
