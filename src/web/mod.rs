//! Exports a trained network as a page that runs it in a browser: the launches of training's own kernels,
//! planned for WebGPU, with the weights and a player.

mod about;
mod backbone;
mod max_pool;
mod page;
mod program;
mod sharing;
#[doc(hidden)]
pub mod testing;
mod weights;

use std::path::PathBuf;

pub(crate) use max_pool::MaxPoolKernel;
pub use page::Written;
pub(crate) use page::is_page;
pub use program::{Buffer, Contents, Dispatch, Layer, Memory, Program};
pub use weights::Span;

use crate::checkpoint::CheckpointInfo;
use crate::data::InputSpec;
use crate::evaluate::Averaging;
use crate::kernels::storage::Storage;
use crate::kernels::{DeviceLimits, PlanError};
use crate::model::MultiViewNet;
use crate::schema::Schema;
use about::{About, AboutInput, AboutLinear, Network, ServedAbout, Smaller, clip_size, tasks};
use weights::Weights;

/// Why a page could not be made.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The network cannot compute clips of this size.
    #[error("clips of {}×{}×{} frames, rows and columns: {source}", .size[0], .size[1], .size[2])]
    Plan {
        /// T, H, W.
        size: [usize; 3],
        /// Why it cannot be computed.
        source: PlanError,
    },
    /// The weights cannot be read.
    #[error("the weights cannot be read: {0}")]
    Weights(String),
    /// A weight is beyond the range of f16.
    #[error("the weights of {tensor} have values beyond the range of f16 (±65504)")]
    BeyondHalf {
        /// Which weights.
        tensor: String,
    },
    /// The page cannot be rendered, which should not happen.
    #[error("the page cannot be rendered: {0}")]
    Template(#[from] askama::Error),
    /// The page's data cannot be written as JSON, which should not happen.
    #[error("the page cannot be rendered: {0}")]
    Json(#[from] serde_json::Error),
    /// The folder of the page contains other files.
    #[error("{}: the page is too large for one file and becomes a folder, but this one holds other files", .path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// A file or folder cannot be written.
    #[error("{}: cannot be written: {source}", .path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
}

/// A network with everything that a page needs to run it. [`WebModel::write`] writes the page.
#[derive(Debug)]
pub struct WebModel {
    about: About,
    weights: Vec<u8>,
}

/// Renders the page of a server that answers `POST /api/predictions`, for the network of the checkpoint
/// `name` and clips as specified by `input`. The page shows the frames of a clip that the network sees in a
/// single reading.
///
/// # Errors
/// [`WebError::Template`], [`WebError::Json`].
pub fn served_page(
    info: &CheckpointInfo,
    schema: &Schema,
    input: &InputSpec,
    name: &str,
    averaging: &Averaging,
) -> Result<String, WebError> {
    page::served(&ServedAbout {
        server: true,
        name,
        backbone: info.model.backbone.to_string(),
        epoch: info.epoch,
        tasks: tasks(info, schema),
        input: AboutInput::new(info, input),
        averaged: averaging.most(),
        same_crops_count_once: averaging.three_crops,
    })
}

/// Limits of a browser's device, except the size of a binding: the page requests the size that it needs.
const DEVICE: DeviceLimits =
    DeviceLimits { max_binding_bytes: i32::MAX as usize, ..DeviceLimits::WEBGPU };
/// Limits of SwiftShader, Chromium's software device, for which there are separate kernels.
const SOFTWARE: DeviceLimits =
    DeviceLimits { software: true, subgroup: [4, 4], subgroup_operations: true, ..DEVICE };
/// Factors on the height and width of frames for which the page also states the memory.
const SMALLER: [f64; 3] = [0.75, 0.5, 0.35];

impl WebModel {
    /// Prepares a network for clips as specified by `input`. With `half`, the weights of convolutions are
    /// stored as f16, and so are activations on devices that support f16. `name` is the checkpoint's.
    ///
    /// # Errors
    /// [`WebError`], except [`WebError::Write`].
    pub fn new(
        net: &MultiViewNet,
        info: &CheckpointInfo,
        schema: &Schema,
        input: &InputSpec,
        half: bool,
        name: &str,
    ) -> Result<Self, WebError> {
        let mut weights = Weights::default();
        let spans = backbone::append(&net.backbone, &mut weights, half)?;
        let attention = match &net.view_pool.attention {
            Some((first, _, second)) => Some(AboutLinear::pair([first, second], &mut weights)?),
            None => None,
        };
        let unknown =
            net.inputs.iter().map(|input| weights.push(input.weight.val().narrow(0, 0, 1)));
        let unknown = unknown.collect::<Result<_, _>>()?;
        let heads = net.heads.iter().map(|head| AboutLinear::pair(head.linears(), &mut weights));
        let network = Network { attention, unknown, heads: heads.collect::<Result<_, _>>()? };

        let size = clip_size(input);
        let program = |stored, limits, size| {
            backbone::record(&net.backbone, &spans, size, stored, limits)
                .map_err(|source| WebError::Plan { size, source })
        };
        let mut programs = vec![program(Storage::F32, SOFTWARE, size)?];
        if half {
            programs.push(program(Storage::F16, DEVICE, size)?);
        }
        programs.push(program(Storage::F32, DEVICE, size)?);
        let smaller = SMALLER.iter().filter_map(|share| {
            let side = |side: usize| ((side as f64 * share / 8.0) as usize).max(2) * 8;
            let size = [size[0], side(size[1]), side(size[2])];
            let memory = program(Storage::F32, DEVICE, size).ok()?.memory;
            Some(Smaller { size, memory })
        });
        let smaller = smaller.collect();
        let about = About {
            polyview: env!("CARGO_PKG_VERSION"),
            name: name.to_owned(),
            backbone: info.model.backbone.to_string(),
            epoch: info.epoch,
            tasks: tasks(info, schema),
            input: AboutInput::new(info, input),
            half,
            network,
            programs,
            smaller,
            bytes: weights.bytes.len(),
        };
        Ok(Self { about, weights: weights.bytes })
    }

    /// Returns the programs that run the backbone, for different devices.
    pub fn programs(&self) -> &[Program] {
        &self.about.programs
    }
}
