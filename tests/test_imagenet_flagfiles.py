"""configs/imagenet/: what each says, and runs of two steps on a tiny tree of the same shape."""

import json

import programs
import pytest
from absl import flags
from programs import ROOT
from trees import write_tree, xml

from casm_tf import objectives
from casm_tf.cli import flagfiles

FLAGFILES = sorted(
    set(ROOT.glob("configs/imagenet/*.flags")) - {ROOT / "configs/imagenet/base.flags"}
)
SHORT = ("--batch_size=4", "--steps=2", "--pretraining_steps=1")


def parse(*paths):
    """Print a line of JSON for each flagfile: the training's flags."""
    import casm_tf.train  # noqa: F401  (its flags)

    for path in paths:
        flags.FLAGS.unparse_flags()
        for name in flags.FLAGS:
            flags.FLAGS[name].unparse()
        flags.FLAGS(["train", *flagfiles.expanded([f"--flagfile={path}"])])
        print(json.dumps(flags.FLAGS.flag_values_dict(), default=str))


def call(module, *arguments, **options):
    done = programs.call(module, *arguments, **options)
    assert done.returncode == 0, done.stderr


def test_every_flagfile_is_understood_and_has_the_originals_numbers():
    done = programs.fork(parse, *FLAGFILES)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(FLAGFILES) == 11
    seen = set()
    for path, line in zip(FLAGFILES, lines, strict=True):
        found = json.loads(line)
        thinning, score, *rest = path.stem.split("_")
        assert found["thinning"] == thinning.upper()
        assert found["score"] == {"e": "entropy", "c": "classification"}[score]
        assert found["shared_encoder"] == (rest != ["separate"])
        expected = objectives.original_lambda(found["score"], found["thinning"], 1000)
        assert found["lambda_size"] == pytest.approx(expected)
        assert (found["steps"], found["decay_every"], found["batch_size"]) == (120_120, 40_040, 128)
        assert found["smallest_crop"] == 0.08
        assert found["flip"]
        seen.add((found["thinning"], found["score"], found["shared_encoder"]))
        head = path.read_text().split("\n--")[0]
        for part in (f"configs/imagenet/{path.name}", "Published: ", "an estimate"):
            assert part in head
    assert len(seen) == 11


@pytest.fixture
def tree(tmp_path):
    """The flags of a tiny ImageNet, two of its pictures with boxes."""
    write_tree(tmp_path / "imagenet", classes=("n01440764", "n01443537"), count=4)
    voc = tmp_path / "imagenet" / "Annotations" / "CLS-LOC"
    (voc / "val").mkdir(parents=True)
    for number, boxes in enumerate([[(10, 5, 40, 35)], [(0, 0, 20, 20), (30, 5, 59, 41)]]):
        text = xml(boxes, "n01440764", size=None)
        (voc / "val" / f"n01440764_val_{number}.xml").write_text(text)
    return (
        *(f"--image_dir={tmp_path / 'imagenet'}", f"--boxes={voc}"),
        *(f"--data_dir={tmp_path / 'data'}", f"--run_dir={tmp_path / 'run'}"),
    )


@pytest.mark.long
@pytest.mark.parametrize("name", ["l100_e_separate", "f_c"])
def test_a_flagfile_runs_and_is_scored(name, tree, tmp_path):
    small = ("--image_size=32", "--classifier=small_resnet")
    call(
        "casm_tf.train",
        f"--flagfile=configs/imagenet/{name}.flags",
        *SHORT,
        *small,
        *tree,
        eager=True,
    )
    run_dir = tmp_path / "run"
    evaluator = ("components.evaluator", f"--run_dir={run_dir}", "--split=validation")
    evaluator += ("--compared=full_image",)
    call(*evaluator, "--protocol=squash")
    results = json.loads((run_dir / "evaluation.json").read_text())
    assert results.pop("protocol") == "squash"
    assert results.pop("split") == "validation"
    assert all(0 <= value <= 1 for values in results.values() for value in values.values())
    assert results["full_image"]["LE"] in (0, 0.5, 1)  # of two pictures with boxes
    assert results["casm"]["top1"] in [count / 8 for count in range(9)]
    if name == "f_c":
        call(*evaluator, "--resize=40")
        results = json.loads((run_dir / "evaluation.json").read_text())
        assert results["protocol"] == "centre_crop, resize 40"
        assert (run_dir / "figure.png").exists()


@pytest.mark.long
@pytest.mark.parametrize("path", FLAGFILES, ids=lambda path: path.stem)
def test_two_steps_with_its_own_networks(path, tree, tmp_path):
    call("casm_tf.train", f"--flagfile={path}", *SHORT, *tree)
    flags = json.loads((tmp_path / "run" / "run.json").read_text())["flags"]
    assert (flags["classifier"], flags["image_size"], flags["steps"]) == ("resnet50", 224, 2)
    assert (tmp_path / "run" / "model.keras").stat().st_size > 90e6  # ResNet-50's weights and more
