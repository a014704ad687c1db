"""Who is best, ahead and behind: in the report's tables and on the terminal, by what is printed."""

import re

import pytest

from casm_tf.report import tables, terminal_table


def test_what_is_printed_alike_is_equally_good():
    methods = {"a": {"F1": 0.70004}, "b": {"F1": 0.69996}, "c": {"F1": 0.3}}
    cells = re.findall(r"<td.*?</td>", tables.tables(methods))
    assert ["best" in cell for cell in cells] == [True, True, False]
    methods = {"a": {"saliency_metric": -0.5}, "b": {"saliency_metric": 0.2}}
    cells = re.findall(r"<td.*?</td>", tables.tables(methods))
    assert ["best" in cell for cell in cells] == [True, False]


@pytest.mark.parametrize(
    "value, printed",
    [(0, "0"), (0.001, "1"), (0.2264, "226"), (12.345, "12300"), (0.0012345, "1.23")],
)
def test_costs_are_milliseconds_of_three_digits(value, printed):
    assert f"<td>{printed}</td>" in tables.tables({"casm": {"seconds_per_image": value}})


RESULTS = {
    "protocol": "squash",
    "casm": {
        **{"LE": 0.1, "F1": 0.70004, "saliency_metric": 0.681, "top1": 0.9, "top1_before": 0.8},
        **{"mask_mean": 0.2, "mask_entropy": 0.0},
    },
    "centre_box": {
        **{"LE": 0.3, "F1": 0.69996, "saliency_metric": 0.07, "top1": 0.9},
        **{"mask_mean": 0.5, "mask_entropy": 0.0},
    },
    "a_run_of_a_long_name": {
        **{"LE": 0.2, "F1": 0.3, "saliency_metric": 0.5, "top1": 0.9},
        **{"mask_mean": 0.5, "mask_entropy": 0.0},
    },
}


def test_the_terminal_names_what_casm_wins_and_what_it_loses():
    lines = terminal_table.text(RESULTS).splitlines()
    assert lines[-7:] == [
        "casm is ahead of all others in 1 of 3 measures:",
        "  LE                0.100  a_run_of_a_long_name 0.200  lower is better",
        "level with the best other in 1 of 3 measures:",
        "  F1                0.700  centre_box 0.700            higher is better",
        "behind in 1 of 3 measures:",
        "  saliency metric   0.681  centre_box 0.070            lower is better",
        "A trivial mask, such as full_image, may win a single measure: read them together.",
    ]


def test_the_terminal_marks_the_best_of_a_column_that_has_a_direction():
    _, head, casm, centre, other, note, *_ = terminal_table.text(RESULTS).splitlines()
    assert head.split() == ["LE", "F1", "size", "entropy"]
    assert casm.split() == ["casm", "0.100*", "0.700*", "0.200", "0.000"]
    assert centre.split() == ["centre_box", "0.300", "0.700*", "0.500", "0.000"]
    assert other.split()[0] == "a_run_of_a_long_name"
    assert note == "* the best of its column"
    ends = [[match.end() for match in re.finditer(r"[\w.]+", line)] for line in (head, casm)]
    assert ends[0] == ends[1][1:]  # the columns are right of a long name, one below the other


def of_few(errors):
    """`RESULTS`, with the errors of LE's difference from CASM's, {method: number}."""
    own = {"standard_error": {"LE": 0.0512, "top1": 0.04}}
    results = {"casm": {**RESULTS["casm"], **own}}
    for name, error in errors.items():
        results[name] = {**RESULTS[name], **own, "standard_error_of_difference": {"LE": error}}
    return results


@pytest.mark.parametrize(
    ("errors", "standing"),
    [
        ({"centre_box": 0.19, "a_run_of_a_long_name": 0.09}, ("ahead", "a_run_of_a_long_name")),
        ({"centre_box": 0.19, "a_run_of_a_long_name": 0.11}, ("level", "a_run_of_a_long_name")),
        # The best other is clearly worse; the next is not.
        ({"centre_box": 0.21, "a_run_of_a_long_name": 0.09}, ("level", "centre_box")),
    ],
)
def test_what_is_within_the_standard_error_is_level(errors, standing):
    found = tables.standings(of_few(errors))
    # The others have no error.
    assert [(one, keys) for one, keys in found.items() if keys] == [
        (standing[0], {"LE": standing[1]})
    ]


def test_behind_is_what_some_other_is_clearly_ahead_in():
    own = {"standard_error": {"LE": 0.01}}
    others = {"a": (0.05, 0.06), "b": (0.06, 0.03), "c": (0.2, 0.01)}
    results = {"casm": {"LE": 0.1, **own}} | {
        name: {"LE": value, **own, "standard_error_of_difference": {"LE": error}}
        for name, (value, error) in others.items()
    }
    assert tables.standings(results)["behind"] == {"LE": "b"}


def test_standard_errors_are_below_and_behind_their_figures():
    results = of_few({"centre_box": 0.3})
    lines = terminal_table.text(results).splitlines()
    _, head, casm, below, centre, *_ = lines
    assert casm.split()[:2] == ["casm", "0.100*"] and centre.split()[0] == "centre_box"
    assert below.split() == ["±0.051"] and len(below) == head.index("LE") + len("LE")
    assert "± the standard error, as the pictures are few" in lines
    assert "top-1 0.900 ±0.040, before the alternation 0.800" in lines
    assert lines[-2].startswith("Level is what differs by no more than its standard error;")
    cells = re.findall(r"<td.*?</td>", tables.tables(results))
    unseen = '<span class="unseen"> best</span>'
    assert cells[0] == f'<td class="best">0.100{unseen} <span class="quiet">±0.051</span></td>'
    assert "±" not in terminal_table.text(RESULTS)
    assert "standard_error" not in tables.tables(results)


def test_the_measures_of_salient_objects_have_a_direction():
    better = {key: measure.better for key, measure in tables.MEASURES["Salient object"].items()}
    assert better.pop("MAE") == "lower"
    assert better == dict.fromkeys(("maxF", "S", "E", "IoU", "pixel_accuracy"), "higher")


def test_the_terminal_says_how_large_the_true_boxes_are():
    assert "true boxes" not in terminal_table.text(RESULTS)
    casm = {**RESULTS["casm"], "true_box_area": 0.4251}
    text = terminal_table.text({**RESULTS, "casm": casm})
    assert "\ntrue boxes cover 43% of a picture (median)\n" in text


def test_the_terminal_says_where_there_are_no_labels():
    casm = {key: value for key, value in RESULTS["casm"].items() if key != "top1_before"}
    assert "top-1 0.900, before the alternation 0.800" in terminal_table.text(RESULTS)
    text = terminal_table.text({**RESULTS, "casm": casm})
    assert "no labels: right is what the classifier said before the alternation; top-1 0.9" in text


def test_where_nothing_is_compared_nobody_is_ahead():
    text = terminal_table.text({"protocol": "squash", "casm": RESULTS["casm"]})
    assert "ahead" not in text and "*" not in text


def test_a_small_loss_is_not_printed_as_minus_zero():
    methods = {"a": {"saliency_metric": -0.0004}, "b": {"saliency_metric": 0.0004}}
    assert re.findall(r"<td.*?</td>", tables.tables(methods)) == ["<td>0.000</td>"] * 2
