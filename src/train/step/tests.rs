//! Compares the gradients of a batch computed in parts with those of one graph over the same parts.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

use super::*;
use crate::data::Plan;
use crate::device;
use crate::losses::{CrossEntropy, Focal};
use crate::model::plain_clips_of;
use crate::model::state_dict::StateDict;
use crate::model::{BackboneKind, ModelConfig, StageSet, state_dict};
use crate::schema::Schema;
use crate::train::lanes::Lanes;
use crate::train::objective::Losses;
use crate::train::{LossScale, Optimizer, Rates, Rule, Trainer};

const SIZE: [usize; 3] = [2, 20, 18];

fn batch(schema: &Schema) -> Batch {
    let view_counts = vec![2, 1, 3, 1];
    let clips: usize = view_counts.iter().sum();
    let bytes = clips * SIZE.iter().product::<usize>() * 3;
    let of_class = |classes: usize, by: usize| -> Vec<usize> {
        (0..4).map(|a| (a * by + 1) % classes).collect()
    };
    // One action's class is unknown in each task.
    let labels = |(n, task): (usize, &crate::schema::Task)| {
        let labels = of_class(task.classes.len(), 3).into_iter().enumerate();
        labels.map(|(action, label)| (action != n).then_some(label)).collect()
    };
    let properties = schema.properties.iter().enumerate();
    Batch {
        actions: (0..4).map(|action| action.to_string()).collect(),
        earlier: vec![0; 4],
        views: view_counts.iter().flat_map(|&count| 0..count).collect(),
        view_counts,
        labels: schema.tasks.iter().enumerate().map(labels).collect(),
        // Some values are unknown; in some properties all of them are.
        properties: properties.map(|(n, p)| of_class(p.values.len() + 1, n % 3)).collect(),
        frames: (0..bytes).map(|n| (n * n % 251 + n / 977 % 5) as u8).collect(),
        frames_from: 0,
        size: SIZE,
        mix: None,
        lanes: vec![0..4],
    }
}

struct Case {
    net: MultiViewNet,
    model: ModelConfig,
    objective: Objective,
    batch: Batch,
    device: Device,
}

impl Case {
    fn new(trainable: StageSet) -> Self {
        let schema = Schema::mvfoul().unwrap();
        let device = Device::flex().autodiff();
        let mut config = crate::config::Config::default();
        config.loss.auxiliary_task_weight = 0.7;
        config.network.backbone_name = BackboneKind::R3dTiny;
        let folder = Vec::new();
        let window = config.clips.window(&schema).unwrap();
        let dataset = crate::data::Dataset::of_clips(folder, window, [20, 18]);
        let objective = Objective::new(&config, &schema, &dataset)
            .with_loss(
                0,
                CrossEntropy {
                    class_weights: Some(vec![1.0, 4.0, 0.5, 2.5]),
                    label_smoothing: 0.1,
                },
            )
            .with_loss(1, Focal { gamma: vec![2.0; 8], class_weights: None, label_smoothing: 0.0 });
        let model = config.model(&schema);
        let net = model.init(3, &device).with_trainable(trainable);
        Self { net, model, objective, batch: batch(&schema), device }
    }

    /// Returns a separate copy of the network; clones would share running statistics.
    fn fresh(&self) -> MultiViewNet {
        let mut net = self.model.init(3, &self.device);
        let state = state_dict::collect(&self.net).unwrap();
        state_dict::load(&mut net, state).unwrap();
        let lowest = self.net.backbone.lowest_trainable();
        net.with_trainable(lowest.map_or(StageSet::NONE, |stage| StageSet::last(5 - stage)))
    }

    /// Returns the state of the network after an SGD step with a learning rate of 1.
    fn stepped(&self, net: MultiViewNet, grads: GradientsParams) -> StateDict {
        let rule = Rule::Sgd { momentum: 0.0, weight_decay: 0.0 };
        let (net, _) = Optimizer::new(rule, 0.0).step(net, grads, &|_| 1.0, None).unwrap();
        state_dict::collect(&net).unwrap()
    }

    fn masks(&self) -> DropoutMasks {
        DropoutMasks::new(5, 7, &self.batch.actions, &self.batch.earlier)
    }

