//! What of a clip is fed to the network.

use serde::{Deserialize, Serialize};

use super::sampling::WindowSpec;

/// The network's input: which frames of a clip, at which size, of how many views.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputSpec {
    /// Which frames of a clip are sampled.
    pub window: WindowSpec,
    /// `[H, W]` of a frame, pixels.
    pub size: [usize; 2],
    /// Maximum number of views per action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_views: Option<usize>,
}
