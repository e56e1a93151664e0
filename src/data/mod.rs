//! The data pipeline, from a folder of annotated clips to batches of uint8 frames. Nothing here
//! depends on tensors, so all of it is tested without a device.
//!
//! [`DataSource`] (annotations, folders, tables) → [`Dataset`] → [`loader`]: [`cache`], or
//! sampling, decoding and resizing → [`Batch`].

#[doc(hidden)]
pub mod annotations;
pub mod balance;
pub mod cache;
pub mod check;
#[doc(hidden)]
pub mod clip;
mod dataset;
#[doc(hidden)]
pub mod error;
pub(crate) mod folder;
mod input;
pub(crate) mod json;
#[doc(hidden)]
pub mod layout;
pub mod loader;
pub mod mix;
pub(crate) mod natural;
mod place;
mod plan;
#[doc(hidden)]
pub mod problem;
mod reach;
mod reading;
pub mod sampler;
pub mod sampling;
pub mod source;
mod split;
#[doc(hidden)]
pub mod video;
mod window;

pub use dataset::{Batch, Dataset, DatasetError, Sample};
pub use error::DataError;
pub use input::InputSpec;
pub use place::{Place, Reading};
pub use plan::Plan;
pub use polyview_cpu::resize;
pub use source::DataSource;
pub use window::Window;
