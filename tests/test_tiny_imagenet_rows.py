"""benchmarks.tiny_imagenet: halves and tables by hand, and the program, mostly without training."""

import functools
import json
import pathlib

import numpy as np
import programs
import pytest
import trees

from benchmarks import half_scores
from casm_tf import networks, pretrained
from casm_tf.data import datasets, tiny_imagenet

SIZE = 32
SCORED = 7
UNTRAINED = ("photographs", "cam", "grad_cam", "centre_box", "full_image")


@pytest.fixture(scope="module")
def folder(made_once):
    """All 200 classes in tiny_imagenet's layout, a picture each, some to be scored; weights."""

    def make(folder):
        root = folder / "downloads" / "manual" / "tiny-imagenet-200"
        for number, (wnid, _) in enumerate(tiny_imagenet._CLASSES):
            name = f"{wnid}_0.JPEG"
            trees.write(root / "train" / wnid / "images" / name, trees.picture(number, 64, 64))
            (root / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{name}\t0\t10\t63\t58\n")
        lines = ""
        for number in range(SCORED):
            trees.write(root / "val" / "images" / f"{number}.JPEG", trees.picture(number, 64, 64))
            wnid = tiny_imagenet._CLASSES[number][0]
            lines += f"{number}.JPEG\t{wnid}\t8\t8\t{40 + number}\t55\n"
        (root / "val" / "val_annotations.txt").write_text(lines)
        datasets.open_dataset("tiny_imagenet", folder)
        for classes in (200, 1000, 10):
            model = networks.classifier("small_resnet", SIZE, classes)
            model.save_weights(folder / f"{classes}.weights.h5")

    return made_once("tiny_imagenet", make)


def program_without_training(*arguments):
    """The program, whose runs have untrained networks; it says what they were to be."""
    from benchmarks import runs

    def model_of(run_dir, given):
        print("run", json.dumps([pathlib.Path(run_dir).name, given], default=str))
        classifier = networks.classifier("small_resnet", SIZE, 200)
        decoder = networks.decoder(networks.map_shapes(classifier), SIZE, 4)
        return networks.mask_model(classifier, decoder)

    runs.model_of = model_of
    programs.run_module("benchmarks.tiny_imagenet", *arguments)


def call(folder, runs_dir, *arguments, weights=200, run=None):
    """The call with the flags of small runs; `run` starts it, by default without training."""
    run = run or functools.partial(programs.fork, program_without_training)
    return run(
        *(f"--data_dir={folder}", f"--classifier_weights={folder}/{weights}.weights.h5"),
        *("--classifier=small_resnet", f"--image_size={SIZE}", f"--runs_dir={runs_dir}"),
        *arguments,
        eager=True,
    )


def told(done):
    """{run's name: its flags} of the runs that were to be made, and the last line."""
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    made = [json.loads(line[4:]) for line in lines if line.startswith("run ")]
    return dict(made), json.loads(lines[-1])


def test_every_picture_is_in_one_of_the_halves_whatever_the_batches():
    for sizes in ([8], [3, 3, 2], [1] * 8):
        found, first = {"choice": [], "report": []}, 0
        for count in sizes:
            for half, places in half_scores.halves(first, count).items():
                found[half] += (first + places).tolist()
            first += count
        assert found == {"choice": [0, 2, 4, 6], "report": [1, 3, 5, 7]}


def test_the_choice_is_by_the_half_that_is_not_reported():
    scores = {
        "a": {"choice": {"LE": 0.5}, "report": {"LE": 0.1}},
        "b": {"choice": {"LE": 0.4}, "report": {"LE": 0.9}},
        "c": {"choice": {"LE": 0.4}, "report": {"LE": 0.2}},
    }
    assert half_scores.lowest(scores) == "b"


def test_the_table_has_means_and_deviations_over_seeds():
    keys = ("LE", "OM", "F1", "MaxBoxAccV2", "mask_mean", "top1")
    one, other = ({"report": dict.fromkeys(keys, value)} for value in (0.25, 0.75))
    results = {"F": half_scores.by_measure([one, other]), "cam": half_scores.by_measure([one])}
    assert results["F"]["OM"] == [0.25, 0.75]
    head, several, single = half_scores.table(results)
    assert head.split() == list(keys)
    assert several.split() == ["F", *["0.500", "+-", "0.354"] * 6]
    assert single.split() == ["cam", *["0.250"] * 6]
    assert single.index("0.250") == several.index("0.500")


def test_the_rows_their_runs_and_what_is_kept(folder, tmp_path):
    def again(*arguments):
        common = ("--f_lambdas=7.50", "--steps=90", "--extra=smoothing=1")
        return call(folder, tmp_path, *common, *arguments)

    made, last = told(again("--seeds=0,1", "--rows=F,masked_in", "--lambda_size=9"))
    tuned = last["chosen"]["F_tuned"]
    others = {"original": set(), "size": {"F_size_seed1"}, "7.50": {"F_7.5_seed1"}}[tuned]
    names = {"F_original_seed0", "F_original_seed1", "F_7.5_seed0", "F_size_seed0"} | others
    assert set(made) == names | {"masked_in_9_seed0", "masked_in_9_seed1"}
    own = ("thinning", "lambda_size", "mask_size", "masked_in_weight", "seed")
    assert [made["F_original_seed1"][key] for key in own] == ["F", None, None, None, "1"]
    assert [made["F_7.5_seed0"][key] for key in own] == ["F", "7.50", None, None, "0"]
    assert [made["F_size_seed0"][key] for key in own] == ["F", "2.5", "0.5", None, "0"]
    assert [made["masked_in_9_seed1"][key] for key in own] == ["L3", 9.0, None, 0.067, "1"]
    common = ("decay_every", "validate_every", "smoothing", "classifier", "flip", "batch_size")
    expected = ["60", "90", "1", "small_resnet", "true", "128"]
    assert [made["F_original_seed0"][key] for key in common] == expected
    assert list(last["rows"]) == [*("F", "F_tuned", "masked_in", *UNTRAINED)]
    for row, values in last["rows"].items():
        count = 1 if row in UNTRAINED else 2
        assert all(len(figures) == count for figures in values.values())
    # The boxes, of the middle 33 to 39 pixels of 64 in width and of 48 in height, fill a half.
    assert last["rows"]["full_image"]["LE"] == [1.0] and last["rows"]["centre_box"]["LE"] == [0.0]
    assert 0.5 <= last["chosen"]["centre_box"] <= 0.95

    # What is there is not made or scored again.
    made, more = told(again("--seeds=0,1", "--rows=F,L100"))
    assert {name: of["thinning"] for name, of in made.items()} == {
        "L100_size_seed0": "L3",
        "L100_size_seed1": "L3",
    }
    del more["rows"]["L100"], last["rows"]["masked_in"]
    assert more == last

    refused = again("--extra=smoothing=2")
    programs.assert_refused(refused, "holds a run with --smoothing=1; found 2")


def head_of_imagenet(folder, path):
    """Say how far the 200 logits are from those of the whole head, by the names of classes."""
    names = pretrained.imagenet_labels()
    whole = networks.classifier("small_resnet", SIZE, 1000)
    whole.load_weights(folder / "1000.weights.h5")
    part = networks.classifier("small_resnet", SIZE, 200)
    part.load_weights(path)
    images = np.random.default_rng(0).normal(size=(2, SIZE, SIZE, 3)).astype(np.float32)
    numbers = [
        next(i for i, name in enumerate(names) if name in (label, f"{label} (machine)"))
        for _, label in tiny_imagenet._CLASSES
    ]
    difference = whole(images)["logits"].numpy()[:, numbers] - part(images)["logits"].numpy()
    return np.abs(difference).max(), numbers


def test_of_imagenets_classifiers_the_rows_of_the_200_classes_are_taken(folder, tmp_path):
    done = call(folder, tmp_path, "--rows=", weights=1000)
    assert set(told(done)[1]["rows"]) == set(UNTRAINED)
    difference, numbers = head_of_imagenet(folder, tmp_path / "classifier.weights.h5")
    assert difference < 1e-5
    # Both lists are in the order of WordNet's numbers.
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--rows=L100,M", "expected any of L100, L, F, masked_in"),
        ("--seeds=", "expected one seed or more"),
        ("--f_lambdas=a", "expected numbers from 0"),
        ("--extra=flip", "as name=value"),
    ],
)
def test_a_slip_in_a_list_is_a_users_mistake(folder, tmp_path, flag, expected):
    programs.assert_refused(call(folder, tmp_path / "runs", flag), expected)
    assert not (tmp_path / "runs").exists()


