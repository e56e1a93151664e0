//! What is said of one action, as `predict --json` and the server's API have it.

use indexmap::IndexMap;
use serde::Serialize;

use super::ActionPrediction;
use crate::schema::Schema;

/// The prediction of an action for programs. Keys do not change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActionAnswer {
    /// The action's name.
    pub action: String,
    /// For each task its classes, the most probable first; empty without a readable view.
    pub tasks: IndexMap<String, Vec<ClassAnswer>>,
    /// The tasks whose most probable class is less probable than was asked for.
    pub undecided: Vec<String>,
    /// The views that could be read.
    pub views: Vec<ViewAnswer>,
    /// Number of predictions of which this is the mean; 0 without a readable view.
    pub averaged: usize,
    /// The views that could not be read.
    pub unreadable: Vec<UnreadableView>,
}

/// A class with its probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassAnswer {
    /// The class's name.
    pub class: String,
    /// Its probability.
    pub confidence: f64,
}

/// A view that could be read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ViewAnswer {
    /// What the clip is called.
    pub clip: String,
    /// Its weight in the aggregation; the sum over the views is 1.
    pub share: f64,
}

/// A view that could not be read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UnreadableView {
    /// Its place among the clips that were given, from 0.
    pub view: usize,
    /// What the clip is called.
    pub clip: String,
    /// Why not.
    pub reason: String,
}

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AnswerOptions {
    /// Most classes per task; `None` for all.
    pub top: Option<usize>,
    /// A task is undecided where its most probable class has a smaller probability.
    pub min_confidence: Option<f64>,
}

impl AnswerOptions {
    /// Whether the network is sure enough of a task.
    pub fn decides(&self, prediction: &ActionPrediction, task: usize) -> bool {
        prediction.confidence(task) >= self.min_confidence.unwrap_or(0.0)
    }
}

impl ActionAnswer {
    /// What is said of an action whose views are called `clips`. `unreadable` are the indices of those
    /// that could not be read, and the reasons; without a prediction there are neither tasks nor views.
    ///
    /// # Panics
    /// With a prediction of another schema or of more views.
    pub fn new(
        schema: &Schema,
        action: &str,
        clips: &[String],
        prediction: Option<&ActionPrediction>,
        unreadable: Vec<(usize, String)>,
        options: &AnswerOptions,
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
            let class = |(class, confidence): (usize, f64)| ClassAnswer {
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
            views.map(|(view, &share)| ViewAnswer { clip: clips[*view].clone(), share }).collect();
        answer.averaged = prediction.averaged;
        answer
    }
}
