//! The source of the product shaders: templates filled with sizes and unrolled loops.

mod epilogue;
mod gather;
mod matrices;
mod soft;
mod units;
mod weight;
mod weight_products;

use std::fmt::Write;

use super::tile::Tile;

pub(super) use epilogue::memory as epilogue_memory;
pub(super) use gather::gather;
pub(super) use soft::{soft_gather, soft_pack, soft_weight};
pub(super) use weight::weight;

const PARTS: [&str; 4] = ["x", "y", "z", "w"];

/// Lines of an unrolled loop. Not every shader compiler unrolls every loop over an array of
/// registers; if it does not, the array ends up in memory.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn push(&mut self, line: std::fmt::Arguments) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{line}");
    }
}

macro_rules! line {
    ($lines:expr, $($text:tt)*) => { $lines.push(format_args!($($text)*)) };
}
use line;

fn phase() -> (&'static str, String) {
    ("conv_phase.wgsl", include_str!("../../../../shaders/include/conv_phase.wgsl").to_owned())
}

fn index() -> (&'static str, String) {
    ("conv_index.wgsl", include_str!("../../../../shaders/include/conv_index.wgsl").to_owned())
}

fn mask() -> (&'static str, String) {
    ("conv_mask.wgsl", include_str!("../../../../shaders/include/conv_mask.wgsl").to_owned())
}

fn tile_values(tile: Tile) -> Vec<(&'static str, String)> {
    vec![
        ("bm", tile.rows().to_string()),
        ("bn", tile.columns().to_string()),
        ("tm", tile.tm.to_string()),
        ("tn", tile.tn.to_string()),
        ("tx", tile.tx.to_string()),
        ("ty", tile.ty.to_string()),
        ("threads", tile.threads().to_string()),
    ]
}

/// Returns the statement that accumulates element (i, j) of a product over four channels.
fn four(i: u32, j: u32) -> String {
    let sum = PARTS
        .iter()
        .fold(format!("c{i}_{j}"), |sum, part| format!("fma(x{i}.{part}, y{j}.{part}, {sum})"));
    format!("c{i}_{j} = {sum};")
}
