"""Whether a model is good enough to be pushed, as TFX says it: a directory with an empty file."""

import pathlib

from casm_tf.host import files

_LOWER_IS_BETTER = ("LE",)


def metrics_of(directory):
    """CASM's row of the evaluation.json in a directory.

    Raises OSError where there is none and ValueError where it is no such file.
    """
    return files.read_json(pathlib.Path(directory) / "evaluation.json", "casm")["casm"]


def reasons_against(metrics, limits, baseline=None, margin=0.0):
    """Why a model should not be pushed, a sentence each; none if it may be.

    Args:
        metrics: {name: value in [0, 1]}, such as evaluation.json's "casm".
        limits: {name: the worst value that is good enough}, of "LE" (lower is better) and measures
            where higher is; None asks for nothing.
        baseline: the metrics of the last model that was blessed, or None.
        margin: how much worse than that each of the limits' measures may be.
    """
    reasons = []
    for name, limit in limits.items():
        sign, word = (-1, "above") if name in _LOWER_IS_BETTER else (1, "below")
        found = metrics.get(name)
        if limit is not None:
            if found is None:
                reasons.append(f"{name} was not measured")
            elif not sign * found >= sign * limit:  # NaN is not good enough
                reasons.append(f"{name} {found:.4f} is {word} {limit:g}")
        before = (baseline or {}).get(name)
        if before is not None and found is not None and not sign * (found - before) >= -margin:
            reasons.append(
                f"{name} {found:.4f} is worse than the last blessed model's {before:.4f} "
                f"by more than {margin:g}"
            )
    return reasons


def write(directory, blessed, prefix=""):
    """Leave {prefix}BLESSED or {prefix}NOT_BLESSED alone in a directory of that kind."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    names = f"{prefix}BLESSED", f"{prefix}NOT_BLESSED"
    right, wrong = names if blessed else names[::-1]
    (directory / wrong).unlink(missing_ok=True)
    (directory / right).touch()


def is_blessed(directory):
    """Whether there is a blessing of either kind. Raises ValueError where nothing was judged."""
    names = {path.name for path in pathlib.Path(directory).glob("*BLESSED")}
    if not names:
        raise ValueError(f"{directory} has neither BLESSED nor NOT_BLESSED")
    return not any("NOT_BLESSED" in name for name in names)
