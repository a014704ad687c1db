"""The report of an evaluation: one HTML file that needs nothing else, for a phone and a desk."""

import base64
import pathlib
from html import escape

import numpy as np

from casm_tf.evaluation.extremes import extremes
from casm_tf.host import files
from casm_tf.report import charts, figures, tables
from casm_tf.report.tables import method_title

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p class="quiet">{scored}</p>
</header>
<main>
{sections}
</main>
</body>
</html>
"""
_HEADLINES = {
    "LE": "Localization error: the share of images whose box misses the object, with an IoU of at "
    "most 0.5. Lower is better.",
    "F1": "How well the mask and the true box cover each other, from 0 to 1. Higher is better.",
    "PxAP": "How well the mask ranks the object's pixels above all others, from 0 to 1. Higher is "
    "better.",
    "OM": "The share of images whose box misses the object or whose class is wrong. Lower is "
    "better.",
}
_BARS = {
    "original": ("top1", charts.GREY),
    "masked in": ("top1_masked_in", charts.BLUE),
    "masked out": ("top1_masked_out", charts.VERMILION),
    "masked out, inpainted": ("top1_inpainted", charts.PURPLE),
}
_GAP = 16  # pixels of a chart: recalls further apart have none between them that was found


def write_report(
    path,
    title,
    results,
    *,
    dataset,
    split,
    images,
    figure=None,
    threshold_curves=None,
    precision_recall=None,
    perturbation=None,
    classifiers=None,
    examples=(),
    made=None,
):
    """Write a report as one HTML file, whole or not at all; what is not given has no section.

    Args:
        path: of the file.
        title: of the page.
        results: evaluation.json's: {"protocol": str, "casm": {measure: number}, method: ...}.
        dataset, split: names of what was scored.
        images: how many there were.
        figure: the paper's Figure 2, a PNG: its bytes or its path.
        threshold_curves: {method: (thresholds, LE)}, of masks stretched to [0, 1].
        precision_recall: {method: (recall, precision)}, of pixels.
        perturbation: {method: {"insertion": [n + 1], "deletion": [n + 1]}}, mean probabilities of
            the class while all pixels are replaced in n equal steps.
        classifiers: {method: {classifier: {"top1", "top1_masked_in", "top1_masked_out",
            "top1_inpainted"}}}, the paper's Figure 3; a classifier may lack some.
        examples: `Example`s; the `extremes` of them are shown.
        made: {term: text}, how to make it again: the command, the seed, the versions.

    Raises:
        ValueError: a number is not finite, there is no "casm", or arrays are of other shapes.
        OSError: the figure cannot be read or the report not be written.
    """
    methods = {name: values for name, values in results.items() if name != "protocol"}
    if "casm" not in methods:
        raise ValueError(f"results have a method 'casm'; found {', '.join(methods) or 'none'}")
    tables.check_finite(methods)
    sections = [
        _headlines(methods),
        _section(
            "All methods",
            "<p>The best value of a column is bold on a tint. The arrow says which way is better; "
            "a column without one is not ranked. A trivial mask, say of the whole image, may win a "
            "single column: read them together.</p>",
            tables.tables(methods),
        ),
        _figure(figure),
        _curves(methods, threshold_curves or {}, precision_recall or {}, perturbation or {}),
        _bars(classifiers or {}),
        _examples(extremes(examples)),
        _made(made or {}),
    ]
    protocol = f", protocol {results['protocol']}" if "protocol" in results else ""
    _write(path, title, f"{images:,} images of {dataset}, split {split}{protocol}", sections)


def _write(path, title, scored, sections):
    page = _PAGE.format(
        title=escape(title),
        style=pathlib.Path(__file__).with_suffix(".css").read_text(encoding="utf-8"),
        scored=escape(scored),
        sections="\n".join(filter(None, sections)),
    )
    with files.replacing(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def _section(title, *parts):
    return f"<section>\n<h2>{title}</h2>\n" + "\n".join(parts) + "\n</section>"


def _headlines(methods):
    """The three numbers that matter, of CASM, each beside that of a box in the centre."""
    casm, centre = methods["casm"], methods.get("centre_box", {})
    keys = [key for key in ("LE", "F1", "PxAP" if "PxAP" in casm else "OM") if key in casm]
    numbers = ""
    for key in keys:
        numbers += f'<div><h3>{key}</h3><p class="number">{casm[key]:.3f}</p>'
        numbers += f"<p>{_HEADLINES[key]}</p>"
        if key in centre:
            numbers += f'<p class="quiet">A box in the centre: {centre[key]:.3f}</p>'
        numbers += "</div>"
    return numbers and _section("CASM in short", f'<div class="numbers">{numbers}</div>')


def _figure(figure):
    if figure is None:
        return ""
    png = figure if isinstance(figure, bytes) else pathlib.Path(figure).read_bytes()
    if not png.startswith(b"\x89PNG"):
        raise ValueError("the figure is a PNG; found another kind of file")
    alt = "Images, a column each: original, masked in, masked out, inpainted, mask with boxes"
    return _section(
        "What the masks keep and take away",
        '<div class="scroll" role="region" tabindex="0" aria-label="Figure 2 of the paper">'
        f"{_image(png, alt, 'wide')}</div>",
        '<p class="quiet">Figure 2 of the paper. From top to bottom: the image, what the mask '
        "keeps, what it takes away, that place inpainted, and the mask with its boxes.</p>",
    )


def _curves(methods, threshold_curves, precision_recall, perturbation):
    """A section for each kind of curve that there is, beside each other where there is room."""
    kinds = {
        "Localization error by threshold": (
            threshold_curves,
            "threshold of the mask, stretched to 0 to 1",
            "LE (lower is better)",
            "Each mask is stretched to 0 to 1 first. One that has a single value, such as that of "
            "the full image, has no box at any threshold.",
        ),
        "Precision and recall of pixels": (
            precision_recall,
            "recall",
            "precision (up and right is better)",
            "Only what a threshold gives is drawn: a line where such points lie close together, a "
            "dot where one stands alone. A mask of a single value is one dot: at recall 1, and its "
            "precision is the objects' share of all pixels.",
            _GAP,
        ),
    }
    for key, change, better in (
        ("insertion", "put in, most salient first", "higher"),
        ("deletion", "taken out, most salient first", "lower"),
    ):
        given = {name: arrays[key] for name, arrays in perturbation.items() if key in arrays}
        kinds[key.capitalize()] = (
            {name: (np.linspace(0, 1, len(curve)), curve) for name, curve in given.items()},
            f"share of pixels {change}",
            f"probability of the class ({better} is better)",
            f"Measured at {len(next(iter(given.values()), ()))} shares, with lines between them. "
            "Pixels that are equally salient follow each other as one reads.",
        )
    # A method has one colour in all charts.
    names = dict.fromkeys(name for curves, *_ in kinds.values() for name in curves)
    ordered = [name for name in methods if name in names]
    ordered += [name for name in names if name not in methods]
    styles = charts.line_styles(map(method_title, ordered))
    sections = []
    for title, (curves, x_label, y_label, note, *gap) in kinds.items():
        if curves:
            curves = {method_title(name): curves[name] for name in ordered if name in curves}
            shown = {name: styles[name] for name in curves}
            chart = charts.curves(curves, styles, x_label, y_label, *gap)
            note = f'<p class="quiet">{note}</p>'
            sections.append(_section(title, charts.legend(shown), chart, note))
    return sections and f'<div class="charts">{"".join(sections)}</div>'


def _bars(classifiers):
    """The paper's Figure 3, a chart for each method."""
    colors = {series: color for series, (_, color) in _BARS.items()}
    parts = []
    for method, groups in classifiers.items():
        groups = {
            name: {series: values[key] for series, (key, _) in _BARS.items() if key in values}
            for name, values in groups.items()
        }
        method = method_title(method)
        chart = charts.bars(groups, colors, f"Accuracy with the masks of {method}")
        parts.append(f"<div><h3>{escape(method)}</h3>{chart}</div>")
    return parts and _section(
        "What classifiers still recognize",
        "<p>Figure 3 of the paper: accuracy from 0 to 1 on the same images under each method's "
        "masks. A good mask keeps what is needed (masked in: higher is better) and leaves nothing "
        "that helps (masked out and inpainted: lower is better).</p>",
        charts.legend({series: (color, "none") for series, color in colors.items()}),
        f'<div class="charts">{"".join(parts)}</div>',
    )


