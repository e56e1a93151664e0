//! The predictions of a validation pass that are worth looking at.

use burn::tensor::activation::softmax;
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::TrainError;
use crate::data::{Batch, Dataset};
use crate::model::Prediction;
use crate::report::html::Example;
use crate::schema::Schema;

/// As many of each kind are shown.
const SHOWN: usize = 3;
/// Frames of a clip that are shown, at most.
const FRAMES: usize = 8;
const JPEG_QUALITY: u8 = 80;

/// One action, seen.
#[derive(Debug, Clone)]
struct Sighting {
    action: String,
    right: bool,
    /// Mean probability of what was right, or the largest of what was wrong.
    sureness: f64,
    caption: String,
}

/// Gathers the surest right and the surest wrong answers of a pass.
#[derive(Debug, Default)]
pub(super) struct Sightings(Vec<Sighting>);

impl Sightings {
    /// Adds a batch.
    pub fn add(
        &mut self,
        schema: &Schema,
        batch: &Batch,
        prediction: &Prediction,
    ) -> Result<(), TrainError> {
        let tasks: Vec<Vec<f32>> = prediction
            .logits
            .iter()
            .map(|logits| softmax(logits.clone(), 1).try_into_vec_as::<f32>())
            .collect::<Result<_, _>>()?;
        for (index, action) in batch.actions.iter().enumerate() {
            let mut right = Vec::new();
            let mut wrong: Vec<f64> = Vec::new();
            let mut words = Vec::new();
            for (task, values) in schema.tasks.iter().zip(&tasks) {
                let classes = task.classes.len();
                let row = &values[index * classes..][..classes];
                let best = (0..classes).rev().max_by(|a, b| row[*a].total_cmp(&row[*b]));
                let (best, label) = (best.unwrap_or(0), batch.labels[words.len()][index]);
                let sure = f64::from(row[best]);
                let name = |class: usize| &task.classes[class].name;
                if best == label {
                    right.push(sure);
                    words.push(format!("{} ({:.0} %)", name(best), sure * 100.0));
                } else {
                    wrong.push(sure);
                    let (is, said) = (name(label), name(best));
                    words.push(format!("{is}, taken for {said} ({:.0} %)", sure * 100.0));
                }
            }
            let sureness = if wrong.is_empty() {
                right.iter().sum::<f64>() / right.len().max(1) as f64
            } else {
                wrong.iter().copied().fold(0.0, f64::max)
            };
            self.0.push(Sighting {
                action: action.clone(),
                right: wrong.is_empty(),
                sureness,
                caption: format!("Action {action}: {}", words.join("; ")),
            });
        }
        // Only the surest are kept, so that a large split costs nothing.
        self.0.sort_by(|a, b| b.sureness.total_cmp(&a.sureness));
        let mut counts = [0, 0];
        self.0.retain(|sighting| {
            let count = &mut counts[usize::from(sighting.right)];
            *count += 1;
            *count <= SHOWN
        });
        Ok(())
    }

    /// The examples with frames of each action's first readable view: right ones, wrong ones.
    pub fn examples(&self, dataset: &Dataset) -> [Vec<Example>; 2] {
        [true, false].map(|right| {
            let chosen = self.0.iter().filter(|sighting| sighting.right == right);
            chosen.filter_map(|sighting| example(sighting, dataset)).collect()
        })
    }
}

/// `None` where the clip can no longer be read: a missing picture is no reason to stop.
fn example(sighting: &Sighting, dataset: &Dataset) -> Option<Example> {
    let index = dataset.samples.iter().position(|s| s.action == sighting.action)?;
    let mut resizer = dataset.resizer();
    let views = dataset.samples[index].views.len();
    let batch = (0..views).find_map(|view| dataset.read_one(index, view, &mut resizer).ok())?;
    let [t, h, w] = batch.size;
    let step = t.div_ceil(FRAMES).max(1);
    let frames = batch.frames.chunks(h * w * 3).step_by(step).filter_map(|frame| {
        let mut file = Vec::new();
        let encoder = JpegEncoder::new_with_quality(&mut file, JPEG_QUALITY);
        let (w, h) = (u32::try_from(w).ok()?, u32::try_from(h).ok()?);
        encoder.write_image(frame, w, h, ExtendedColorType::Rgb8).ok()?;
        Some(file)
    });
    Some(Example { caption: sighting.caption.clone(), frames: frames.collect() })
}
