"""Masks of pictures and of their mirror images, turned back: benchmarks.place prints them."""

import numpy as np

# The axes of [B, H, W, C] that are turned.
VIEWS = {"pictures": (), "mirrored": (2,), "upside_down": (1,)}


def measured(find_masks, batches):
    """What the last line has, unrounded.

    Args:
        find_masks: images [B, H, W, 3] -> masks, arrays [B, H, W, 1].
        batches: dicts as `input_pipeline.evaluation_batches` gives them.
    """
    count, means, boxes = 0, dict.fromkeys(VIEWS, 0.0), 0.0
    for batch in batches:
        images = np.asarray(batch["images"])
        count += len(images)
        for name, axes in VIEWS.items():
            masks = np.flip(find_masks(np.flip(images, axes)), axes)
            means[name] += np.sum(masks[..., 0], axis=0, dtype=np.float64)
        for own, own_count in zip(batch["boxes"], batch["box_counts"], strict=True):
            boxes += inside(np.asarray(own)[: int(own_count)], images.shape[1:3])
    means = {name: total / count for name, total in means.items()}
    results = {
        name: {**centre(mean), "difference": float(np.abs(mean - means["pictures"]).mean())}
        for name, mean in means.items()
    }
    drawn_off = {
        axis: (results["pictures"][axis] - results[view][axis]) / 2
        for axis, view in (("x", "mirrored"), ("y", "upside_down"))
    }
    results = {"images": count, "drawn_off": drawn_off, **results}
    return results | {"boxes": centre(boxes)} if np.any(boxes) else results


def centre(mask):
    """The centre of mass of a mask [H, W], {"x", "y"} in pixels, 0 the first one's middle."""
    y, x = (np.arange(side) for side in mask.shape)
    return {
        "x": float(mask.sum(axis=0) @ x / mask.sum()),
        "y": float(mask.sum(axis=1) @ y / mask.sum()),
    }


def inside(boxes, size):
    """Where any of the boxes [N, 4] is, x0, y0, x1, y1 half-open: bool [H, W]."""
    found = np.zeros(size, bool)
    for x0, y0, x1, y1 in boxes:
        found[y0:y1, x0:x1] = True
    return found
