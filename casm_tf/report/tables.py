"""The tables of a report: what each measure means, which way is better, and who is best."""

import math
from html import escape
from numbers import Real
from typing import NamedTuple

import numpy as np

from casm_tf.choices import PRETRAINED


class Measure(NamedTuple):
    """What a key of evaluation.json is called, which way is better ("lower", "higher", "")."""

    title: str
    better: str
    meaning: str


_ACCURACY = "share of images the classifier is right on"
MEASURES = {
    "Localization": {
        "LE": Measure(
            "LE", "lower", "share of images whose box has an IoU of at most 0.5 with every true box"
        ),
        "LE_mean_rule": Measure(
            "LE, mean rule",
            "lower",
            "LE where the box is taken from the mask's pixels above its mean, as the paper writes",
        ),
        "OM": Measure("OM", "lower", "share of images that are mislocalized or misclassified"),
        "OM_mean_rule": Measure("OM, mean rule", "lower", "OM with the boxes of LE, mean rule"),
        "F1": Measure(
            "F1", "higher", "overlap of the mask, as it is, with the best true box; mean of images"
        ),
        "MaxBoxAcc": Measure(
            "MaxBoxAcc",
            "higher",
            "share of images whose box has an IoU of at least 0.5, at the best threshold for all",
        ),
        "MaxBoxAccV2": Measure(
            "MaxBoxAccV2", "higher", "the same, mean of the IoUs 0.3, 0.5 and 0.7"
        ),
        "PxAP": Measure(
            "PxAP", "higher", "area under the precision-recall curve of the object's pixels"
        ),
        "pointing_game": Measure(
            "pointing game", "higher", "share of images whose most salient pixel is in a true box"
        ),
    },
    "Salient object": {
        "MAE": Measure("MAE", "lower", "mean difference between the mask and the true one"),
        "maxF": Measure(
            "maximal F",
            "higher",
            "overlap with the object, precision before recall; at the best threshold for all",
        ),
        "S": Measure("S-measure", "higher", "likeness of structure, of objects and of regions"),
        "E": Measure("E-measure", "higher", "alignment with the true mask, mean of thresholds"),
        "IoU": Measure(
            "IoU", "higher", "overlap of the object and of what is above 0.5; mean of images"
        ),
        "pixel_accuracy": Measure(
            "pixels", "higher", "share of pixels that are right, above 0.5 or not; mean of images"
        ),
    },
    "Worth to the classifier": {
        "saliency_metric": Measure(
            "saliency metric",
            "lower",
            "log of the box's share of the image minus log of the class's probability in the box",
        ),
        "insertion": Measure(
            "insertion", "higher", "mean probability of the class as salient pixels are put in"
        ),
        "deletion": Measure(
            "deletion", "lower", "mean probability of the class as salient pixels are taken out"
        ),
    },
    "Accuracy": {
        "top1": Measure("whole picture", "", _ACCURACY),
        "top1_masked_in": Measure("masked in", "higher", "... when only the salient is left"),
        "top1_masked_out": Measure("masked out", "lower", "... when the salient is taken away"),
        "top1_inpainted": Measure("inpainted", "lower", "... and the place is filled"),
    },
    "Mask statistics": {
        "mask_mean": Measure("size", "", "share of an image that is salient; mean"),
        "mask_std": Measure("deviation", "", "standard deviation of that share between images"),
        "mask_entropy": Measure("entropy", "", "mean of -m log2 m in bits; 0 where all is 0 or 1"),
        "mask_tv": Measure("total variation", "", "mean squared difference between neighbours"),
    },
    "Cost": {
        # Not ranked: a mask that looks at nothing is the cheapest.
        "forward_passes": Measure("forward passes", "", "through the classifier, for a mask"),
        "seconds_per_image": Measure("milliseconds", "", "time a mask takes on this machine"),
    },
}
# {method: its title, what it is}
_METHODS = {
    "casm": ("CASM", "the trained model's own masks: one pass, and no class is asked for"),
    PRETRAINED: (PRETRAINED, "the masks of the model for photographs that comes with the package"),
    "full_image": ("full image", "every pixel counts"),
    "centre_box": ("centre box", "a box in the middle, of half the picture's area"),
    "cam": (
        "CAM",
        "where the last map of the classifier, as it was before it saw masks, speaks for a class",
    ),
    "grad_cam": ("Grad-CAM", "the positive part of CAM, found by gradients"),
    "gradient": ("gradient", "where a pixel's change would change the class's score most"),
    "smooth_gradient": ("SmoothGrad", "the gradient's mean over noisy copies of the picture"),
}
RANKED = {
    key: measure for group in MEASURES.values() for key, measure in group.items() if measure.better
}
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
# What `Comparison.compute` tells of few images, {measure: number}
_ERRORS = {"standard_error", "standard_error_of_difference"}
_ARROWS = {"lower": "\N{DOWNWARDS ARROW}", "higher": "\N{UPWARDS ARROW}", "": ""}


def method_title(name):
    """A method's key of evaluation.json for people."""
    return _METHODS[name][0] if name in _METHODS else name


def explanations(methods):
    """What each of the methods is, folded away."""
    terms = "".join(
        f"<dt>{escape(title)}</dt><dd>{meaning}</dd>"
        for title, meaning in (_METHODS.get(name, (name, "another run")) for name in methods)
    )
    return f"<details><summary>What the methods are</summary><dl>{terms}</dl></details>"


