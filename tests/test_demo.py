"""The demonstration, as a program, and the shipped model's masks of known photographs."""

import numpy as np
import programs
import pytest
import skimage.data
from PIL import Image

from casm_tf import demo, pretrained
from casm_tf.serving import mask_model

CATS = {"tabby", "tiger cat", "Egyptian cat", "Persian cat", "Siamese cat", "lynx"}


@pytest.fixture(scope="module")
def masks():
    """{photograph's name: its mask}."""
    paths = demo.photographs()
    found = mask_model.MaskModel.load()(paths)
    return {path.stem: mask for path, mask in zip(paths, found, strict=True)}


def test_the_demonstration_leaves_three_files_a_photograph_and_all_side_by_side(tmp_path):
    done = programs.call("casm_tf.demo", f"--output={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.iterdir())) == 3 * 7 + 1
    assert Image.open(tmp_path / "photographs.png").size == (1400, 600)


def test_the_shipped_model_knows_the_cat_and_where_it_is(masks):
    cat = masks["chelsea"]
    assert cat.label in CATS
    height, width = cat.mask.shape
    assert (height, width) == (300, 451)
    assert cat.mask[100:200, 150:300].mean() > 0.9  # its face


@pytest.mark.xfail(strict=True, reason="0.36 since the second stage learns from seven sets")
def test_the_shipped_model_leaves_out_the_wall_behind_the_cat(masks):
    assert masks["chelsea"].mask[:60, :60].mean() < 0.3


def test_the_shipped_model_finds_the_astronaut_not_the_flag(masks):
    mask = masks["astronaut"].mask
    assert mask.shape == (512, 512)
    assert mask[80:200, 180:270].mean() > 0.8  # her face
    assert mask[:200, 20:100].mean() < 0.5


def test_no_mask_of_the_shipped_model_is_empty_or_everything(masks):
    means = {name: float(np.mean(mask.mask)) for name, mask in masks.items()}
    assert all(0.03 < mean < 0.9 for mean in means.values()), means
    assert all(mask.box for mask in masks.values())


def test_the_shipped_model_is_small_and_takes_larger_images(masks):
    size = sum(path.stat().st_size for path in pretrained.MODEL.rglob("*") if path.is_file())
    assert size < 12e6
    cat = masks["chelsea"]
    assert "cat" in cat.label
    assert cat.mask[100:200, 100:300].mean() > 0.9
    larger = mask_model.MaskModel.load(image_size=448)
    assert larger(skimage.data.chelsea()).mask.shape == (300, 451)


def test_the_shipped_model_is_sure_of_the_cat(masks):
    assert masks["chelsea"].probability > 0.5
