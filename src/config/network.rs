//! The network.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::checkpoint;
use crate::model::{BackboneKind, DROPOUT_FEATURE, DROPOUT_HEAD, ModelConfig};
use crate::options::{self, choice, option_defaults};
use crate::schema::Schema;

/// Backbone, view aggregation, dropout and the weights to start from.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[command(next_help_heading = "Network")]
pub struct NetworkConfig {
    /// 3D ResNet that all views share
    #[arg(long, value_name = "NAME", value_parser = choice::<BackboneKind>())]
    #[arg(default_value_t = BackboneKind::R2plus1d18)]
    pub backbone_name: BackboneKind,
    /// Merge views by learned attention.
    #[arg(long, default_value_t = true, help = "Merge views by their mean, without attention")]
    pub attention_aggregation: bool,
    /// Dropout on each view's feature and inside the heads [default: 0.4 and 0.6]
    #[arg(long, value_name = "P", value_parser = options::below_one)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout_rate: Option<f64>,
    /// Weights to start from: the backbone's public ones or a checkpoint (.pth, .pt or .safetensors), or a
    /// run's folder for its best ones
    #[arg(long, value_name = "FILE", value_parser = options::file_or_folder(checkpoint::BEST, None))]
    #[serde(with = "options::optional_path_text", skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<PathBuf>,
    /// Feed other annotated properties (contact, body part, …) to the heads
    #[arg(long)]
    pub annotation_inputs: bool,
}

option_defaults!(NetworkConfig);

impl NetworkConfig {
    /// Returns the network's shape, with auxiliary heads if requested.
    pub fn model(&self, schema: &Schema, auxiliary_heads: bool) -> ModelConfig {
        let mut model = ModelConfig {
            attention: self.attention_aggregation,
            dropout_feature: self.dropout_rate.unwrap_or(DROPOUT_FEATURE),
            dropout_head: self.dropout_rate.unwrap_or(DROPOUT_HEAD),
            ..ModelConfig::new(self.backbone_name, schema)
        };
        if self.annotation_inputs {
            model = model.with_inputs(schema);
        }
        if auxiliary_heads {
            model = model.with_auxiliary(schema);
        }
        model
    }
}
