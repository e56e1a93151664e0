//! Records a backbone's forward pass, which uses the kernels of training.

use super::program::{Id, Program, Recorder};
use super::weights::{Span, Weights};
use super::{WebError, max_pool};
use crate::conv::{ConvPass, wgsl as conv};
use crate::half::wgsl as half;
use crate::kernels::plan::{DeviceLimits, PlanError};
use crate::kernels::storage::Storage;
use crate::model::{Backbone, Part, STAGES, Unit};
use crate::norm::Spec;
use crate::norm::wgsl::BatchNorm;

/// Locations of the weights of a convolution and its batch norm.
#[derive(Debug, Clone, Copy)]
struct UnitSpans {
    conv: Span,
    gamma: Span,
    beta: Span,
    mean: Span,
    variance: Span,
}

/// Locations of a backbone's weights: those of each part's units, the shortcut's last.
#[derive(Debug)]
pub(super) struct BackboneSpans(Vec<Vec<UnitSpans>>);

/// Appends the weights of a backbone, those of convolutions in f16 if `half`.
pub(super) fn append(
    backbone: &Backbone,
    weights: &mut Weights,
    half: bool,
) -> Result<BackboneSpans, WebError> {
    let mut append = |(conv, norm): Unit<'_>, name: &str| -> Result<UnitSpans, WebError> {
        let [mean, variance] = norm.running();
        Ok(UnitSpans {
            conv: match half {
                true => weights.push_half(conv.weight.val(), name)?,
                false => weights.push(conv.weight.val())?,
            },
            gamma: weights.push(norm.weight.val())?,
            beta: weights.push(norm.bias.val())?,
            mean: weights.push(mean.value_sync())?,
            variance: weights.push(variance.value_sync())?,
        })
    };
    let part = |part: Part<'_>| {
        let name = format!("a convolution in {}", STAGES[part.stage]);
        let units = part.units().into_iter().chain(part.shortcut());
        units.map(|unit| append(unit, &name)).collect()
    };
    Ok(BackboneSpans(backbone.parts(0).into_iter().map(part).collect::<Result<_, _>>()?))
}

/// Records the forward pass of one clip of `[T, H, W]`, for devices with the given limits and activations
/// stored as `stored`.
pub(super) fn record(
    backbone: &Backbone,
    BackboneSpans(spans): &BackboneSpans,
    [t, h, w]: [usize; 3],
    stored: Storage,
    limits: DeviceLimits,
) -> Result<Program, PlanError> {
    let mut recorder = Recorder::new(limits, stored);
    let mut shape = [1, 3, t, h, w];
    let input = recorder.activations(shape.iter().product(), stored);
    let mut x = input;
    let mut number = [0; STAGES.len()];
    for (part, spans) in backbone.parts(0).into_iter().zip(spans) {
        let stage = part.stage;
        recorder.begin(match stage {
            0 => STAGES[0].to_owned(),
            _ => format!("{}.{}", STAGES[stage], number[stage]),
        });
        number[stage] += 1;
        let units = part.units();
        // The shortcut runs first: its result is smaller than its input, whose buffer is free earlier then.
        let residual = match part.shortcut() {
            Some(unit) => {
                let unit = (unit, spans[units.len()]);
                Some(record_unit(&mut recorder, unit, (x, shape), None, false)?.0)
            }
            None => part.is_block().then_some(x),
        };
        let last = units.len() - 1;
        for (index, unit) in units.into_iter().enumerate() {
            let added = residual.filter(|_| index == last);
            (x, shape) = record_unit(&mut recorder, (unit, spans[index]), (x, shape), added, true)?;
        }
        if let Some([_, pooled]) = part.pooling(shape) {
            let y = recorder.activations(pooled.iter().product(), stored);
            let plan = max_pool::plan([shape, pooled], stored, &recorder.limits)?;
            recorder.add(&plan, &[x, y]);
            (x, shape) = (y, pooled);
        }
    }
    let [_, c, t, h, w] = shape;
    Ok(recorder.finish([input, x], [c, t, h, w]))
}

/// Records a convolution, its batch norm, the addition of `added`, and a ReLU if `relu`.
fn record_unit(
    recorder: &mut Recorder,
    ((conv, norm), spans): (Unit<'_>, UnitSpans),
    (x, shape): (Id, [usize; 5]),
    added: Option<Id>,
    relu: bool,
) -> Result<(Id, [usize; 5]), PlanError> {
    let (stored, limits) = (recorder.stored, recorder.limits);
    let sizes = conv.shape(shape).ok_or(PlanError::Shape)?;
    let shape @ [n, c, t, h, w] = sizes.y();
    let values = sizes.output_len();
    let plan = conv::plan(ConvPass::Forward, &sizes, stored, &limits)?;
    let convolved = recorder.activations(values, stored);
    let weight = recorder.weights(spans.conv);
    recorder.add(&plan, &[x, weight, convolved]);

    let spec = Spec::new(norm.epsilon(), added.is_some(), relu);
    let norm = BatchNorm::new([n, c, t * h * w], spec, stored, &limits)?;
    let normalised = recorder.activations(values, norm.y());
    let [gamma, beta, mean, variance] =
        [spans.gamma, spans.beta, spans.mean, spans.variance].map(|span| recorder.weights(span));
    let mut operands = vec![convolved, gamma, beta, normalised, mean, variance];
    operands.extend(added);
    recorder.add(&norm.running(), &operands);
    if norm.y() == stored {
        return Ok((normalised, shape));
    }
    let converted = recorder.activations(values, stored);
    recorder.add(&half::to_half(stored, values, &limits)?, &[normalised, converted]);
    Ok((converted, shape))
}