    fn in_pieces(&self, memory: StepMemory) -> (StateDict, Losses, Vec<Tensor<2>>) {
        let net = self.fresh();
        let clips = |range| Ok(plain_clips_of(&self.batch, range, &self.device)?);
        let (objective, batch) = (&self.objective, &self.batch);
        let actions = 0..batch.actions.len();
        let clips = &clips;
        let step = Step {
            net: &net,
            objective,
            batch,
            actions,
            clips,
            memory,
            loss_scale: 1.0,
            lane_sync: None,
            gradient_sink: None,
        };
        let mut watch = MemoryWatch::start(&self.device);
        let done = step.queue(Some(&self.masks())).unwrap().finish(&mut watch).unwrap();
        done.statistics.apply();
        (self.stepped(net, done.grads), done.result.losses, done.result.logits)
    }

    /// Computes everything in one graph, in which batch norm is applied to each piece of a part
    /// separately.
    fn in_one_graph(&self, parts: &[(Range<usize>, &[Range<usize>])]) -> (StateDict, Losses) {
        let net = self.fresh();
        let masks = self.masks();
        let (mut costs, mut total) = (Vec::new(), Vec::new());
        for (actions, pieces) in parts {
            let features = pieces.iter().map(|piece| {
                net.backbone
                    .forward(plain_clips_of(&self.batch, piece.clone(), &self.device).unwrap())
            });
            let features = Tensor::cat(features.collect(), 0);
            let views = ViewLayout::new(self.batch.view_counts[actions.clone()].to_vec());
            let masks = masks.of(actions.clone());
            let prediction = net.classify(features, &views, &[], Some(&masks));
            let cost = self.objective.cost_of(&prediction, &self.batch, actions.clone());
            total.push(cost.total.clone());
            costs.push(cost);
        }
        let losses = Cost::read_sum(&costs).unwrap();
        let grads = Tensor::cat(total, 0).sum().backward();
        let grads = GradientsParams::from_grads(grads, &net);
        (self.stepped(net, grads), losses)
    }
}

/// Returns the largest difference relative to a tensor's largest value, over all tensors.
fn worst(ours: &StateDict, theirs: &StateDict) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let of = |name: &String| {
        let (a, b) = (ours[name].try_to_vec::<f32>(), theirs[name].try_to_vec::<f32>());
        let (a, b) = (a.unwrap(), b.unwrap());
        let largest = b.iter().fold(1e-6_f32, |most, x| most.max(x.abs()));
        let differ = a.iter().zip(&b).fold(0.0_f32, |most, (x, y)| most.max((x - y).abs()));
        f64::from(differ / largest)
    };
    ours.keys().map(of).fold(0.0, f64::max)
}

#[test]
fn a_batch_in_pieces_has_the_gradients_of_the_whole() {
    // The actions have the clips 0 1 | 2 | 3 4 5 | 6.
    type Pieces<'a> = Vec<(Range<usize>, &'a [Range<usize>])>;
    let cases: [(usize, Pieces); 4] = [
        (usize::MAX, vec![(0..4, &[0..7])]),
        (4, vec![(0..2, &[0..3]), (2..4, &[3..7])]),
        (2, vec![(0..1, &[0..2]), (1..2, &[2..3]), (2..3, &[3..4, 4..6]), (3..4, &[6..7])]),
        (
            1,
            vec![
                (0..1, &[0..1, 1..2]),
                (1..2, &[2..3]),
                (2..3, &[3..4, 4..5, 5..6]),
                (3..4, &[6..7]),
            ],
        ),
    ];
    for trainable in [StageSet::ALL, StageSet::last(2), StageSet::NONE] {
        let case = Case::new(trainable);
        let start = state_dict::collect(&case.net).unwrap();
        for (micro_batch, parts) in &cases {
            let (expected, losses) = case.in_one_graph(parts);
            assert!(worst(&expected, &start) > 1e-3, "the step changes nothing");
            for gradient_checkpointing in [false, true] {
                let memory = StepMemory { micro_batch: *micro_batch, gradient_checkpointing };
                let (ours, our_losses, logits) = case.in_pieces(memory);
                let error = worst(&ours, &expected);
                println!("{memory:?}, {:?}: {error:.1e}", trainable.names());
                assert!(error < 2e-5, "{memory:?}, {:?}: {error}", trainable.names());
                assert!((our_losses.total - losses.total).abs() < 1e-5 * losses.total);
                assert_eq!(our_losses.auxiliary.len(), losses.auxiliary.len());
                assert_eq!(logits[1].dims(), [4, 8]);
            }
        }
        // The costs of the parts add up to the batch's, including weights and unknown properties.
        let net = case.fresh().valid();
        let plain = case.device.clone().without_autodiff();
        let clips = plain_clips_of(&case.batch, 0..7, &plain).unwrap();
        let features = net.backbone.forward(clips);
        let cost = |actions: Range<usize>, clips: Range<usize>| {
            let views = ViewLayout::new(case.batch.view_counts[actions.clone()].to_vec());
            let prediction = net.classify(features.clone().slice([clips]), &views, &[], None);
            case.objective.cost_of(&prediction, &case.batch, actions)
        };
        let whole = cost(0..4, 0..7).read().unwrap();
        let sum = Cost::read_sum(&[cost(0..1, 0..2), cost(1..4, 2..7)]).unwrap();
        let all = |losses: &Losses| {
            let mut all = vec![losses.total];
            all.extend(&losses.tasks);
            all.extend(&losses.auxiliary);
            all
        };
        for (whole, sum) in all(&whole).iter().zip(all(&sum)) {
            assert!((whole - sum).abs() < 1e-5 * whole.abs().max(1.0), "{whole} {sum}");
        }
    }
}

