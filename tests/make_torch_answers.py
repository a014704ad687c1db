"""Make tests/data/torch_answers.npz: PYTHONPATH=. python tests/make_torch_answers.py

The answers of PyTorch's networks in float64, for the test where there is no torch.
"""

import pathlib

import numpy as np
import parity
import torch

from benchmarks import torch_networks

OUTPUT = pathlib.Path(__file__).parent / "data" / "torch_answers.npz"


def main():
    pair = torch_networks.Pair("resnet50", parity.CLASSES, torch.float64)
    shapes = [{n: a.shape for n, a in state.items()} for state in pair.state_dicts()]
    pair.load([parity.random_state(of, seed) for seed, of in enumerate(shapes)])
    images, labels, weights = parity.batch()
    found = {}
    before = pair.state_dicts()
    for time in ("before", "after"):
        logits, masks = pair.answers(images)
        # The masks' pixels are alike in fours: nearest neighbours of 56x56.
        found |= {f"logits_{time}": logits, f"masks_{time}": masks[:, ::4, ::4]}
        if time == "before":
            pair.sgd_step(images, labels, weights, parity.RATE)
    parts = ("classifier", "decoder")
    for part, of, *states in zip(parts, shapes, before, pair.state_dicts(), strict=True):
        found[f"{part}_names"] = np.array(list(of))
        found[f"{part}_shapes"] = np.array([(*s, 0, 0, 0)[:4] for s in of.values()], np.int16)
        found[f"{part}_updates"] = np.array(list(parity.updates(*states).values()))
    arrays = {n: a.astype(np.float32) if a.dtype == float else a for n, a in found.items()}
    np.savez_compressed(OUTPUT, **arrays)
    print(f"made  {OUTPUT}: {OUTPUT.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