def test_weights_of_other_classes_are_refused(folder, tmp_path):
    done = call(folder, tmp_path / "runs", weights=10)
    programs.assert_refused(done, "--classifier_weights: expected weights for 200 or 1000 classes;")
    assert not (tmp_path / "runs").exists()


@pytest.mark.long
def test_the_program_trains_and_resumes(folder, tmp_path):
    run = functools.partial(programs.call, "benchmarks.tiny_imagenet")
    small = ("--steps=2", "--batch_size=8", "--rows=L100", "--extra=decoder_channels=4")
    # A slip that the training refuses does not bind the next call.
    refused = call(folder, tmp_path, *small[:3], "--extra=decoder_channels=0", run=run)
    assert refused.returncode == 2 and "failed" in refused.stderr
    done = call(folder, tmp_path, *small, run=run)
    assert set(told(done)[1]["rows"]) == {"L100", *UNTRAINED}
    trained = json.loads((tmp_path / "L100_original_seed0" / "run.json").read_text())["flags"]
    assert [trained[key] for key in ("thinning", "steps", "decoder_channels")] == ["L1", 2, 4]
    model = tmp_path / "L100_original_seed0" / "model.keras"
    model.unlink()
    assert told(call(folder, tmp_path, *small, run=run)) == told(done)
    assert not model.exists()
    (tmp_path / "L100_original_seed0" / "scores.json").unlink()
    assert told(call(folder, tmp_path, *small, run=run)) == told(done)
