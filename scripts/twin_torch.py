#!/usr/bin/env python3
"""Repeats a recorded training run in PyTorch and compares losses, gradient norms, weights and scores.

    polyview train … --save-dir RUN --record STEPS
    python3 scripts/twin_torch.py RUN STEPS [--threads N…] [--double] [--csv FILE] [--json]

Needs torch, torchvision and safetensors, and runs on the CPU. PyTorch starts from the recorded weights and
gets the recorded clips, labels, dropout masks and learning rates; network, losses, class weights,
gradients, clipping, optimizer, weight average and validation are its own. The run is repeated with each
number of threads, which shows how far PyTorch's runs differ from each other, and with --double in f64. The
f64 run, or else PyTorch's run with the first number of threads, is the base that the others are compared with.
"""

import argparse
import csv
import json
import statistics
import sys
import tomllib
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from torchvision.models import video
from torchvision.models.video.resnet import BasicBlock, Conv3DSimple

import reference_backbones


class Tiny(nn.Module):
    """polyview's r3d_tiny: one basic block per stage, widths 8 to 64."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(3, 8, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False), nn.BatchNorm3d(8), nn.ReLU()
        )
        inputs = 8
        for stage, width in enumerate([8, 16, 32, 64]):
            stride = 2 if stage > 0 else 1
            downsample = None
            if stage > 0:
                downsample = nn.Sequential(
                    nn.Conv3d(inputs, width, 1, stride, bias=False), nn.BatchNorm3d(width)
                )
            block = BasicBlock(inputs, width, Conv3DSimple, stride, downsample)
            self.add_module(f"layer{stage + 1}", nn.Sequential(block))
            inputs = width
        self.fc = nn.Linear(inputs, 1)


def backbone(name):
    if name == "r3d_tiny":
        return Tiny()
    if name in reference_backbones.NETWORKS:
        return reference_backbones.NETWORKS[name][0]()
    return getattr(video, name)(weights=None)


STAGES = ["stem", "layer1", "layer2", "layer3", "layer4"]


class Net(nn.Module):
    """The network of a weight file."""

    def __init__(self, path):
        super().__init__()
        with safe_open(path, "pt") as file:
            model = json.loads(file.metadata()["polyview"].split("\n", 1)[1])["model"]
        if model.get("inputs") or model.get("auxiliary"):
            sys.exit("the twin has neither annotation inputs nor auxiliary heads: train without")
        self.backbone = backbone(model["backbone"])
        features = self.backbone.fc.in_features
        self.backbone.fc = nn.Identity()
        linear = lambda hidden, out: nn.Sequential(
            nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, out)
        )
        self.attention = linear(128, 1) if model["attention"] else None
        self.heads = nn.ModuleDict({task: linear(256, classes) for task, classes in model["tasks"]})
        self.load(path)

    def load(self, path):
        missing, unexpected = self.load_state_dict(load_file(path), strict=False)
        missing = [name for name in missing if not name.endswith("num_batches_tracked")]
        if missing or unexpected:
            sys.exit(f"{path}: missing {missing}, unexpected {unexpected}")

    def features(self, clips):
        # The stem of reference_backbones' Hara networks is a method that uses conv1 and bn1.
        net, x = self.backbone, self.backbone.stem(clips)
        for stage in STAGES[1:]:
            x = getattr(net, stage)(x)
        return x.mean((2, 3, 4))

    def forward(self, clips, view_counts, dropout=None):
        """Returns logits [B, classes] by task. `dropout` holds the factors for the features and each head."""
        features = self.features(clips)
        if dropout:
            features = features * dropout[0]
        merged = []
        for views in features.split(view_counts):
            share = torch.full((len(views), 1), 1 / len(views))
            if self.attention is not None:
                share = self.attention(views).softmax(0)
            merged.append((views * share).sum(0))
        merged, logits = torch.stack(merged), {}
        for index, (task, head) in enumerate(self.heads.items()):
            hidden = head[1](head[0](merged))
            if dropout:
                hidden = hidden * dropout[1 + index]
            logits[task] = head[2](hidden)
        return logits

    def set_trainable(self, trainable):
        """Freezes all other stages, which then normalise with their running statistics."""
        self.train()
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(self.stage_of(name) in [*trainable, "heads"])
        for stage in STAGES:
            if stage in trainable:
                continue
            for name, module in self.named_modules():
                if isinstance(module, nn.BatchNorm3d) and self.stage_of(name) == stage:
                    module.eval()

    def stage_of(self, name):
        parts = name.split(".")
        if parts[0] != "backbone":
            return "heads"
        return parts[1] if parts[1] in STAGES else "stem"


class Losses:
    """The loss of each task, according to the options."""

    def __init__(self, config, about):
        self.tasks = about["tasks"]
        self.smoothing, self.gamma = config["label-smoothing"], config["focal-gamma"]
        self.kind = config["loss-function"]
        self.weights = [None] * len(self.tasks)
        imbalanced = about["imbalanced"]
        self.chosen = [imbalanced in (None, index) for index in range(len(self.tasks))]
        strategy = config["class-weighting-strategy"]
        if imbalanced is not None and self.kind != "plain" and strategy != "none":
            if strategy != "balanced_capped":
                sys.exit(f"the twin has no class-weighting-strategy {strategy}")
            counts = torch.tensor(self.tasks[imbalanced]["class_counts"]).clamp(min=1).double()
            weights = counts.max() / counts
            self.weights[imbalanced] = weights.clamp(max=config["max-weight-ratio"]).to(torch.get_default_dtype())

    def targets(self, task, labels, mix, classes):
        """Returns the rows with a known class, and their targets as shares of the classes."""
        rows, shares = [], []
        for action, label in enumerate(labels):
            partner, share = (mix["partners"][action], mix["share"]) if mix else (action, 1.0)
            if partner == action:
                share = 1.0
            row = torch.zeros(classes)
            for own, part in ((label, share), (labels[partner], 1 - share)):
                if own is not None:
                    row[own] += part
            if label is not None or labels[partner] is not None:
                rows.append(action)
                shares.append(row)
        return rows, shares

    def of(self, logits, record):
        total, each = 0.0, []
        for index, task in enumerate(self.tasks):
            own = logits[task["name"]]
            classes = own.shape[1]
            rows, shares = self.targets(task, record["labels"][task["name"]], record.get("mix"), classes)
            if not rows:
                each.append(torch.zeros(()))
                continue
            loss = self.task(index, own[rows], torch.stack(shares))
            each.append(loss)
            total = total + task["weight"] * loss
        return total, each

    def task(self, index, logits, shares):
        weights, mixed = self.weights[index], bool((shares.max(1).values < 1).any())
        smoothing = self.smoothing
        if self.chosen[index] and self.kind in ("focal", "adaptive_focal"):
            ce = functional.cross_entropy(logits, shares if mixed else shares.argmax(1), weights,
                                          reduction="none", label_smoothing=smoothing)
            gamma = torch.full((logits.shape[1],), self.gamma)
            if self.kind == "adaptive_focal":
                counts = torch.tensor(self.tasks[index]["class_counts"]).clamp(min=1).to(shares)
                gamma = gamma * (1 + (1 - counts / counts.max()))
            return ((1 - (-ce).exp()) ** (shares @ gamma) * ce).mean()
        if not mixed:
            return functional.cross_entropy(
                logits, shares.argmax(1), weights, label_smoothing=smoothing
            )
        # PyTorch divides by the number of actions, but the mean must be weighted here too.
        ce = functional.cross_entropy(
            logits, shares, weights, reduction="sum", label_smoothing=smoothing
        )
        return ce / (shares @ weights if weights is not None else shares.sum(1)).sum()


def optimizer(config, net):
    groups = {stage: [] for stage in [*STAGES, "heads"]}
    for name, parameter in net.named_parameters():
        groups[net.stage_of(name)].append(parameter)
    groups = [{"params": parameters, "name": name} for name, parameters in groups.items()]
    kind, decay = config["optimizer"], config["weight-decay"]
    if kind == "sgd":
        return torch.optim.SGD(groups, 1.0, config["momentum"], weight_decay=decay)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[kind](groups, 1.0, weight_decay=decay)


def read(path):
    with safe_open(path, "pt") as file:
        record = json.loads(file.metadata()["record"])
        dtype = torch.get_default_dtype()
        return record, {name: file.get_tensor(name).to(dtype) for name in file.keys()}


class Average:
    """The average of the weights and running statistics, as in torch.optim.swa_utils."""

    def __init__(self, decay, net):
        self.decay, self.updates = decay, 0
        self.values = {name: value.clone() for name, value in net.state_dict().items()}

    def update(self, net):
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                self.values[name].lerp_(value, 1 - decay)


def balanced_accuracy(predicted, labels):
    """Returns the mean recall of the classes that occur."""
    recalls = []
    for label in set(labels):
        own = [p == l for p, l in zip(predicted, labels) if l == label]
        recalls.append(sum(own) / len(own))
    return statistics.mean(recalls) if recalls else 0.0


def validate(net, average, losses, batches):
    """Returns the mean of the tasks' balanced accuracies."""
    kept = None
    if average:
        kept = {name: value.clone() for name, value in net.state_dict().items()}
        net.load_state_dict(average.values)
    net.eval()
    judged = {task["name"]: ([], []) for task in losses.tasks}
    with torch.no_grad():
        for path in batches:
            record, tensors = read(path)
            logits = net(tensors["clips"], record["view_counts"])
            for task, (predicted, labels) in judged.items():
                for row, label in zip(logits[task].argmax(1).tolist(), record["labels"][task]):
                    if label is not None:
                        predicted.append(row)
                        labels.append(label)
    if kept:
        net.load_state_dict(kept)
    return statistics.mean(balanced_accuracy(*pair) for pair in judged.values() if pair[1])