def _examples(ordered):
    """Images sorted from best to worst, in two halves."""
    if not ordered:
        return ""
    half = (len(ordered) + 1) // 2
    parts = []
    for title, part in (("Best", ordered[:half]), ("Worst", ordered[half:][::-1])):
        if part:
            parts.append(f'<h3>{title}</h3><div class="examples">{"".join(map(_example, part))}')
            parts.append("</div>")
    return _section(
        "Best and worst images",
        "<p>By the IoU of the predicted box with the true one, then by F1. On the right of each "
        "image is its mask, in orange.</p>",
        charts.legend(
            {
                "true box": (figures.GROUND_TRUTH_COLOR, "none"),
                "predicted box": (figures.PREDICTED_COLOR, "6 3"),
            }
        ),
        *parts,
    )


def _example(example):
    scores = f"IoU {example.iou:.3f}, F1 {example.f1:.3f}"
    if example.predicted_box is None:
        scores += ", no box"
    png = figures.scored_image(example.image, example.mask, example.boxes, example.predicted_box)
    alt = f"A picture and its mask: {example.caption}; {scores}"
    return (
        f"<figure>{_image(png, alt)}<figcaption>{escape(example.caption)}<br>{scores}</figcaption>"
        "</figure>"
    )


def _made(made):
    terms = "".join(
        f"<dt>{escape(term)}</dt><dd>"
        + (f"<code>{escape(text)}</code>" if term == "command" else escape(text))
        + "</dd>"
        for term, text in made.items()
    )
    return made and _section("How this was made", f"<dl>{terms}</dl>")


def _image(png, alt, kind=""):
    data = base64.b64encode(png).decode()
    return f'<img class="{kind}" alt="{escape(alt)}" src="data:image/png;base64,{data}">'
