"""The same steps in PyTorch on this machine's device: python -m benchmarks.gpu.torch_peer

Of ResNet-50 "original" is the original's step (benchmarks/torch_steps.py). "channels_last" has no
pass or gradient too many, "bfloat16" is that under autocast and "compiled" that under torch.compile
as well. The last line is {"images_per_second": {way: {"present" or "past": x}}, "peak_gigabytes":
{way: x}}. It takes torch and numpy alone.
"""

import argparse
import functools
import json
import statistics
import time

import numpy as np
import torch

from benchmarks import torch_steps

_CLASSES = 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    architectures = ["resnet50", "efficientnet_lite0"]
    parser.add_argument("--classifier", choices=architectures, default="resnet50")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=20, help="Timed, after three that are not.")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(torch.cuda.get_device_name() if device == "cuda" else device)
    torch.backends.cudnn.benchmark = True  # as JAX's, its convolutions are the fastest found

    random = np.random.default_rng(0)
    shape = options.batch_size, options.image_size, options.image_size, 3
    images = random.normal(size=shape).astype(np.float32)
    labels = random.integers(0, _CLASSES, options.batch_size)
    speeds, peaks = {}, {}
    for way, made in _ways(options.classifier, images, labels, device).items():
        step = made()
        speeds[way] = {}
        for kind in torch_steps.KINDS:
            seconds = _seconds(functools.partial(step, kind), device, options.steps)
            speeds[way][kind] = options.batch_size / seconds
            print(f"{way:14}{kind:8}{speeds[way][kind]:9.1f} images a second", flush=True)
        peaks[way] = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else None
        del step
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    print(json.dumps({"images_per_second": speeds, "peak_gigabytes": peaks}))


def _ways(classifier, images, labels, device):
    """{way: what makes its step}."""
    given = labels if classifier == "resnet50" else None
    lean = functools.partial(torch_steps.lean, classifier, images, given, _CLASSES, device)
    ways = {
        "channels_last": lean,
        "bfloat16": functools.partial(lean, bfloat16=True),
        "compiled": functools.partial(lean, bfloat16=True, compiled=True),
    }
    if classifier == "resnet50":
        original = functools.partial(torch_steps.original, images, labels, _CLASSES)
        ways = {"original": functools.partial(original, torch.contiguous_format, device), **ways}
    return ways


def _seconds(step, device, steps):
    """The median of a step's seconds."""
    seconds = []
    for _ in range(steps + 3):
        start = time.perf_counter()
        step()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[3:])


if __name__ == "__main__":
    main()