class Run:
    """A run: losses and norms of each step, scores of each epoch, and the final weights."""

    def __init__(self, name, losses, norms, scores, weights):
        self.name, self.losses, self.norms, self.scores = name, losses, norms, scores
        self.weights = weights


def train(name, config, folder, steps, threads, dtype):
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)
    net = Net(folder / "initial.safetensors")
    about = json.loads((folder / "record.json").read_text())
    losses, optim = Losses(config, about), optimizer(config, net)
    average = Average(config["ema"], net) if config.get("ema") else None
    batches = sorted(folder.glob("valid-*.safetensors"))
    totals, norms, scores, epoch = [], [], [], None
    for path in steps:
        record, tensors = read(path)
        if epoch not in (None, record["epoch"]):
            scores.append(validate(net, average, losses, batches))
        epoch = record["epoch"]
        net.set_trainable(record["trainable"])
        for group in optim.param_groups:
            group["lr"] = record["rates"][group["name"]]
            if record["momentum"] is not None:
                if "betas" in group:
                    group["betas"] = (record["momentum"], group["betas"][1])
                else:
                    group["momentum"] = record["momentum"]
        dropout = [tensors[f"dropout.{layer}"] for layer in range(1 + len(about["tasks"]))]
        total, _ = losses.of(net(tensors["clips"], record["view_counts"], dropout), record)
        optim.zero_grad(set_to_none=True)
        total.backward()
        bound = config["gradient-clip-norm"] or float("inf")
        norm = nn.utils.clip_grad_norm_(net.parameters(), bound)
        optim.step()
        if average:
            average.update(net)
        totals.append(total.item())
        norms.append(norm.item())
    scores.append(validate(net, average, losses, batches))
    weights = average.values if average else net.state_dict()
    return Run(name, totals, norms, scores, weights)


