//! The input of the network.

use serde::{Deserialize, Serialize};

use super::sampling::WindowSpec;

/// The network's input: the sampled frames of a clip, their size, and the number of views.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputSpec {
    /// The window from which frames are sampled.
    pub window: WindowSpec,
    /// Frame size `[H, W]`, pixels.
    pub size: [usize; 2],
    /// Maximum number of views per action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_views: Option<usize>,
}
