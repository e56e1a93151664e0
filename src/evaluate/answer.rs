//! The prediction of one action in the form that `predict --json` and the server's API return.

use indexmap::IndexMap;
use serde::Serialize;

use super::ActionPrediction;
use crate::schema::Schema;

/// Machine-readable prediction of an action. Its JSON keys do not change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActionOutput {
    /// The action's name.
    pub action: String,
    /// Classes of each task, the most probable first; empty without a readable view.
    pub tasks: IndexMap<String, Vec<ClassOutput>>,
    /// The tasks whose most probable class is below the requested confidence.
    pub undecided: Vec<String>,
    /// The views that could be read.
    pub views: Vec<ViewOutput>,
    /// Number of predictions averaged; 0 without a readable view.
    pub averaged: usize,
    /// The views that could not be read.
    pub unreadable: Vec<UnreadableView>,
}

/// A class with its probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassOutput {
    /// The class's name.
    pub class: String,
    /// The class's probability.
    pub confidence: f64,
}

/// A view that could be read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ViewOutput {
    /// Name of the clip.
    pub clip: String,
    /// The view's weight in the aggregation; the weights sum to 1.
    pub share: f64,
}

/// A view that could not be read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UnreadableView {
    /// Index of the view among the given clips, counted from 0.
    pub view: usize,
    /// Name of the clip.
    pub clip: String,
    /// Why it could not be read.
    pub reason: String,
}

/// What an answer contains.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OutputOptions {
    /// Maximum number of classes per task; `None` for all.
    pub top: Option<usize>,
    /// Minimum probability of a task's most probable class; below it, the task is undecided.
    pub min_confidence: Option<f64>,
}

impl OutputOptions {
    /// Whether the network is confident enough to decide a task.
    pub fn decides(&self, prediction: &ActionPrediction, task: usize) -> bool {
        prediction.confidence(task) >= self.min_confidence.unwrap_or(0.0)
    }
}

impl ActionOutput {
    /// Creates the answer for an action whose views are named `clips`. `unreadable` lists the indices of
    /// the views that could not be read, with the reasons. Without a prediction, the answer has neither
    /// tasks nor views.
    ///
    /// # Panics
    /// If the prediction is for another schema or for more views.
    pub fn new(
        schema: &Schema,
        action: &str,
        clips: &[String],
        prediction: Option<&ActionPrediction>,
        unreadable: Vec<(usize, String)>,
        options: &OutputOptions,
    ) -> Self {
        let unreadable = unreadable.into_iter();
        let unreadable = unreadable
            .map(|(view, reason)| UnreadableView { view, clip: clips[view].clone(), reason })
            .collect();
        let mut answer = Self {
            action: action.to_owned(),
            tasks: IndexMap::new(),
            undecided: Vec::new(),
            views: Vec::new(),
            averaged: 0,
            unreadable,
        };
        let Some(prediction) = prediction else { return answer };
        for (index, task) in schema.tasks.iter().enumerate() {
            let ranked = prediction.ranked(index).into_iter();
            let class = |(class, confidence): (usize, f64)| ClassOutput {
                class: task.classes[class].name.clone(),
                confidence,
            };
            let classes = ranked.take(options.top.unwrap_or(usize::MAX)).map(class).collect();
            answer.tasks.insert(task.name.clone(), classes);
            if !options.decides(prediction, index) {
                answer.undecided.push(task.name.clone());
            }
        }
        let views = prediction.views.iter().zip(&prediction.shares);
        answer.views =
            views.map(|(view, &share)| ViewOutput { clip: clips[*view].clone(), share }).collect();
        answer.averaged = prediction.averaged;
        answer
    }
}
