//! Example predictions of a validation pass, for the report.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder, RgbImage};

use crate::data::{Batch, Dataset, Reading};
use crate::evaluate::{ActionPrediction, Saliency};
use crate::report::caption::Caption;
use crate::report::html::{Example, Strip};
use crate::schema::Schema;
use crate::sheet::explained as explained_row;

/// Number of examples of each kind.
const EXAMPLES: usize = 3;
/// Largest number of frames shown of a clip.
const FRAMES: usize = 8;
const JPEG_QUALITY: u8 = 80;

/// A prediction that may be shown as an example.
#[derive(Debug, Clone)]
struct Candidate {
    action: String,
    correct: bool,
    /// Mean probability of the predicted classes if all are correct, otherwise the largest
    /// probability of a wrong class.
    confidence: f64,
    /// Task and class to explain: the most confident wrong class, otherwise the most confident class.
    explained: [usize; 2],
    caption: Caption,
}

impl Candidate {
    fn new(schema: &Schema, prediction: &ActionPrediction) -> Self {
        let mut correct = Vec::new();
        let mut wrong: Vec<f64> = Vec::new();
        let action = prediction.action.clone();
        let mut caption = Caption::default().words("Action ").name(&action);
        let mut explained = ([0, prediction.predicted(0)], (false, 0.0));
        for (index, task) in schema.tasks.iter().enumerate() {
            let (best, probability) = (prediction.predicted(index), prediction.confidence(index));
            let name = |class: usize| &task.classes[class].name;
            let percent = probability * 100.0;
            let is_wrong = prediction.labels[index].is_some_and(|label| label != best);
            if (is_wrong, probability) > explained.1 {
                explained = ([index, best], (is_wrong, probability));
            }
            caption = caption.words(if index == 0 { ": " } else { "; " });
            caption = match prediction.labels[index] {
                None => caption.name(name(best)).words(", true class unknown"),
                Some(label) if label == best => {
                    correct.push(probability);
                    caption.name(name(best))
                }
                Some(label) => {
                    wrong.push(probability);
                    caption.name(name(label)).words(", predicted ").name(name(best))
                }
            };
            caption = caption.words(format!(" ({percent:.0} %)"));
        }
        let confidence = if wrong.is_empty() {
            correct.iter().sum::<f64>() / correct.len().max(1) as f64
        } else {
            wrong.iter().copied().fold(0.0, f64::max)
        };
        let (explained, correct) = (explained.0, wrong.is_empty());
        Self { action, correct, confidence, explained, caption }
    }
}

/// Returns a saliency map of each view in a batch of one action for a class, given `[task, class]`;
/// `None` if there is none.
pub(super) type Explain<'a> = dyn Fn(&Batch, [usize; 2]) -> Option<Vec<Saliency>> + 'a;

/// Returns the most confident correct predictions and the most confident wrong ones, with frames of each
/// action's first readable view and the saliency maps of all its views.
pub(super) fn examples(
    schema: &Schema,
    predictions: &[ActionPrediction],
    dataset: &Dataset,
    explain: &Explain<'_>,
) -> [Vec<Example>; 2] {
    let mut candidates: Vec<Candidate> =
        predictions.iter().map(|prediction| Candidate::new(schema, prediction)).collect();
    candidates.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    [true, false].map(|correct| {
        let chosen = candidates.iter().filter(|candidate| candidate.correct == correct);
        let examples = chosen.take(EXAMPLES);
        examples.filter_map(|candidate| example(candidate, schema, dataset, explain)).collect()
    })
}

/// Builds an example; `None` if the clips can no longer be read, as a missing picture must not end
/// the run.
fn example(
    candidate: &Candidate,
    schema: &Schema,
    dataset: &Dataset,
    explain: &Explain<'_>,
) -> Option<Example> {
    let index = dataset.samples.iter().position(|s| s.action == candidate.action)?;
    let read = dataset.read_batch(&[index], &Reading::MIDDLE, &mut dataset.resizer());
    let batch = match read {
        Ok(batch) => batch?,
        Err(error) => {
            log::warn!("the report shows no frames of action {}: {error}", candidate.action);
            return None;
        }
    };
    let [t, h, w] = batch.size;
    let step = t.div_ceil(FRAMES).max(1);
    let frames = batch.frames_of(0..1).chunks(h * w * 3).step_by(step);
    let frames = frames.filter_map(|frame| jpeg(frame, [h, w])).collect();
    let first = batch.views.first().map_or(0, |view| view + 1);
    let title = Caption::default().words(format!("View {first}"));
    let mut strips = vec![Strip { title, frames }];
    let [task, class] = candidate.explained;
    let explained = explain(&batch, candidate.explained).unwrap_or_default();
    for (clip, (saliency, view)) in explained.iter().zip(&batch.views).enumerate() {
        let class = &schema.tasks[task].classes[class].name;
        let words = format!("View {}: warmer regions count more towards ", view + 1);
        let title = Caption::default().words(words).name(class);
        let row = explained_row(&batch, clip, saliency, String::new());
        let size = |frame: &RgbImage| [frame.height() as usize, frame.width() as usize];
        let frames = row.frames.iter().filter_map(|frame| jpeg(frame, size(frame))).collect();
        strips.push(Strip { title, frames });
    }
    Some(Example { caption: candidate.caption.clone(), strips })
}

/// Encodes a frame `[H, W, 3]` as a JPEG file.
fn jpeg(frame: &[u8], [h, w]: [usize; 2]) -> Option<Vec<u8>> {
    let mut file = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut file, JPEG_QUALITY);
    let (w, h) = (u32::try_from(w).ok()?, u32::try_from(h).ok()?);
    encoder.write_image(frame, w, h, ExtendedColorType::Rgb8).ok()?;
    Some(file)
}
