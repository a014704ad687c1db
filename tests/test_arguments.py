"""What programs are called with: addresses where paths belong, flagfiles, texts, home folders."""

import pytest
from programs import ROOT, SMALL, assert_refused, call
from trees import write_tree

from casm_tf.cli import flagfiles
from casm_tf.data import datasets
from casm_tf.serving.mask_model import MaskModel

# A flag or an argument of each program that takes one: {program: [arguments]}.
ADDRESSES = {
    "casm_tf.train": [
        "--run_dir=gs://bucket/run",
        "--run_dir=r --data_dir=s3://bucket/data",
        "--run_dir=r --masks=file:///masks",
        "--run_dir=r --classes=https://host/classes.txt",
        "--run_dir=r --flagfile=gs://bucket/casm.flags",
    ],
    "casm_tf.extract": [
        "--model=gs://bucket/1 a.jpg",
        "--output=gs://b a.jpg",
        "https://host/a.jpg",
    ],
    "casm_tf.convert": ["--weights=gs://b/a.pth --output=a", "--weights=a --output=gs://b/a"],
    "casm_tf.demo": ["--output=gs://bucket/masks"],
    "components.example_gen": ["--examples=gs://b/e --statistics=s --schema=s"],
    "components.trainer": ["--examples=e --run_dir=r -- --classes=gs://bucket/classes"],
    "components.evaluator": [
        "--run_dir=r --runs=a,gs://b/c",
        "--run_dir=r --classifiers=plain:gs://b",
    ],
    "components.pusher": ["--model=m --serving_dir=gs://b", "--model=m --pushed_model=gs://b/link"],
    "components.infra_validator": ["--run_dir=r --model=gs://b/m --blessing=b"],
    "components.pipeline": [
        "--pipeline_root=gs://bucket/root",
        "--trainer=--run_dir=gs://bucket/r",
    ],
    "components.lineage": ["gs://bucket/artefact"],
    "components.classifiers": ["--output_dir=gs://bucket/classifiers"],
}


@pytest.mark.parametrize("program", ADDRESSES)
def test_an_address_is_refused_where_a_path_belongs(program, tmp_path):
    for line in ADDRESSES[program]:
        done = call(program, *line.split(), cwd=tmp_path)
        assert_refused(done, " is no path of this machine; mount or copy what is there")
        assert not list(tmp_path.iterdir())


def test_the_embedded_photographs_too_may_be_too_large(tmp_path):
    paths = ("--examples=e", "--statistics=s", "--schema=s")
    done = call("components.example_gen", "--max_pixels=9", *paths, cwd=tmp_path)
    assert_refused(done, "--max_pixels: Image size (273280 pixels)")


def test_a_models_address_is_a_servers():
    with pytest.raises(ValueError, match="gs://bucket/1 is no path of this machine"):
        MaskModel.load("gs://bucket/1")


def test_data_need_a_home_folder_or_a_data_dir(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.tfds.core.constants, "DATA_DIR", "~/tensorflow_datasets")
    with pytest.raises(OSError, match="there is no home directory"):
        datasets.open_dataset("digit_scenes/tiny")
    monkeypatch.setattr(datasets.tfds.core.constants, "DATA_DIR", "gs://bucket/data")
    with pytest.raises(OSError, match="gs://bucket/data is no path of this machine"):
        datasets.open_dataset("digit_scenes/tiny")


def test_a_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    given = ["--run_dir=~/r", "--data_dir=~", "--trainer=--data_dir=~/d", "--a=~b", "--b=a~/c"]
    assert flagfiles.expanded(given) == [
        *("--run_dir=/home/someone/r", "--data_dir=/home/someone"),
        *("--trainer=--data_dir=/home/someone/d", "--a=~b", "--b=a~/c"),
    ]


def test_a_flagfile_finds_another_beside_it(tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "a.flags").write_text(
        "# a comment\n--steps=1\n\n--flagfile=more/b.flags\n--trainer=--flagfile=more/c.flags\n"
    )
    (tmp_path / "more" / "b.flags").write_bytes("\ufeff--flagfile=c.flags\r\n--seed=2\r\n".encode())
    (tmp_path / "more" / "c.flags").write_text("  --name=a b\n// another comment\n")
    given = [f"--flagfile={tmp_path / 'a.flags'}", "--seed=3", "--", "--flagfile=d"]
    assert flagfiles.expanded(given) == [
        *("--steps=1", "--name=a b", "--seed=2"),
        f"--trainer=--flagfile={tmp_path / 'more' / 'c.flags'}",
        *("--seed=3", "--", "--flagfile=d"),
    ]
    assert flagfiles.expanded(["--flagfile", tmp_path / "more" / "c.flags"]) == ["--name=a b"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "No such file or directory: "),
        (b"--flagfile=b.flags\n", "/b.flags'"),
        (b"--flagfile=../tmp/a.flags\n", "a.flags names itself"),
        ("--image_dir=caf\u00e9\n".encode("latin-1"), "a.flags: expected text in UTF-8; "),
    ],
)
def test_a_flagfile_that_cannot_be_read_is_named(text, expected, tmp_path):
    path = tmp_path / "tmp" / "a.flags"
    path.parent.mkdir()
    if text is not None:
        path.write_bytes(text)
    assert_refused(call("casm_tf.train", f"--flagfile={path}"), expected)


@pytest.mark.parametrize(("program", "name"), [("train", "f_tuned"), ("pipeline", "pipeline")])
def test_a_flagfile_can_be_given_from_another_folder(program, name, tmp_path):
    module = {"train": "casm_tf.train", "pipeline": "components.pipeline"}[program]
    last = {"train": "--run_dir", "pipeline": "--pipeline_root"}[program]
    flagfile = f"--flagfile={ROOT / 'configs' / name}.flags"
    # Refused for the last flag, after all others were parsed.
    assert_refused(call(module, flagfile, f"{last}=/dev/null/x", cwd=tmp_path), f"{last}: ")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("\ufeff3\r\n5\r\n".encode(), "--batch_size: 1000"),
        ("3\n\u00e9\n".encode("latin-1"), "--classes: {}: expected text in UTF-8; "),
        ("3\n5\n".encode("utf-16"), "--classes: {}: expected text in UTF-8; "),
    ],
    ids=["byte-order mark", "latin-1", "utf-16"],
)
def test_a_list_of_classes_is_in_utf_8(data, expected, tiny_data_dir, tmp_path):
    path = tmp_path / "classes.txt"
    path.write_bytes(data)
    where = (f"--data_dir={tiny_data_dir}", f"--classes={path}", "--batch_size=1000")
    done = call("casm_tf.train", *SMALL, *where, f"--run_dir={tmp_path / 'run'}")
    assert_refused(done, expected.format(path))


def test_what_is_written_does_not_lie_among_the_pictures(tmp_path):
    write_tree(tmp_path / "tree", count=1)
    for flag in ("run_dir", "data_dir"):
        where = {"run_dir": "run", "data_dir": "data", flag: "tree/x"}
        options = [f"--{name}={path}" for name, path in where.items()]
        given = ("--dataset=image_folder", "--image_dir=tree", *options)
        done = call("casm_tf.train", *given, cwd=tmp_path)
        assert_refused(done, "dir: tree/x lies in ")
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]
