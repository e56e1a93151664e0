#!/usr/bin/env python3
"""Writes tests/reference/backbone_{r2plus1d_34,r3d_34,r3d_50}.json: PyTorch's results for the backbones
that torchvision lacks, in the same format as the files for those that it has.

    python3 scripts/reference_backbones.py [NAME…]

Needs torch and torchvision. Weights and clips come from the integer hash of tests/reference/fill.json,
nothing is downloaded.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D, R2Plus1dStem, VideoResNet

CLASSES = 400
# Mean and standard deviation of frames: torchvision's, and those of 3D-ResNets-PyTorch.
TORCHVISION_KINETICS = [0.43216, 0.394666, 0.37645], [0.22803, 0.22145, 0.216989]
KINETICS = [0.4345, 0.4051, 0.3775], [0.2768, 0.2713, 0.2737]


def r2plus1d_34():
    """The network of ig65m-pytorch: torchvision's parts with Caffe2's widths between the factors and
    Caffe2's ε. The momentum stays PyTorch's, which polyview uses too."""
    model = VideoResNet(BasicBlock, [Conv2Plus1D] * 4, [3, 4, 6, 3], R2Plus1dStem, CLASSES)
    for stage, width in ((model.layer2, 128), (model.layer3, 256), (model.layer4, 512)):
        stage[0].conv2[0] = Conv2Plus1D(width, width, width * 9 // 4)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps = 1e-3
    return model


class Residual(nn.Module):
    """A block of 3D-ResNets-PyTorch, with its parameter names: one convolution per kernel size."""

    def __init__(self, inputs, width, stride, kernels):
        super().__init__()
        outputs = width * 4 if len(kernels) == 3 else width
        # The first 3×3×3 has the stride.
        strides = [stride if i == kernels.index(3) else 1 for i in range(len(kernels))]
        channels = [inputs] + [width] * (len(kernels) - 1) + [outputs]
        self.count = len(kernels)
        for i, kernel in enumerate(kernels):
            conv = nn.Conv3d(channels[i], channels[i + 1], kernel, strides[i], kernel // 2, bias=False)
            self.add_module(f"conv{i + 1}", conv)
            self.add_module(f"bn{i + 1}", nn.BatchNorm3d(channels[i + 1]))
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs)
            )
        self.outputs = outputs

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(y))
            if i < self.count:
                y = y.relu()
        return (y + (self.downsample(x) if self.downsample else x)).relu()


class Hara(nn.Module):
    """A ResNet of Hara et al. 2018."""

    def __init__(self, kernels):
        super().__init__()
        self.conv1 = nn.Conv3d(3, 64, 7, (1, 2, 2), 3, bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        inputs = 64
        for stage, (blocks, width) in enumerate(zip([3, 4, 6, 3], [64, 128, 256, 512])):
            layers = []
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(Residual(inputs, width, stride, kernels))
                inputs = layers[-1].outputs
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.fc = nn.Linear(inputs, CLASSES)

    def stem(self, x):
        """Runs the stem on clips with the normalisation of polyview and torchvision."""
        mean, std = (torch.tensor(v, dtype=x.dtype).reshape(3, 1, 1, 1) for v in TORCHVISION_KINETICS)
        own_mean, own_std = (torch.tensor(v, dtype=x.dtype).reshape(3, 1, 1, 1) for v in KINETICS)
        x = (x * std + mean - own_mean) / own_std
        return nn.functional.max_pool3d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)


# For each network: its constructor, the shape of its clips, the parameters whose gradients are recorded,
# and the batch norms whose running statistics are recorded.
TORCHVISION = (
    "stem.0.weight stem.1.weight stem.3.weight stem.4.bias layer1.2.conv1.0.0.weight "
    "layer1.0.conv1.0.3.weight layer2.0.conv1.0.1.weight layer2.0.conv2.0.0.weight "
    "layer2.0.downsample.0.weight layer3.5.conv2.0.0.weight layer4.0.downsample.1.weight "
    "layer4.2.conv2.0.3.weight layer4.2.conv2.1.bias fc.weight fc.bias"
)
BASIC = (
    "conv1.weight bn1.weight bn1.bias layer1.0.conv1.weight layer2.0.conv1.weight layer2.0.bn1.weight "
    "layer2.0.downsample.0.weight layer3.5.conv2.weight layer4.0.downsample.1.weight "
    "layer4.2.conv2.weight layer4.2.bn2.bias fc.weight fc.bias"
)
BOTTLENECK = (
    "conv1.weight bn1.weight bn1.bias layer1.0.conv1.weight layer1.0.downsample.0.weight "
    "layer2.0.conv2.weight layer2.0.bn3.weight layer2.0.downsample.0.weight layer3.5.conv3.weight "
    "layer4.0.downsample.1.weight layer4.2.conv1.weight layer4.2.bn3.bias fc.weight fc.bias"
)
NETWORKS = {
    "r2plus1d_34": (r2plus1d_34, [2, 3, 8, 48, 48], TORCHVISION,
                    "stem.1 stem.4 layer2.0.conv2.0.1 layer4.2.conv2.1"),
    "r3d_34": (lambda: Hara([3, 3]), [2, 3, 8, 64, 64], BASIC, "bn1 layer2.0.bn2 layer4.2.bn2"),
    "r3d_50": (lambda: Hara([1, 3, 1]), [2, 3, 5, 53, 69], BOTTLENECK,
               "bn1 layer2.0.bn3 layer4.2.bn3"),
}  # fmt: skip


def unit(name, count):
    """Returns values in [0, 1) from the integer hash."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    z = np.uint64(h) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / 2**24


def kind_of(model, name):
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    if isinstance(module, nn.BatchNorm3d):
        return f"bn_{leaf}"
    return f"{'conv' if isinstance(module, nn.Conv3d) else 'linear'}_{leaf}"


