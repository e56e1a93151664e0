//! Example predictions of a validation pass, for the report.

use burn::tensor::activation::softmax;
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::error::TrainError;
use crate::data::{Batch, Dataset, Reading};
use crate::model::Prediction;
use crate::report::html::Example;
use crate::schema::Schema;

/// Examples of each kind.
const EXAMPLES: usize = 3;
/// Most frames of a clip that are shown.
const FRAMES: usize = 8;
const JPEG_QUALITY: u8 = 80;

/// The prediction for one action.
#[derive(Debug, Clone)]
struct Candidate {
    action: String,
    correct: bool,
    /// Mean probability of the predicted classes if all are correct, else the largest one of a wrong
    /// class.
    confidence: f64,
    caption: String,
}

/// Collects the most confident correct and wrong predictions of a pass.
#[derive(Debug, Default)]
pub(super) struct ExampleCollector(Vec<Candidate>);

impl ExampleCollector {
    /// Adds a batch.
    pub(super) fn add(
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
            let mut correct = Vec::new();
            let mut wrong: Vec<f64> = Vec::new();
            let mut parts = Vec::new();
            for (task, values) in schema.tasks.iter().zip(&tasks) {
                let classes = task.classes.len();
                let row = &values[index * classes..][..classes];
                let best = (0..classes).rev().max_by(|a, b| row[*a].total_cmp(&row[*b]));
                let best = best.expect("a task has classes");
                let label = batch.labels[parts.len()][index];
                let probability = f64::from(row[best]);
                let name = |class: usize| &task.classes[class].name;
                let Some(label) = label else {
                    parts.push(format!(
                        "{}, which is unknown ({:.0} %)",
                        name(best),
                        probability * 100.0
                    ));
                    continue;
                };
                if best == label {
                    correct.push(probability);
                    parts.push(format!("{} ({:.0} %)", name(best), probability * 100.0));
                } else {
                    wrong.push(probability);
                    let (label, predicted) = (name(label), name(best));
                    parts.push(format!(
                        "{label}, predicted {predicted} ({:.0} %)",
                        probability * 100.0
                    ));
                }
            }
            let confidence = if wrong.is_empty() {
                correct.iter().sum::<f64>() / correct.len().max(1) as f64
            } else {
                wrong.iter().copied().fold(0.0, f64::max)
            };
            self.0.push(Candidate {
                action: action.clone(),
                correct: wrong.is_empty(),
                confidence,
                caption: format!("Action {action}: {}", parts.join("; ")),
            });
        }
        // Only the most confident are kept, so that a large split needs no memory.
        self.0.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        let mut counts = [0, 0];
        self.0.retain(|candidate| {
            let count = &mut counts[usize::from(candidate.correct)];
            *count += 1;
            *count <= EXAMPLES
        });
        Ok(())
    }

    /// The examples with frames of each action's first readable view: correct ones, wrong ones.
    pub(super) fn examples(&self, dataset: &Dataset) -> [Vec<Example>; 2] {
        [true, false].map(|correct| {
            let chosen = self.0.iter().filter(|candidate| candidate.correct == correct);
            chosen.filter_map(|candidate| example(candidate, dataset)).collect()
        })
    }
}

/// `None` where the clip can no longer be read: a missing picture does not stop the run.
fn example(candidate: &Candidate, dataset: &Dataset) -> Option<Example> {
    let index = dataset.samples.iter().position(|s| s.action == candidate.action)?;
    let mut resizer = dataset.resizer();
    let views = dataset.samples[index].views.len();
    let mut read = |view| dataset.read_one(index, view, &Reading::MIDDLE, &mut resizer).ok();
    let batch = (0..views).find_map(&mut read)?;
    let [t, h, w] = batch.size;
    let step = t.div_ceil(FRAMES).max(1);
    let frames = batch.frames.chunks(h * w * 3).step_by(step).filter_map(|frame| {
        let mut file = Vec::new();
        let encoder = JpegEncoder::new_with_quality(&mut file, JPEG_QUALITY);
        let (w, h) = (u32::try_from(w).ok()?, u32::try_from(h).ok()?);
        encoder.write_image(frame, w, h, ExtendedColorType::Rgb8).ok()?;
        Some(file)
    });
    Some(Example { caption: candidate.caption.clone(), frames: frames.collect() })
}
