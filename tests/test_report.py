"""The report: one whole file that needs nothing else, says all there is and nothing that is not."""

import json
import re
import shutil
import subprocess

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from report_page import Page

from casm_tf.evaluation import extremes
from casm_tf.report import figures, page, tables

DASH = "\N{EN DASH}"
RESULTS = {
    "protocol": "centre_crop",
    "casm": {"LE": 0.078, "OM": 0.1, "F1": 0.8064, "top1": 0.958, "mask_mean": 0.188, "new": 0.777},
    "centre_box": {"LE": 0.877, "OM": 0.879, "F1": 0.4815, "top1": 0.958, "mask_mean": 0.517},
    "grad_cam": {
        "LE": 0.3,
        "F1": 0.6,
        "PxAP": 0.7,
        "forward_passes": 2,
        "seconds_per_image": 0.01234,
    },
}
SCORED = {"dataset": "digit_scenes/full", "split": "test", "images": 1000}
THRESHOLDS = np.linspace(0, 1, 11)
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
MASKS = np.full((2, 32, 32), 0.5)
BOXES = np.array([[4, 4, 20, 24]])


def example(iou=0.5, f1=0.5, caption="3, classified as 8", predicted_box=(3, 5, 20, 25)):
    return extremes.Example(IMAGES[0], MASKS[0], BOXES, predicted_box, caption, f1, iou)


@pytest.fixture(scope="module")
def figure(tmp_path_factory):
    path = tmp_path_factory.mktemp("figure") / "figure.png"
    figures.pictures_and_masks(path, IMAGES, {"casm": MASKS}, [BOXES] * 2, ["3", "8"])
    return path


@pytest.fixture
def everything(figure):
    """All that a report may have."""
    methods = ("casm", "grad_cam")
    curve = (THRESHOLDS, THRESHOLDS**2)
    shares = {"top1": 0.9, "top1_masked_in": 0.8, "top1_masked_out": 0.3, "top1_inpainted": 0.2}
    return {
        "figure": figure,
        "threshold_curves": dict.fromkeys(methods, curve),
        "precision_recall": dict.fromkeys(methods, curve),
        "perturbation": {"casm": {"insertion": THRESHOLDS, "deletion": 1 - THRESHOLDS}},
        "classifiers": {name: {"resnet18": shares, "vgg": shares} for name in methods},
        "examples": [example(0.9), example(0.1)],
        "made": {"command": f"python -m something {'--flag=value ' * 30}", "seed": "0"},
    }


HEADINGS = {
    "figure": ["Some pictures and their masks"],
    "threshold_curves": ["Localization error by threshold"],
    "precision_recall": ["Precision and recall of pixels"],
    "perturbation": ["Insertion", "Deletion"],
    "classifiers": ["What classifiers still recognize"],
    "examples": ["Best and worst images"],
    "made": ["How this was made"],
}


def written(path, results=RESULTS, **arguments):
    page.write_report(path / "report.html", results, **{**SCORED, **arguments})
    text = (path / "report.html").read_text(encoding="utf-8")
    return Page(text), text


def test_all_is_there_in_order(tmp_path, everything):
    page, _ = written(tmp_path, **everything)
    given = [heading for headings in HEADINGS.values() for heading in headings]
    assert page.headings == ["CASM in short", given[0], "All methods", *given[1:]]
    assert [tag for tag, _ in page.tags].count("img") == 1 + 2
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object"})


@pytest.mark.parametrize("missing", HEADINGS)
def test_what_is_not_given_leaves_no_trace(tmp_path, everything, missing):
    everything.pop(missing)
    page, _ = written(tmp_path, **everything)
    given = [heading for name in everything for heading in HEADINGS[name] if name != "figure"]
    figure = HEADINGS["figure"] if "figure" in everything else []
    assert page.headings == ["CASM in short", *figure, "All methods", *given]


def test_the_results_alone_make_a_report(tmp_path):
    page, _ = written(tmp_path)
    assert page.headings == ["CASM in short", "All methods"]
    assert {"img", "figure", "svg"}.isdisjoint(tag for tag, _ in page.tags)


def test_only_one_half_of_a_perturbation_is_drawn_if_it_is_all(tmp_path):
    page, _ = written(tmp_path, perturbation={"casm": {"deletion": THRESHOLDS}})
    assert page.headings[2:] == ["Deletion"]


