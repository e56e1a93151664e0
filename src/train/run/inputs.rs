//! The data of a run and what its checkpoints say about them.

use std::rc::Rc;

use crate::checkpoint::CheckpointInfo;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::data::DatasetError;
use crate::data::sampling::WindowSpec;
use crate::data::source::Partition;
use crate::schema::Schema;
use crate::train::agreement::compare_data;
use crate::train::error::TrainError;
use crate::train::run_data::RunData;

/// What a run trains on.
pub(super) struct Inputs<'a> {
    pub schema: Schema,
    pub data: RunData<'a>,
    pub window: WindowSpec,
    /// Description of the run's checkpoints.
    pub info: CheckpointInfo,
}

impl<'a> Inputs<'a> {
    /// Checks the configuration and opens the data that it names.
    pub(super) fn open(
        config: &'a Config,
        cluster: Option<&Rc<Cluster>>,
    ) -> Result<Self, TrainError> {
        config.validate()?;
        config.warnings().iter().for_each(|warning| log::warn!("{warning}"));
        let source = config.open_data().map_err(DatasetError::from)?;
        let schema = source.schema().clone();
        config.validate_with(&schema)?;
        source.notes().iter().for_each(|note| log::info!("{note}"));
        let data = RunData::open(config, &source)?;
        if let Some(cluster) = cluster {
            compare_data(&data, cluster)?;
        }
        let partition =
            Some(config.data.partition.partition()).filter(|p| *p != Partition::default());
        let input = config.input(&schema)?;
        let window = input.window;
        let info = CheckpointInfo {
            input: Some(input),
            partition,
            trained_digests: source
                .makes("train")
                .then(|| data.train.annotations.digest())
                .into_iter()
                .collect(),
            ..CheckpointInfo::new(&schema, config.model(&schema))
        };
        Ok(Self { schema, data, window, info })
    }

    /// Returns these inputs of a run that continues a checkpoint, which was trained on splits with the digests
    /// `before`; `None` without a checkpoint. Actions seen before the data set changed still count as
    /// trained on. An empty list means that the earlier data are unknown.
    pub(super) fn continuing(self, before: Option<Vec<u32>>) -> Self {
        let Some(mut digests) = before else {
            return self;
        };
        let now = self.info.trained_digests;
        if !digests.is_empty() && now.iter().any(|digest| !digests.contains(digest)) {
            digests.extend(now);
        }
        Self { info: CheckpointInfo { trained_digests: digests, ..self.info }, ..self }
    }
}
