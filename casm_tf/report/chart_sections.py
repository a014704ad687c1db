"""The sections of a report that are charts: curves beside each other, bars of accuracies."""

from html import escape

import numpy as np

from casm_tf.report import charts
from casm_tf.report.tables import method_title

_BARS = {
    "whole picture": ("top1", charts.GREY),
    "masked in": ("top1_masked_in", charts.BLUE),
    "masked out": ("top1_masked_out", charts.VERMILION),
    "masked out, inpainted": ("top1_inpainted", charts.PURPLE),
}
_GAP = 16  # pixels of a chart: recalls further apart have none between them that was found


def curves(methods, threshold_curves, precision_recall, perturbation):
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
            "Pixels that are equally salient go in reading order, from the upper left.",
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
            sections.append(section(title, charts.legend(shown), chart, note))
    return sections and f'<div class="charts">{"".join(sections)}</div>'


def bars(classifiers):
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
    return parts and section(
        "What classifiers still recognize",
        "<p>The accuracy of trained classifiers, from 0 to 1, on the same pictures under each "
        "method's masks. A good mask keeps what is needed (masked in: higher is better) and "
        "leaves nothing that helps (masked out and inpainted: lower is better).</p>",
        charts.legend({series: (color, "none") for series, color in colors.items()}),
        f'<div class="charts">{"".join(parts)}</div>',
    )


def section(title, *parts):
    """A section of the page with a heading."""
    return f"<section>\n<h2>{title}</h2>\n" + "\n".join(parts) + "\n</section>"