def test_nothing_is_loaded_from_elsewhere(tmp_path, everything):
    page, text = written(tmp_path, **everything)
    sources = [attrs[key] for _, attrs in page.tags for key in ("src", "href") if key in attrs]
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)
    assert "url(" not in text and "@import" not in text and "srcset" not in text


def test_it_is_made_for_phones_and_for_who_cannot_see(tmp_path, everything):
    page, _ = written(tmp_path, **everything)
    assert ("html", {"lang": "en"}) in page.tags
    viewport = {"name": "viewport", "content": "width=device-width, initial-scale=1"}
    assert ("meta", viewport) in page.tags
    for tag, attrs in page.tags:
        assert tag != "img" or attrs["alt"]
        assert tag != "th" or attrs["scope"] in ("row", "col")
        assert tag != "svg" or attrs.get("aria-label") or attrs.get("aria-hidden") == "true"


def test_every_number_is_in_a_table(tmp_path):
    page, _ = written(tmp_path)
    rows = {tuple(row) for row in page.rows}
    down, up = (f"\xa0{arrow}, {way} is better" for arrow, way in (("↓", "lower"), ("↑", "higher")))
    assert ("method", f"LE{down}", f"OM{down}", f"F1{up}", f"PxAP{up}") in rows
    assert ("CASM", "0.078 best", "0.100 best", "0.806 best", DASH) in rows
    assert ("centre box", "0.877", "0.879", "0.481", DASH) in rows
    assert ("Grad-CAM", "0.300", DASH, "0.600", "0.700") in rows
    # Who has none of a table's measures is not in it; only one value is not the best of any.
    assert {("method", "whole picture"), ("centre box", "0.958"), ("CASM", "0.188")} < rows
    assert ("Grad-CAM", "2", "12.3") in rows
    assert {("method", "new"), ("CASM", "0.777")} < rows  # a measure that is not known here


def test_the_headlines_are_casms(tmp_path):
    def headlines(casm):
        _, text = written(tmp_path, {"casm": casm, "centre_box": {"LE": 0.877}})
        return re.findall(r'<h3>(?:masked )?(\w+)</h3><p class="number">([\d.]+)</p>', text), text

    found, text = headlines({"LE": 0.078, "F1": 0.8, "OM": 0.1, "PxAP": 0.7})
    assert found == [("LE", "0.078"), ("F1", "0.800"), ("PxAP", "0.700")]
    found, _ = headlines({"LE": 0.078, "F1": 0.8, "OM": 0.1})
    assert found == [("LE", "0.078"), ("F1", "0.800"), ("OM", "0.100")]
    found, text = headlines({"top1": 0.9, "top1_masked_in": 0.8, "top1_masked_out": 0.3})
    assert found == [("in", "0.800"), ("out", "0.300")]
    assert "have no boxes" in text
    found, text = headlines({"new": 0.9})
    assert found == [] and "CASM in short" not in text


def test_all_that_comes_from_outside_is_escaped(tmp_path):
    bad = "<script>alert('x')</script>\"&"
    curve = {bad: (THRESHOLDS, THRESHOLDS)}
    page, text = written(
        tmp_path,
        {"protocol": bad, "casm": {bad: 0.5, "LE": 0.1}, bad: {"LE": 0.05}},
        dataset=bad,
        split=bad,
        threshold_curves=curve,
        precision_recall=curve,
        perturbation={bad: {"insertion": THRESHOLDS}},
        classifiers={bad: {bad: {"top1": 0.5}}},
        examples=[example(caption=bad)],
        made={bad: bad, "command": bad},
    )
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script" not in text
    assert sum(bad in words for words in page.words) >= 10


def test_best_and_worst_images(tmp_path):
    examples = [example(iou, f1) for iou, f1 in ((0.5, 0.2), (0.9, 0.1), (0.5, 0.3))]
    examples.append(example(0.0, 0.0, predicted_box=None))
    page, _ = written(tmp_path, examples=examples)
    alts = [attrs["alt"] for tag, attrs in page.tags if tag == "img"]
    image = "A picture and its mask: 3, classified as 8;"
    assert alts == [
        f"{image} IoU 0.900, F1 0.100",
        f"{image} IoU 0.500, F1 0.300",
        f"{image} IoU 0.000, F1 0.000, no box",
        f"{image} IoU 0.500, F1 0.200",
    ]
    page, _ = written(tmp_path, examples=[example()])
    assert "Best" in page.words and "Worst" not in page.words


