"""What a report says to who sees it for the first time: of what it is, who wins, what is what."""

import re

import pytest
from report_page import Page

from casm_tf.report import page

METHODS = {
    "casm": {"LE": 0.2, "F1": 0.7, "PxAP": 0.5, "saliency_metric": 0.681, "mask_mean": 0.3},
    "centre_box": {"LE": 0.3, "F1": 0.7, "PxAP": 0.4, "saliency_metric": 0.07, "mask_mean": 0.5},
    "cam": {"LE": 0.4, "F1": 0.1, "PxAP": 0.45, "saliency_metric": 0.6, "mask_mean": 0.2},
}


def written(path, results=METHODS, dataset="raccoons (image_folder)", images=120, **arguments):
    scored = {"dataset": dataset, "split": "test", "images": images}
    page.write_report(path / "report.html", results, **scored, **arguments)
    text = (path / "report.html").read_text(encoding="utf-8")
    return Page(text), " ".join(" ".join(Page(text).words).split())


def test_the_title_says_what_was_scored(tmp_path):
    text = (written(tmp_path), (tmp_path / "report.html").read_text())[1]
    title = "Masks of raccoons (image_folder), split test: 120 pictures"
    assert f"<title>{title}</title>" in text and f"<h1>{title}</h1>" in text
    assert "split test: 1 picture " in written(tmp_path, images=1)[1]
    assert "1,000 pictures" in written(tmp_path, images=1000)[1]


@pytest.mark.parametrize(
    "protocol, said",
    [
        ("squash", "Of each picture all is seen, made square (protocol squash)."),
        ("centre_crop, resize 40", "Of each picture the square in its middle is seen (protocol"),
    ],
)
def test_what_is_seen_of_a_picture_is_told_in_words(tmp_path, protocol, said):
    assert said in written(tmp_path, {"protocol": protocol, **METHODS})[1]


def test_what_is_of_the_data_or_the_run_is_said_and_in_no_table(tmp_path):
    casm = {**METHODS["casm"], "true_box_area": 0.43, "top1": 0.9, "top1_before": 0.95}
    found, words = written(tmp_path, {**METHODS, "casm": casm})
    assert "True boxes cover 43% of a picture (median)." in words
    assert "right on 0.900 of the pictures, and was on 0.950 before" in words
    assert not [row for row in found.rows if "0.430" in row or "0.950" in row]
    casm.pop("true_box_area"), casm.pop("top1_before")
    words = written(tmp_path, {**METHODS, "casm": casm})[1]
    assert "True boxes" not in words
    assert "have no labels: a class is right where it is what the classifier said" in words


def test_it_says_what_casm_wins_and_what_it_loses(tmp_path):
    words = written(tmp_path)[1]
    assert "Ahead of all others in 2 of 4 measures: LE (0.200; centre box 0.300), PxAP" in words
    assert "Level with the best other in 1: F1 (0.700; centre box 0.700)." in words
    assert "Behind in 1: saliency metric (0.681; centre box 0.070)." in words
    alone = written(tmp_path, {"casm": METHODS["casm"]})[1]
    assert "Ahead" not in alone and "Behind" not in alone


def test_it_says_what_a_standard_error_is_where_pictures_are_few(tmp_path):
    casm, centre = ({**METHODS[n], "standard_error": {"LE": 0.04}} for n in ("casm", "centre_box"))
    centre["standard_error_of_difference"] = {"LE": 0.15}
    words = written(tmp_path, {"casm": casm, "centre_box": centre})[1]
    assert "Behind a mean is its standard error" in words and "0.200 best ±0.040" in words
    assert "Level with the best other in 1 of 1 measures: LE (0.200; centre box 0.300)." in words
    assert "standard error" not in written(tmp_path)[1]
    centre["standard_error_of_difference"] = {"LE": float("nan")}
    with pytest.raises(ValueError, match="centre_box, standard_error_of_difference: a finite"):
        written(tmp_path, {"casm": casm, "centre_box": centre})


def test_a_card_has_the_best_other_and_a_box_in_the_middle(tmp_path):
    words = written(tmp_path)[1]
    assert words.count("The best other: centre box 0.300") == 1  # LE
    assert "The best other: CAM 0.450 A trivial one: centre box 0.400" in words  # PxAP
    assert words.count("A trivial one") == 1


def test_every_number_with_a_direction_says_it(tmp_path):
    found, _ = written(tmp_path)
    text = (tmp_path / "report.html").read_text()
    cards = re.findall(r"<div><h3>.*?</div>", text)
    assert len(cards) == 3 and all(re.search("(Lower|Higher) is better", card) for card in cards)
    heads = [cell for row in found.rows for cell in row if "better" in cell]
    assert len(heads) == 4  # without the mask's size, where no way is better


def test_methods_are_explained(tmp_path):
    results = {**METHODS, "other": METHODS["cam"]}
    words = written(tmp_path, results)[1]
    assert words.count("a box in the middle, of half the picture's area") == 1
    assert "other another run" in words and "SmoothGrad" not in words


def test_a_figure_is_told_by_what_it_shows_and_not_by_its_number_in_the_paper(tmp_path):
    png = b"\x89PNG"
    bars = {"casm": {"vgg": {"top1": 0.5}}}
    names = ["\N{HANGUL SYLLABLE HAN} & co", "cat"]  # Matplotlib's typeface lacks the first
    _, words = written(tmp_path, figure=png, captions=names, classifiers=bars)
    assert "The rows: \N{HANGUL SYLLABLE HAN} & co; cat." in words
    assert "the paper" not in words.replace("as the paper writes", "")
    assert "A row a picture." in words


def test_a_report_of_the_same_has_the_same_bytes(tmp_path):
    reports = []
    for _ in range(2):
        written(tmp_path, captions=["cat"], figure=b"\x89PNG", made={"seed": "0"})
        reports.append((tmp_path / "report.html").read_bytes())
    assert reports[0] == reports[1]
