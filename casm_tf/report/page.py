"""The report of an evaluation: one HTML file that needs nothing else, for a phone and a desk."""

import base64
import pathlib
from html import escape

from casm_tf.evaluation.extremes import extremes
from casm_tf.host import files
from casm_tf.report import chart_sections, charts, figures, tables
from casm_tf.report.chart_sections import section
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
<p>{lead}</p>
</header>
<main>
{sections}
</main>
</body>
</html>
"""
# {measure: what its card says}
_CARDS = {
    "LE": "Localization error: the share of pictures where the box that the mask gives misses the "
    "object, with an IoU of at most 0.5. Lower is better.",
    "F1": "How well the mask and the true box cover each other, from 0 to 1. Higher is better.",
    "PxAP": "How well the mask ranks the object's pixels above all others, from 0 to 1. Higher is "
    "better.",
    "OM": "The share of pictures where the box misses the object or the class is wrong. Lower is "
    "better.",
    "top1_masked_in": "The share of pictures that the classifier is right on when it sees no more "
    "than what the mask keeps. Higher is better.",
    "top1_masked_out": "The same where it sees what the mask leaves. Lower is better.",
}
_RANKING = (
    "<p>The best value of a column is bold on a tint. The arrow says which way is better; a column "
    "without one is not ranked. A trivial mask, say of the full image, may win a single column: "
    "read them together.</p>"
)
_ERRORS = (
    "<p>Behind a mean is its standard error, as the pictures are few. A difference that is no "
    "larger than its own, taken picture by picture, counts as level above; measures without a "
    "standard error are left out there.</p>"
)
_PROTOCOLS = {
    "squash": "all is seen, made square",
    "centre_crop": "the square in its middle is seen",
}
_STANDINGS = {
    "ahead": "Ahead of all others",
    "level": "Level with the best other",
    "behind": "Behind",
}


def write_report(
    path,
    results,
    *,
    dataset,
    split,
    images,
    figure=None,
    captions=(),
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
        results: evaluation.json's: {"protocol": str, "casm": {measure: number}, method: ...};
            what is text is no method. With standard errors as `Comparison.compute` has them.
        dataset, split, images: names of what was scored and how many there were, for the title.
        figure: of `figures.pictures_and_masks`, a PNG: its bytes or its path.
        captions: of the figure's rows.
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
    methods = {name: values for name, values in results.items() if not isinstance(values, str)}
    if "casm" not in methods:
        raise ValueError(f"results have a method 'casm'; found {', '.join(methods) or 'none'}")
    tables.check_finite(methods)
    ranking = _RANKING + (_ERRORS if methods["casm"].get("standard_error") else "")
    curves = (threshold_curves or {}, precision_recall or {}, perturbation or {})
    sections = [
        _short(methods),
        _figure(figure, captions),
        section("All methods", ranking, tables.explanations(methods), tables.tables(methods)),
        chart_sections.curves(methods, *curves),
        chart_sections.bars(classifiers or {}),
        _examples(extremes(examples)),
        _made(made or {}),
    ]
    pictures = f"{images:,} picture{'' if images == 1 else 's'}"
    title = f"Masks of {dataset}, split {split}: {pictures}"
    _write(path, title, _lead(methods["casm"], results.get("protocol")), sections)


def _write(path, title, lead, sections):
    page = _PAGE.format(
        title=escape(title),
        style=pathlib.Path(__file__).with_suffix(".css").read_text(encoding="utf-8"),
        lead=escape(lead),
        sections="\n".join(filter(None, sections)),
    )
    with files.replacing(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def _lead(casm, protocol):
    """What is compared here, of what."""
    sentences = [
        "A mask marks the pixels by which a classifier can recognise what is in a picture. Here "
        "CASM's masks are compared with those of other methods, on the same pictures and by the "
        "same measures."
    ]
    if protocol:
        kind = protocol.partition(",")[0]
        seen = _PROTOCOLS.get(kind, "the part of its protocol is seen")
        sentences.append(f"Of each picture {seen} (protocol {protocol}).")
    if "true_box_area" in casm:
        sentences.append(f"True boxes cover {casm['true_box_area']:.0%} of a picture (median).")
    elif "LE" not in casm:
        sentences.append(
            "The pictures have no boxes: nothing here tells whether a mask finds the object."
        )
    if "top1" in casm and "top1_before" not in casm:
        sentences.append(
            "The pictures have no labels: a class is right where it is what the classifier said "
            f"before it saw masks. CASM's classifier says the same of {casm['top1']:.3f} of them."
        )
    elif "top1" in casm:
        sentences.append(
            f"CASM's classifier is right on {casm['top1']:.3f} of the pictures, and was on "
            f"{casm['top1_before']:.3f} before it saw masks."
        )
    return " ".join(sentences)


def _short(methods):
    """The three numbers that matter, of CASM, and what it is ahead and behind in."""
    casm = methods["casm"]
    keys = [key for key in ("LE", "F1", "PxAP" if "PxAP" in casm else "OM") if key in casm]
    keys = keys or [key for key in ("top1_masked_in", "top1_masked_out") if key in casm]
    standings = tables.standings(methods)
    others = {key: name for standing in standings.values() for key, name in standing.items()}
    cards = ""
    for key in keys:
        head, value = tables.RANKED[key].title, tables.number(key, casm[key])
        cards += f'<div><h3>{head}</h3><p class="number">{value}</p><p>{_CARDS[key]}</p>'
        # A dict, so that the centre box stands there once where it is the best.
        shown = {"centre_box": "A trivial one", others.get(key): "The best other"}
        for name, words in reversed(shown.items()):
            if key in methods.get(name, {}):
                value = f"{method_title(name)} {tables.number(key, methods[name][key])}"
                cards += f'<p class="quiet">{words}: {escape(value)}</p>'
        cards += "</div>"
    items = ""
    for standing, found in standings.items():
        if found:
            values = (
                f"{tables.RANKED[key].title} ({tables.number(key, casm[key])}; "
                f"{method_title(name)} {tables.number(key, methods[name][key])})"
                for key, name in found.items()
            )
            count = f"{len(found)} of {len(others)} measures" if not items else len(found)
            items += (
                f"<li><b>{_STANDINGS[standing]}</b> in {count}: {escape(', '.join(values))}.</li>"
            )
    if items:
        items = f"<p>In brackets CASM's value, then the best other's.</p><ul>{items}</ul>"
    return cards and section("CASM in short", f'<div class="numbers">{cards}</div>{items}')


def _figure(figure, captions):
    if figure is None:
        return ""
    png = figure if isinstance(figure, bytes) else pathlib.Path(figure).read_bytes()
    if not png.startswith(b"\x89PNG"):
        raise ValueError("the figure is a PNG; found another kind of file")
    alt = "Pictures, a row each: with boxes, the masks of several methods, what CASM's takes away"
    # Again, as the picture's typeface lacks many letters.
    rows = f'<p class="quiet">The rows: {escape("; ".join(captions))}.</p>' if captions else ""
    return section(
        "Some pictures and their masks",
        "<p>A row a picture. From left to right: the picture with its true boxes, if it has any, "
        "and the box that CASM's mask gives; the mask of each method, white where a pixel counts, "
        "with the box that it gives; what CASM's mask, cut to yes or no, keeps of the picture; "
        "what it takes away; and that place filled from around it.</p>",
        '<div class="scroll" role="region" tabindex="0" aria-label="Pictures and their masks">'
        f"{_image(png, alt, 'wide')}</div>",
        rows,
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
    return section(
        "Best and worst images",
        "<p>CASM's, by the IoU of the box that the mask gives with the true one (how far the two "
        "cover each other; 1 is best, 0 is worst), then by F1. On the right of each picture is "
        "its mask, in orange.</p>",
        charts.legend(
            {
                "true box": (figures.GROUND_TRUTH_COLOR, "none"),
                "box found by the mask": (figures.PREDICTED_COLOR, "6 3"),
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
    return made and section("How this was made", f"<dl>{terms}</dl>")


def _image(png, alt, kind=""):
    data = base64.b64encode(png).decode()
    return f'<img class="{kind}" alt="{escape(alt)}" src="data:image/png;base64,{data}">'