def filled(name, shape, kind):
    count = int(np.prod(shape))
    signed = 2 * unit(name, count) - 1
    if kind in ("conv_weight", "linear_weight"):
        values = signed * np.sqrt(6 / np.prod(shape[1:]))
    elif kind == "linear_bias":
        values = signed * 0.01
    elif kind == "bn_weight":
        values = 1 + 0.1 * signed
    elif kind in ("bn_bias", "bn_running_mean"):
        values = 0.1 * signed
    else:
        values = 1 + 0.5 * unit(name, count)
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def build(make, dtype):
    model = make()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                tensor.copy_(filled(name, tuple(tensor.shape), kind_of(model, name)))
    return model.to(dtype)


def stages(model, x):
    for name in ("stem", "layer1", "layer2", "layer3", "layer4"):
        x = getattr(model, name)(x)
        yield name, x


def run(model, clips):
    """Returns the stages' outputs, the features and the logits."""
    outputs = dict(stages(model, clips))
    features = outputs["layer4"].mean((2, 3, 4))
    return outputs, features, model.fc(features)


def train(make, clips, labels, dtype):
    model = build(make, dtype).train()
    _, features, logits = run(model, clips.to(dtype))
    loss = nn.functional.cross_entropy(logits, torch.tensor(labels))
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return features.detach(), logits.detach(), loss.detach(), gradients, model.state_dict()


def checksum(key, tensor):
    g = tensor.detach().double().numpy().ravel()
    return {
        "shape": list(tensor.shape),
        "sum": g.sum(),
        "l2": np.sqrt((g * g).sum()),
        "abs_max": np.abs(g).max(),
        "proj": (g * (2 * unit(f"proj/{key}", g.size) - 1)).sum(),
        "first4": g[:4].tolist(),
    }


def distance(a, b):
    """‖a − b‖ / ‖b‖."""
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def max_difference(a, b):
    return (a.double() - b.double()).abs().max().item()


def reference(name):
    make, shape, parameters, norms = NETWORKS[name]
    labels = [3, 17]
    model = build(make, torch.float32).eval()
    state = model.state_dict()
    clips = torch.from_numpy(unit("input", int(np.prod(shape))).astype(np.float32).reshape(shape))
    with torch.no_grad():
        outputs, features, logits = run(model, clips)
        _, features64, logits64 = run(build(make, torch.float64).eval(), clips.double())
    evaluation = {
        "features_f64": features64.tolist(),
        "logits16_f64": logits64[:, :16].tolist(),
        "features_max_abs_diff_f32_f64": max_difference(features, features64),
        "logits_max_abs_diff_f32_f64": max_difference(logits, logits64),
    }
    features, _, _, gradients, _ = train(make, clips, labels, torch.float32)
    with torch.backends.mkldnn.flags(enabled=False):
        others = train(make, clips, labels, torch.float32)[3]
    features64, logits64, loss64, gradients64, after64 = train(make, clips, labels, torch.float64)
    running = [f"{norm}.running_{what}" for norm in norms.split() for what in ("mean", "var")]
    training = {
        "features_f64": features64.tolist(),
        "logits16_f64": logits64[:, :16].tolist(),
        "features_max_abs_diff_f32_f64": max_difference(features, features64),
        "loss_f64": loss64.item(),
        "grads": {
            key: {
                "f32_vs_f64_rel_l2": distance(gradients[key], gradients64[key]),
                "f32_other_kernels_rel_l2": distance(others[key], gradients[key]),
            }
            for key in parameters.split()
        },
        "grads_f64": {key: checksum(key, gradients64[key]) for key in parameters.split()},
        "running_stats_f64": {key: checksum(key, after64[key]) for key in running},
    }
    case = {
        "name": "small",
        "hash_prefix": "",
        "input_name": "input",
        "input_shape": shape,
        "labels": labels,
        "eval_stage_check": {key: checksum(key, value) for key, value in outputs.items()},
        "eval": evaluation,
        "train": training,
    }
    return {
        "how": f"scripts/reference_backbones.py with PyTorch {torch.__version__.split('+')[0]} on the "
        "CPU; fill, checksums and the meaning of fields as in backbone_r3d_18.json. Networks of Hara et al. "
        "bring the clips from torchvision's normalisation to theirs first",
        "arch": name,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "state_dict": [
            [key, list(tensor.shape), kind_of(model, key)] for key, tensor in state.items()
        ],
        "cases": [case],
    }


def rounded(value):
    """Rounds to nine digits, which are enough to restore an f32."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{float(value):.9g}") if isinstance(value, (float, np.floating)) else value


def written(value, depth=0):
    """Formats as JSON with a line per entry, down to entries that contain no objects."""
    nested = isinstance(value, dict) and any(isinstance(v, (dict, list)) for v in value.values())
    pad = "\n" + " " * (depth + 1)
    if nested and set(value) != {"shape", "sum", "l2", "abs_max", "proj", "first4"}:
        lines = [f"{json.dumps(k)}: {written(v, depth + 1)}" for k, v in value.items()]
        return "{" + pad + ("," + pad).join(lines) + pad[:-1] + "}"
    if isinstance(value, list) and value and isinstance(value[0], (dict, list)):
        lines = [written(v, depth + 1) for v in value]
        return "[" + pad + ("," + pad).join(lines) + pad[:-1] + "]"
    return json.dumps(value, separators=(",", ": "))


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    folder = Path(__file__).resolve().parent.parent / "tests" / "reference"
    for name in sys.argv[1:] or NETWORKS:
        file = folder / f"backbone_{name}.json"
        file.write_text(written(rounded(reference(name))) + "\n")
        print(f"{file}: {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
