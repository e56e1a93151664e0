//! Example predictions of a validation pass, for the report.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};

use crate::data::{Dataset, Reading};
use crate::evaluate::ActionPrediction;
use crate::report::html::Example;
use crate::schema::Schema;

/// Examples of each kind.
const EXAMPLES: usize = 3;
/// Most frames of a clip that are shown.
const FRAMES: usize = 8;
const JPEG_QUALITY: u8 = 80;

/// What is shown of a prediction.
#[derive(Debug, Clone)]
struct Candidate {
    action: String,
    correct: bool,
    /// Mean probability of the predicted classes if all are correct, else the largest one of a wrong
    /// class.
    confidence: f64,
    caption: String,
}

impl Candidate {
    fn new(schema: &Schema, prediction: &ActionPrediction) -> Self {
        let mut correct = Vec::new();
        let mut wrong: Vec<f64> = Vec::new();
        let mut parts = Vec::new();
        for (index, task) in schema.tasks.iter().enumerate() {
            let (best, probability) = (prediction.predicted(index), prediction.confidence(index));
            let name = |class: usize| &task.classes[class].name;
            let percent = probability * 100.0;
            parts.push(match prediction.labels[index] {
                None => format!("{}, which is unknown ({percent:.0} %)", name(best)),
                Some(label) if label == best => {
                    correct.push(probability);
                    format!("{} ({percent:.0} %)", name(best))
                }
                Some(label) => {
                    wrong.push(probability);
                    format!("{}, predicted {} ({percent:.0} %)", name(label), name(best))
                }
            });
        }
        let confidence = if wrong.is_empty() {
            correct.iter().sum::<f64>() / correct.len().max(1) as f64
        } else {
            wrong.iter().copied().fold(0.0, f64::max)
        };
        let action = prediction.action.clone();
        let caption = format!("Action {action}: {}", parts.join("; "));
        Self { action, correct: wrong.is_empty(), confidence, caption }
    }
}

/// The most confident correct predictions and the most confident wrong ones, with frames of each action's
/// first readable view.
pub(super) fn examples(
    schema: &Schema,
    predictions: &[ActionPrediction],
    dataset: &Dataset,
) -> [Vec<Example>; 2] {
    let mut candidates: Vec<Candidate> =
        predictions.iter().map(|prediction| Candidate::new(schema, prediction)).collect();
    candidates.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    [true, false].map(|correct| {
        let chosen = candidates.iter().filter(|candidate| candidate.correct == correct);
        chosen.take(EXAMPLES).filter_map(|candidate| example(candidate, dataset)).collect()
    })
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