@hypothesis.given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=60), st.integers(1, 20)
)
def test_extremes_do_not_depend_on_batches(scores, batch):
    examples = [example(iou / 4, f1 / 4) for iou, f1 in scores]
    kept = []
    for start in range(0, len(examples), batch):
        kept = extremes.extremes(kept + examples[start : start + batch])
    assert kept == extremes.extremes(examples)
    found = [(4 * one.iou, 4 * one.f1) for one in kept]
    expected = sorted(scores, reverse=True)
    assert found == (expected if len(scores) <= 16 else expected[:8] + expected[-8:])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "0.5"])
def test_a_report_with_a_hole_is_refused(tmp_path, value):
    results = {**RESULTS, "centre_box": {"LE": value}}
    with pytest.raises(ValueError, match="centre_box, LE: a finite number"):
        written(tmp_path, results)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"results": {"full_image": {"LE": 1.0}}}, "'casm'; found full_image"),
        ({"results": {"casm": 0.5}}, "casm: a method has"),
        ({"threshold_curves": {"casm": (THRESHOLDS, THRESHOLDS * np.nan)}}, "CASM: a curve of LE"),
        ({"precision_recall": {"casm": THRESHOLDS}}, r"found \(11,\)"),
        ({"perturbation": {"casm": {"deletion": THRESHOLDS - 1}}}, "not negative"),
        ({"classifiers": {"casm": {"vgg": {"top1": float("nan")}}}}, "vgg, whole picture: a share"),
        ({"figure": b"GIF89a"}, "the figure is a PNG"),
    ],
)
def test_what_cannot_be_drawn_leaves_no_file(tmp_path, arguments, message):
    (tmp_path / "report.html").write_text("the one before")
    with pytest.raises(ValueError, match=message):
        written(tmp_path, **arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "the one before"


def test_scores_of_examples_are_shares():
    with pytest.raises(ValueError, match=r"in \[0, 1\]; found 0.5 and nan"):
        example(iou=float("nan"))


def test_nothing_is_wider_than_the_window(tmp_path, everything):
    browsers = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, browsers)), None)
    if browser is None:
        pytest.skip(f"there is none of {', '.join(browsers)}")
    long = "a_method_with_a_rather_long_name"
    everything["classifiers"] |= {"x" * 60: {"y" * 80: {"top1": 1.0}}}
    everything["examples"].append(example(caption="z" * 90))
    everything["threshold_curves"] |= {long * 2: (THRESHOLDS, THRESHOLDS)}
    measures = {key: 0.5 for group in tables.MEASURES.values() for key in group}
    results = {**RESULTS, long: measures}
    _, text = written(tmp_path, results, dataset="t" * 80, **everything)
    measuring = """<script>
      addEventListener("load", () => {
        const root = document.documentElement, images = [...document.images];
        parent.postMessage(JSON.stringify({
          width: innerWidth, page: root.scrollWidth, images: images.length,
          decoded: images.filter((image) => image.naturalWidth > 0).length,
          scrolling: [...document.querySelectorAll(".scroll")].filter(
            (box) => box.scrollWidth > box.clientWidth).length}), "*");
      });</script></body>"""
    (tmp_path / "measuring.html").write_text(text.replace("</body>", measuring), encoding="utf-8")
    # In frames: Chromium's own window is 500 wide at least.
    (tmp_path / "windows.html").write_text(
        """<pre></pre><script>
          addEventListener("message", (event) => {
            document.querySelector("pre").textContent += event.data + "\\n";
          });</script>
        <iframe src="measuring.html" style="width: 390px; height: 1000px; border: 0"></iframe>
        <iframe src="measuring.html" style="width: 1280px; height: 1000px; border: 0"></iframe>"""
    )
    command = [browser, "--headless", "--no-sandbox", "--hide-scrollbars", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "windows.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    lines = re.search(r"<pre>(.*?)</pre>", done.stdout, re.DOTALL)[1].split("\n")[:-1]
    found = {line["width"]: line for line in map(json.loads, lines)}
    assert found.keys() == {390, 1280}
    for width, frame in found.items():
        assert frame["page"] <= width
        assert frame["decoded"] == frame["images"] == 4
    assert found[390]["scrolling"]  # wide tables are not squeezed
