#!/usr/bin/env python3
"""Times PyTorch at the same work as polyview.

    python3 scripts/baseline_torch.py augment [--clips 8 --frames 16 --height 112 --width 112]

prints one JSON object: median seconds, and gigabytes of f32 written per second. Needs torch.

    python3 scripts/baseline_torch.py step [--backbone-name r2plus1d_18 --clips 2
        --frames-per-clip 8 --img-height 112 --img-width 112 --steps 5 --device cpu --json
        --precision f32]

times the training step of `polyview bench`: forward, cross-entropy, backward, AdamW. Needs
torchvision as well. Precisions: f32 without TF32, bf16 and f16 (autocast, f16 with a gradient scaler),
on CUDA tf32 (PyTorch's default for convolutions), and auto, which is f16 on CUDA and f32 elsewhere.

    python3 scripts/baseline_torch.py layers [the options of step]

times each distinct convolution of the network separately, like `polyview bench --layers`: median
milliseconds of forward, input gradient, weight gradient, under the same names. With bf16 or f16, all
operands have that type.
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F

MEAN = torch.tensor([0.43216, 0.394666, 0.37645]).view(1, 3, 1, 1)
STD = torch.tensor([0.22803, 0.22145, 0.216989]).view(1, 3, 1, 1)


def augment_clip(frames, generator):
    """Augments one clip, uint8 [T, H, W, 3], to normalised f32 [3, T, H, W], with every stage on."""

    def uniform(low, high):
        return low + (high - low) * torch.rand((), generator=generator).item()

    t, h, w, _ = frames.shape
    shift = int(uniform(-3, 4))
    index = (torch.arange(t) + shift).clamp(0, t - 1)
    x = frames[index].permute(0, 3, 1, 2).float() / 255
    keep = (torch.rand(t, generator=generator) > 0.2).float()
    keep[int(uniform(0, t))] = 1
    x = x * keep.view(t, 1, 1, 1)

    scale, angle = uniform(0.7, 1.0), torch.deg2rad(torch.tensor(uniform(-8, 8)))
    flip = -1.0 if uniform(0, 1) < 0.5 else 1.0
    cos, sin = torch.cos(angle).item(), torch.sin(angle).item()
    theta = torch.tensor(
        [
            [flip * scale * cos, -scale * sin * h / w, uniform(scale - 1, 1 - scale)],
            [flip * scale * sin * w / h, scale * cos, uniform(scale - 1, 1 - scale)],
        ]
    )
    grid = F.affine_grid(theta.expand(t, 2, 3), [t, 3, h, w], align_corners=False)
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    top, left = int(uniform(0, h * 0.7)), int(uniform(0, w * 0.7))
    x[:, :, top : top + h // 5, left : left + w // 5] = 0.5

    x = (x * uniform(0.7, 1.3)).clamp(0, 1)
    x = ((x - 0.5) * uniform(0.7, 1.3) + 0.5).clamp(0, 1)
    x = (x + torch.randn(x.shape, generator=generator) * 0.06).clamp(0, 1)
    x = torch.lerp(x, x.roll(1, 0), 0.2)
    return ((x - MEAN) / STD).permute(1, 0, 2, 3)


def augment(args):
    generator = torch.Generator().manual_seed(1)
    size = (args.clips, args.frames, args.height, args.width, 3)
    frames = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
    times = []
    for run in range(args.runs + 1):
        start = time.perf_counter()
        out = torch.stack([augment_clip(clip, generator) for clip in frames])
        if run > 0:
            times.append(time.perf_counter() - start)
    seconds = statistics.median(times)
    return {"seconds": seconds, "gb_per_s": out.numel() * 4 / seconds / 1e9}


def device_name(args):
    if args.device.startswith("cuda"):
        return torch.cuda.get_device_name(args.device)
    return f"CPU, {args.threads} threads" if args.device == "cpu" else args.device


def wait_for(device):
    """Waits until the queued work has been computed."""
    kind = device.split(":")[0]
    if kind != "cpu":
        getattr(torch, kind).synchronize()


# Autocast's data type, by precision.
HALVES = {"bf16": torch.bfloat16, "f16": torch.float16}


def allow_tf32(args):
    tf32 = args.precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32


def step(args):
    import torchvision.models.video as models

    torch.manual_seed(1)
    net = getattr(models, args.backbone_name)(weights=None, num_classes=8).to(args.device).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, weight_decay=1e-2)
    size = (args.clips, 3, args.frames_per_clip, args.img_height, args.img_width)
    clips = torch.randn(size, device=args.device)
    targets = torch.arange(args.clips, device=args.device) % 8

    def finish():
        wait_for(args.device)

    allow_tf32(args)
    kind, half = args.device.split(":")[0], HALVES.get(args.precision)
    scaler = torch.amp.GradScaler(kind, enabled=args.precision == "f16")

    def loss_of():
        with torch.autocast(kind, half or torch.bfloat16, enabled=half is not None):
            return F.cross_entropy(net(clips), targets)

    def update():
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss_of()).backward()
        scaler.step(optimizer)
        scaler.update()

    def milliseconds(work, warm_up):
        times = []
        for run in range(args.steps + warm_up):
            start = time.perf_counter()
            work()
            finish()
            if run >= warm_up:
                times.append((time.perf_counter() - start) * 1e3)
        return times

    finish()
    steps = milliseconds(update, 2)
    median = statistics.median(steps)
    return {
        "device": args.device,
        "device_name": device_name(args),
        "precision": args.precision,
        "backbone": args.backbone_name,
        "shape": list(size),
        "step_ms": median,
        "forward_ms": statistics.median(milliseconds(loss_of, 0)),
        "clips_per_s": args.clips * 1e3 / median,
        "steps_ms": steps,
    }


def convolutions(args):
    """Returns each distinct convolution of the network: its module, the size of its input, and how often
    it occurs, found by running one batch through the network."""
    import torchvision.models.video as models

    net = getattr(models, args.backbone_name)(weights=None, num_classes=8).eval()
    found = {}

    def note(module, inputs):
        size = tuple(inputs[0].shape)
        by = "×".join
        stride = "" if module.stride == (1, 1, 1) else ", stride " + by(map(str, module.stride))
        window = by(map(str, module.kernel_size))
        name = f"{by(map(str, size))} → {module.out_channels}, {window}{stride}"
        found.setdefault(name, [module, size, 0])[2] += 1

    for module in net.modules():
        if isinstance(module, torch.nn.Conv3d):
            module.register_forward_pre_hook(note)
    with torch.no_grad():
        net(torch.zeros(args.clips, 3, args.frames_per_clip, args.img_height, args.img_width))
    return found


def layers(args):
    torch.manual_seed(1)
    allow_tf32(args)
    kind = {"device": args.device, "dtype": HALVES.get(args.precision, torch.float32)}

    def milliseconds(work):
        times = []
        for run in range(args.steps + 1):
            start = time.perf_counter()
            work()
            wait_for(args.device)
            times.append((time.perf_counter() - start) * 1e3)
        return statistics.median(times[1:])

    rows = []
    for name, (module, size, count) in convolutions(args).items():
        stride, padding = list(module.stride), list(module.padding)
        x = torch.rand(size, **kind) * 2 - 1
        w = torch.rand(module.weight.shape, **kind) * 2 - 1
        dy = torch.ones_like(F.conv3d(x, w, None, stride, padding))

        def backward(mask):
            # The operation that training calls; the mask selects the gradients: x, w, bias.
            return torch.ops.aten.convolution_backward(
                dy, x, w, None, stride, padding, [1, 1, 1], False, [0, 0, 0], 1, mask
            )

        with torch.no_grad():
            ms = [
                milliseconds(lambda: F.conv3d(x, w, None, stride, padding)),
                milliseconds(lambda: backward([True, False, False])),
                milliseconds(lambda: backward([False, True, False])),
            ]
        rows.append({"shape": name, "count": count, "ms": ms})
    size = [args.clips, 3, args.frames_per_clip, args.img_height, args.img_width]
    return {
        "device": args.device,
        "precision": args.precision,
        "backbone": args.backbone_name,
        "shape": size,
        "layers": rows,
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["augment", "step", "layers"])
    parser.add_argument("--clips", type=int, default=None, help="default 8; for step and layers 2")
    parser.add_argument("--backbone-name", default="r2plus1d_18")
    parser.add_argument("--frames-per-clip", type=int, default=8)
    parser.add_argument("--img-height", type=int, default=112)
    parser.add_argument("--img-width", type=int, default=112)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--device", default="cpu", help="as torch names it")
    precisions = ["f32", "tf32", "bf16", "f16", "auto"]
    parser.add_argument("--precision", choices=precisions, default="f32")
    parser.add_argument("--json", action="store_true", help="accepted and ignored: output is always JSON")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--height", type=int, default=112)
    parser.add_argument("--width", type=int, default=112)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if args.clips is None:
        args.clips = 8 if args.what == "augment" else 2
    if args.precision == "tf32" and not args.device.startswith("cuda"):
        parser.error(f"--precision tf32: {args.device} has no TF32, only CUDA devices have")
    if args.precision == "auto":
        args.precision = "f16" if args.device.startswith("cuda") else "f32"
    torch.set_num_threads(args.threads)
    result = {"what": args.what, "torch": torch.__version__, "threads": args.threads}
    result.update({"augment": augment, "step": step, "layers": layers}[args.what](args))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
