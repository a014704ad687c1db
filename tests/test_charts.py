"""Curves and bars: where the points lie, what is said to who cannot see them, what is refused."""

import re
from xml.etree import ElementTree

import pytest

from casm_tf.report import charts

STYLES = charts.line_styles(["CASM", "a < b"])


def test_no_two_of_28_styles_are_alike():
    assert len(set(charts.line_styles(range(28)).values())) == 28


def test_a_curve_goes_through_its_points():
    curves = {"CASM": ([0, 0.5, 1], [0, 1, 0.25]), "a < b": ([0, 1], [1, 1])}
    chart = ElementTree.fromstring(charts.curves(curves, STYLES, "t", "LE (lower is better)"))
    # The axes go from 36 to 350 and, upwards, from 208 to 28; the first curve is drawn last.
    below, above = (line.attrib for line in chart.findall("polyline"))
    assert above["points"] == "36.0,208.0 193.0,28.0 350.0,163.0"
    assert below["points"] == "36.0,28.0 350.0,28.0"
    assert (above["stroke"], above["stroke-dasharray"]) == STYLES["CASM"]
    assert (below["stroke"], below["stroke-dasharray"]) == STYLES["a < b"]
    texts = [text.text for text in chart.findall("text")]
    assert [*texts[:6], *texts[6:12]] == ["0", "0.2", "0.4", "0.6", "0.8", "1"] * 2
    assert texts[12:] == ["LE (lower is better)", "t"]
    spoken = chart.attrib["aria-label"]
    assert spoken == "LE (lower is better) against t: CASM 0.000 to 1.000, a < b 1.000 to 1.000."


def test_axes_end_where_the_curves_need_it():
    chart = charts.curves({"CASM": ([0, 3], [0.02, 0.04])}, STYLES, "x", "y")
    assert 'points="36.0,118.0 350.0,28.0"' in chart
    assert "<text" in charts.curves({"CASM": ([0, 0], [0, 0])}, STYLES, "x", "y")


def test_no_line_where_no_point_is():
    # Both dots are on the same place; the one below is larger and can be seen.
    curves = {"CASM": ([1], [0.5]), "a < b": ([0, 0, 0.04, 0.08, 1], [1, 1, 1, 1, 0.5])}
    chart = ElementTree.fromstring(charts.curves(curves, STYLES, "recall", "precision", 16))
    (line,) = chart.findall("polyline")
    assert line.attrib["points"] == "36.0,28.0 48.6,28.0 61.1,28.0"
    below, above = (dot.attrib for dot in chart.findall("circle"))
    assert (above["cx"], above["cy"]) == (below["cx"], below["cy"]) == ("350.0", "118.0")
    assert (above["fill"], below["fill"]) == (STYLES["CASM"][0], STYLES["a < b"][0])
    assert int(below["r"]) > int(above["r"])


@pytest.mark.parametrize(
    "curve, message",
    [
        (([0, 1], [0, float("nan")]), "CASM: a curve of LE is finite"),
        (([0, 1], [0, float("inf")]), "finite"),
        (([0, 1], [0, -0.1]), "not negative"),
        (([], []), r"\[2, points\]; found \(2, 0\)"),
        ([0, 1, 0.5], r"found \(3,\)"),
    ],
)
def test_a_curve_that_cannot_be_drawn_is_refused(curve, message):
    with pytest.raises(ValueError, match=message):
        charts.curves({"CASM": curve}, STYLES, "t", "LE")


def test_bars_are_as_long_as_their_values():
    groups = {"resnet18": {"original": 1.0, "masked in": 0.5}, "<vgg>": {"masked in": 0.25}}
    colors = {"original": charts.GREY, "masked in": charts.BLUE, "masked out": charts.VERMILION}
    chart = ElementTree.fromstring(charts.bars(groups, colors, "Accuracy"))
    bars = [bar.attrib for bar in chart.findall("rect") if "fill" in bar.attrib]
    assert [(bar["width"], bar["fill"]) for bar in bars] == [
        ("314.0", charts.GREY),
        ("157.0", charts.BLUE),
        ("78.5", charts.BLUE),
    ]
    texts = [text.text for text in chart.findall("text")]
    assert texts == ["resnet18", "1.000", "0.500", "<vgg>", "0.250"]
    assert chart.attrib["aria-label"] == (
        "Accuracy: resnet18, original 1.000; resnet18, masked in 0.500; <vgg>, masked in 0.250."
    )
    height = int(chart.attrib["viewBox"].split()[-1])
    ends = [int(bar["y"]) + int(bar["height"]) for bar in bars]
    assert max(ends) <= height <= max(ends) + 10
    assert ends == sorted(set(ends))


@pytest.mark.parametrize("value", [float("nan"), 1.2, -0.1])
def test_bars_are_of_shares(value):
    with pytest.raises(ValueError, match=r"resnet18, original: a share is in \[0, 1\]"):
        charts.bars({"resnet18": {"original": value}}, {"original": charts.GREY}, "Accuracy")


def test_a_legend_has_every_name_in_its_style():
    items = re.findall(r"<li>.*?</li>", charts.legend(STYLES))
    assert len(items) == 2
    assert 'stroke="#0072B2"' in items[0] and items[0].endswith("</svg>CASM</li>")
    assert 'stroke-dasharray="7 3"' in items[1] and items[1].endswith("</svg>a &lt; b</li>")
