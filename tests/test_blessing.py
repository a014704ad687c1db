"""Which models are blessed, by hand-worked cases."""

import math

import pytest

from components import blessing, examples

LIMITS = {"LE": 0.1, "F1": 0.8, "top1": None}
GOOD = {"LE": 0.1, "F1": 0.8, "top1": 0.5}


@pytest.mark.parametrize(
    "changes, baseline, margin, reasons",
    [
        ({}, None, 0.0, []),
        ({"LE": 0.11}, None, 0.0, ["LE 0.1100 is above 0.1"]),
        ({"F1": 0.79}, None, 0.0, ["F1 0.7900 is below 0.8"]),
        ({"LE": math.nan}, None, 0.0, ["LE nan is above 0.1"]),
        # Of what has no limit, too, it may be worse by the margin only.
        ({}, {"LE": 0.0625, "F1": 0.875, "top1": 0.625}, 0.125, []),
        (
            {},
            {"top1": 0.625},
            0.0625,
            ["top1 0.5000 is worse than the last blessed model's 0.6250 by more than 0.0625"],
        ),
        ({}, {"LE": 0.5, "F1": 0.1, "top1": 0.1}, 0.0, []),  # better than before
    ],
)
def test_reasons_against(changes, baseline, margin, reasons):
    assert blessing.reasons_against(GOOD | changes, LIMITS, baseline, margin) == reasons


def test_what_was_not_measured_is_not_blessed():
    assert blessing.reasons_against({"LE": 0.1}, LIMITS) == ["F1 was not measured"]


@pytest.mark.parametrize("text", ["[]", "{}", '{"casm": null, "settings": 3}'])
def test_what_is_no_evaluation_and_no_examples_is_refused_by_name(text, tmp_path):
    for name, read in {"evaluation": blessing.metrics_of, "examples": examples.read}.items():
        (tmp_path / f"{name}.json").write_text(text)
        with pytest.raises(ValueError, match=rf"{name}\.json: expected JSON with "):
            read(tmp_path)


def test_one_file_tells(tmp_path):
    with pytest.raises(ValueError, match="neither BLESSED nor NOT_BLESSED"):
        blessing.is_blessed(tmp_path)
    for prefix in ("", "INFRA_"):
        directory = tmp_path / f"{prefix}x"
        for blessed, name in ((True, "BLESSED"), (False, "NOT_BLESSED"), (True, "BLESSED")):
            blessing.write(directory, blessed, prefix)
            assert [path.name for path in directory.iterdir()] == [prefix + name]
            assert blessing.is_blessed(directory) is blessed