#[test]
fn batches_are_cut_at_actions_first() {
    let batch = batch(&Schema::mvfoul().unwrap());
    let cut = |most| {
        let parts = parts(&batch, &(0..4), most);
        parts.into_iter().map(|part| (part.actions, part.clips)).collect::<Vec<_>>()
    };
    assert_eq!(cut(3), [(0..2, 0..3), (2..3, 3..6), (3..4, 6..7)]);
    assert_eq!(cut(100), [(0..4, 0..7)]);
    assert_eq!(cut(1).len(), 4);
    assert_eq!(even_chunks(&(3..10), 3), [3..5, 5..7, 7..10]);
    assert_eq!(even_chunks(&(3..6), 1), [3..4, 4..5, 5..6]);
    let tail = parts(&batch, &(1..3), 3);
    assert_eq!(tail.iter().map(|part| part.clips.clone()).collect::<Vec<_>>(), [2..3, 3..6]);
    assert_eq!(first_pass(&batch, &(2..4), 2), 3..4);
}

#[test]
fn a_micro_batch_is_halved_down_to_one_clip() {
    let mut memory = StepMemory::default();
    let mut sizes = Vec::new();
    while memory.halve(7) {
        sizes.push(memory.micro_batch);
    }
    assert_eq!(sizes, [3, 1]);
    assert_eq!(memory.micro_batch, 1);
}

/// Cross-entropy on a device that is out of memory the first time.
#[derive(Debug)]
struct Starved(std::sync::atomic::AtomicBool);

impl crate::losses::TaskLoss for Starved {
    fn loss(&self, logits: Tensor<2>, targets: &crate::losses::Targets) -> Tensor<1> {
        if self.0.swap(false, std::sync::atomic::Ordering::Relaxed) {
            device::simulate_out_of_memory(&logits.device());
        }
        CrossEntropy::default().loss(logits, targets)
    }
}