def check_finite(methods):
    """Raise ValueError unless `methods` are {method: {measure: finite number}}."""
    for method, values in methods.items():
        if not isinstance(values, dict):
            raise ValueError(f"{method}: a method has {{measure: number}}; found {values!r}")
        for key, value in values.items():
            for one in value.values() if key in _ERRORS else [value]:
                if not (isinstance(one, Real) and math.isfinite(one)):
                    raise ValueError(f"{method}, {key}: a finite number is expected; found {one!r}")


def tables(methods):
    """Tables of methods x measures, one a group of measures; a group nobody has is left out.

    `methods` are {method: {measure: number}}. Measures that are not in `MEASURES` come in a table
    of their own. The best values of a column are marked where one way is better and methods differ.
    """
    known = {key for group in MEASURES.values() for key in group}
    known |= {"true_box_area", "top1_before"}  # of the data and the run, no method's
    known |= _ERRORS
    keys = dict.fromkeys(key for values in methods.values() for key in values)
    others = {key: Measure(key, "", "") for key in keys if key not in known}
    parts = []
    for caption, group in {**MEASURES, "Other measures": others}.items():
        present = {key: measure for key, measure in group.items() if key in keys}
        if present:
            parts.append(_table(caption, present, methods))
    return "".join(parts)


def best(key, methods):
    """The methods {method: {measure: number}} with the best value of a measure, a set.

    What is printed alike is alike. None is the best where one way is not better than the other, or
    where all are alike.
    """
    values = {name: values[key] for name, values in methods.items() if key in values}
    printed = {name: number(key, value) for name, value in values.items()}
    if key not in RANKED or len(set(printed.values())) < 2:
        return set()
    choose = min if RANKED[key].better == "lower" else max
    leader = printed[choose(values, key=values.get)]
    return {name for name, text in printed.items() if text == leader}


def standings(methods):
    """How "casm" does among methods: {"ahead" | "level" | "behind": {measure: the best other}}.

    The measures are those that are ranked and that others have too; where methods have standard
    errors, only those with one. Two are level that are printed alike, or whose difference is not
    larger than its standard error, which is taken picture by picture. The other is the best of
    those that CASM is behind, or else level with.
    """
    found = {"ahead": {}, "level": {}, "behind": {}}
    for key, measure in RANKED.items():
        values = {
            name: values[key]
            for name, values in methods.items()
            if key in values and key in values.get("standard_error", values)
        }
        if "casm" in values and len(values) > 1:
            casm = values.pop("casm")
            sign = 1 if measure.better == "higher" else -1
            names = {"ahead": [], "level": [], "behind": []}
            for name, value in values.items():
                error = methods[name].get("standard_error_of_difference", {}).get(key, 0)
                is_level = number(key, value) == number(key, casm) or abs(value - casm) <= error
                is_ahead = sign * (casm - value) > 0
                names["level" if is_level else "ahead" if is_ahead else "behind"].append(name)
            standing = next(one for one in ("behind", "level", "ahead") if names[one])
            found[standing][key] = max(names[standing], key=lambda name: sign * values[name])
    return found


def error(key, values):
    """The standard error of a method's measure as it is printed, such as "±0.031"; "" if none."""
    errors = values.get("standard_error", {})
    return f"{PLUS_MINUS}{number(key, errors[key])}" if key in errors else ""


def _table(caption, measures, methods):
    methods = {name: values for name, values in methods.items() if measures.keys() & values.keys()}
    head = "".join(
        f'<th scope="col">{escape(measure.title)}{_direction(measure.better)}</th>'
        for measure in measures.values()
    )
    columns = [_column(key, methods) for key in measures]
    rows = "".join(
        f'<tr><th scope="row">{escape(method_title(name))}</th>{"".join(cells)}</tr>'
        for name, *cells in zip(methods, *columns, strict=True)
    )
    meanings = "".join(
        f"<dt>{escape(measure.title)}</dt><dd>{escape(measure.meaning)}</dd>"
        for measure in measures.values()
        if measure.meaning
    )
    if meanings:
        meanings = f"<details><summary>What the columns mean</summary><dl>{meanings}</dl></details>"
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{caption}"><table>'
        f'<caption>{caption}</caption><thead><tr><th scope="col">method</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{meanings}"
    )


def _column(key, methods):
    """The cells of a column, the best ones marked."""
    leaders = best(key, methods)
    for name, values in methods.items():
        text = number(key, values[key]) if key in values else "\N{EN DASH}"
        if name in leaders:
            text += '<span class="unseen"> best</span>'
        if of_few := error(key, values):
            text += f' <span class="quiet">{of_few}</span>'
        yield f'<td class="best">{text}</td>' if name in leaders else f"<td>{text}</td>"


def number(key, value):
    """A measure's value as it is printed: three decimals, or of costs three significant digits."""
    if key == "seconds_per_image":
        value *= 1000
    if key in MEASURES["Cost"]:
        return np.format_float_positional(value, 3, unique=False, fractional=False, trim="-")
    return f"{value:z.3f}"  # z: no minus zero


def _direction(better):
    """An arrow for who sees it, words for who does not."""
    if not better:
        return ""
    return (
        f'&nbsp;<span aria-hidden="true">{_ARROWS[better]}</span>'
        f'<span class="unseen">, {better} is better</span>'
    )
