//! Options that take one of a few words.

use crate::choices::choices;

choices! {
    /// Which rule turns gradients into updates.
    OptimizerKind {
        /// Adam with decoupled weight decay (Loshchilov & Hutter 2019).
        AdamW = "adamw",
        /// Adam (Kingma & Ba 2015); weight decay is added to the gradient.
        Adam = "adam",
        /// Stochastic gradient descent with momentum.
        Sgd = "sgd",
    }
}

choices! {
    /// How the learning rate changes over the run.
    SchedulerKind {
        /// Half a cosine from the full rate to a hundredth of it.
        Cosine = "cosine",
        /// Up and down again within the run, changed at every step (Smith & Topin 2018).
        OneCycle = "onecycle",
        /// Multiplied by `gamma` after every `step-size` epochs.
        Step = "step",
        /// Multiplied by `gamma` after every epoch.
        Exponential = "exponential",
        /// Multiplied by `gamma` when the score has not risen for `plateau-patience` epochs.
        ReduceOnPlateau = "reduce_on_plateau",
        /// Constant.
        None = "none",
    }
}

choices! {
    /// The loss of the imbalanced task; the other tasks have plain cross-entropy.
    LossFunction {
        /// Cross-entropy with class weights.
        Weighted = "weighted",
        /// Focal loss with class weights.
        Focal = "focal",
        /// Focal loss whose exponent is larger for rarer classes.
        AdaptiveFocal = "adaptive_focal",
        /// Cross-entropy.
        Plain = "plain",
    }
}

choices! {
    /// Which stages of the backbone train when.
    FreezingKind {
        /// Gradual fine-tuning's two phases: heads only, then the last `unfreeze-blocks` stages.
        Fixed = "fixed",
        /// The next stage whenever the score stalls.
        Adaptive = "adaptive",
        /// The next stage at fixed intervals.
        Progressive = "progressive",
        /// Whenever the score stalls, the frozen stage with the largest gradient.
        GradientGuided = "gradient_guided",
        /// Nothing is ever frozen.
        None = "none",
    }
}