def polyviews(folder, run, steps):
    records = [read(path)[0] for path in steps]
    losses = [record["losses"]["total"] for record in records]
    norms = [record["gradient_norm"] for record in records]
    scores = [record["score"] for record in json.loads((run / "history.json").read_text())]
    return Run("polyview", losses, norms, scores, load_file(run / "last.safetensors"))


def compare(run, other, start):
    """Returns the largest relative differences of losses and norms, over the first 20 steps and over all,
    and the distance between the final weights relative to the other run's distance from the start."""
    relative = lambda a, b: [abs(x - y) / abs(y) for x, y in zip(a, b)]
    losses, norms = relative(run.losses, other.losses), relative(run.norms, other.norms)
    square = lambda x, y: (x.double() - y.double()).square().sum().item()
    norm = lambda a, b: sum(square(a[name], b[name]) for name in start) ** 0.5
    return {
        "name": run.name,
        "first_loss": losses[0],
        "first_norm": norms[0],
        "loss_20": max(losses[:20]),
        "norm_20": max(norms[:20]),
        "loss": max(losses),
        "weights": norm(run.weights, other.weights) / norm(start, other.weights),
        "scores": run.scores,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("steps", type=Path, metavar="STEPS")
    parser.add_argument("--threads", type=int, nargs="+", default=[2], metavar="N")
    parser.add_argument("--double", action="store_true", help="compare with PyTorch's run in f64")
    parser.add_argument("--csv", type=Path, help="write losses and norms of each step to this file")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    config = tomllib.loads((options.run / "config.toml").read_text())
    steps = sorted(options.steps.glob("step-*.safetensors"))
    kinds = [
        (f"PyTorch, {threads} thread{'s' if threads > 1 else ''}", threads, torch.float32)
        for threads in options.threads
    ]
    if options.double:
        kinds.insert(0, ("PyTorch in f64", options.threads[0], torch.float64))
    base, *others = [
        train(name, config, options.steps, steps, threads, dtype) for name, threads, dtype in kinds
    ]
    runs = [polyviews(options.steps, options.run, steps), *others]
    start = load_file(options.steps / "initial.safetensors")
    figures = [compare(run, base, start) for run in runs]
    if options.csv:
        with options.csv.open("w", newline="") as file:
            table, all_runs = csv.writer(file), [base, *runs]
            names = [f"{run.name}: {what}" for run in all_runs for what in ("loss", "gradient norm")]
            table.writerow(["step", *names])
            for step in range(len(steps)):
                row = [value for run in all_runs for value in (run.losses[step], run.norms[step])]
                table.writerow([step + 1, *row])
    if options.json:
        print(json.dumps({"base": base.name, "steps": len(steps), "scores": base.scores, "runs": figures}))
        return
    columns = {
        "first_loss": "loss, step 1", "first_norm": "norm, step 1", "loss_20": "loss, steps 1–20",
        "norm_20": "norm, steps 1–20", "loss": "loss, all", "weights": "weights",
    }  # fmt: skip
    print(f"{len(steps)} steps, largest relative differences from {base.name}:")
    print(" " * 20 + "".join(f"{title:>18}" for title in columns.values()))
    for each in figures:
        print(f"{each['name']:<20}" + "".join(f"{each[column]:18.1e}" for column in columns))
    for run in [base, *runs]:
        print(f"scores of the epochs, {run.name}: " + " ".join(f"{score:.4f}" for score in run.scores))


if __name__ == "__main__":
    main()