#[test]
fn a_step_that_runs_out_of_memory_is_repeated_in_halves() {
    let Some(device) = device::unshared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let options = crate::synth::SynthOptions {
        out: folder.path().to_owned(),
        actions: 4,
        views: 2,
        frames: 6,
        width: 32,
        height: 32,
        ..Default::default()
    };
    let schema = Schema::mvfoul().unwrap();
    crate::synth::write(&options, &crate::synth::tasks_of(&schema), |_, _| {}).unwrap();
    let window = crate::data::sampling::WindowSpec::frames(0, 3, 25.0, 2);
    let open = || {
        let root = folder.path();
        crate::data::Dataset::open(root, "train", &schema, window, [16, 16], None).unwrap()
    };
    let device = device.autodiff();
    let run_in = |lanes: usize, starved: bool, micro_batch: usize| {
        let model = ModelConfig::new(BackboneKind::R3dTiny, &schema);
        let net = model.init(1, &device);
        let loss = Starved(starved.into());
        let objective = Objective::plain(&schema).with_loss(0, loss);
        let rule = Rule::AdamW { beta1: 0.9, weight_decay: 0.0 };
        let mut trainer = Trainer::new(net, Optimizer::new(rule, 1.0), objective, &device);
        trainer.seed = 1;
        trainer.memory = StepMemory { micro_batch, gradient_checkpointing: false };
        if lanes > 1 {
            let lanes = Lanes::new(lanes, &model, false, &[])?.with_sync_batch_norm(true);
            trainer = trainer.in_lanes(lanes);
        }
        let plan = Plan::in_lanes(crate::data::loader::in_order(4, 2), lanes, |_| 2);
        let loader = crate::data::loader::Loader::new(open().into(), plan, 1);
        trainer.train_one_epoch(loader, |_| Rates::new(1e-2, 1e-2))?;
        let state = state_dict::collect(trainer.net()).unwrap();
        Ok::<_, TrainError>((trainer.memory.micro_batch, state))
    };
    let run = |starved: bool, micro_batch: usize| run_in(1, starved, micro_batch);
    // Weights and running statistics equal those of a run that used this micro-batch from the start.
    let (clips, state) = run(true, usize::MAX).unwrap();
    let (planned, expected) = run(false, 2).unwrap();
    assert_eq!((clips, planned), (2, 2));
    assert!(state == expected, "the failed step left a trace");
    // A single clip cannot be halved.
    assert!(matches!(run(true, 1), Err(TrainError::OutOfMemory)));
    // All lanes that exchange statistics repeat the step.
    let (clips, state) = run_in(2, true, usize::MAX).unwrap();
    let (_, expected) = run_in(2, false, 1).unwrap();
    assert_eq!(clips, 1);
    assert!(state == expected, "the failed step left a trace");
}

#[test]
fn a_part_whose_labels_have_no_weight_has_no_loss() {
    let mut case = Case::new(StageSet::ALL);
    // The only known label of the first action, which can be a part of its own, is its partner's. At a
    // share of 1 that label has no weight.
    case.batch.labels[0] = vec![None, Some(1), None, Some(2)];
    for share in [1.0, 0.0, 0.5] {
        let partners = vec![1, 0, 3, 2];
        case.batch.mix = Some(crate::data::mix::Mix { partners, share, cut: None });
        let memory = |micro_batch| StepMemory { micro_batch, gradient_checkpointing: false };
        let losses = [memory(2), memory(100)].map(|memory| case.in_pieces(memory).1);
        for losses in losses {
            assert!(losses.total.is_finite() && losses.tasks[0] > 0.0, "{share}: {losses:?}");
        }
    }
}

#[test]
fn a_step_on_a_batch_in_memory_checks_its_gradients() {
    let (schema, device) = (Schema::mvfoul().unwrap(), Device::flex().autodiff());
    let model = ModelConfig::new(BackboneKind::R3dTiny, &schema);
    let state = |trainer: &Trainer| state_dict::collect(trainer.net()).unwrap();
    for lanes in [vec![0..4], vec![0..2, 2..4]] {
        let count = lanes.len();
        let batch = Arc::new(Batch { lanes, ..batch(&schema) });
        let optimizer = Optimizer::new(Rule::Sgd { momentum: 0.0, weight_decay: 0.0 }, 0.0);
        let (net, objective) = (model.init(3, &device), Objective::plain(&schema));
        let mut trainer = Trainer::new(net, optimizer, objective, &device);
        if count > 1 {
            trainer = trainer.in_lanes(Lanes::new(count, &model, false, &[]).unwrap());
        }
        let before = state(&trainer);
        // Beyond the range of f32, too.
        trainer.loss_scale = Some(LossScale::new(2f64.powi(200)));
        trainer.step_on(&batch, Rates::new(1e-3, 1e-3)).unwrap();
        assert_eq!(trainer.loss_scale, Some(LossScale::new(2f64.powi(199))));
        assert!(state(&trainer) == before, "{count} lanes: the step left a trace");
        trainer.loss_scale = None;
        trainer.step_on(&batch, Rates::new(f64::INFINITY, f64::INFINITY)).unwrap();
        let error = trainer.step_on(&batch, Rates::new(1e-3, 1e-3)).unwrap_err();
        assert!(matches!(error, TrainError::NotFinite { .. }), "{count} lanes: {error}");
    }
}
