"""The pictures: what is masked and filled, and that a figure is whole or not there."""

import pathlib

import cv2
import numpy as np
import pytest

from casm_tf import figures

random = np.random.default_rng(0)
IMAGES = random.integers(0, 256, (3, 32, 24, 3), np.uint8)
MASKS = np.zeros((3, 32, 24), np.float32)
MASKS[0, 8:20, 4:12] = 0.9
MASKS[1, 5:9, 5:9] = 1.0
BOXES = [
    np.array([[4, 8, 12, 20]]),
    np.array([[0, 0, 9, 9], [5, 5, 9, 9]]),
    np.array([[1, 1, 5, 5]]),
]


def test_masked_in_and_masked_out_make_the_image():
    binary = MASKS[0] > 0.5
    masked_in, masked_out = (
        figures.masked_in(IMAGES[0], binary),
        figures.masked_out(IMAGES[0], binary),
    )
    assert np.array_equal(masked_in + masked_out, IMAGES[0])
    assert not masked_in[~binary].any()
    assert not masked_out[binary].any()


def test_inpainting_changes_what_is_masked_alone():
    binary = MASKS[0] > 0.5
    filled = figures.inpainted(IMAGES[0], binary)
    assert np.array_equal(filled[~binary], IMAGES[0][~binary])
    assert not np.array_equal(filled[binary], IMAGES[0][binary])


def test_inpainting_fills_a_plain_image_with_its_colour():
    plain = np.full((32, 24, 3), 77, np.uint8)
    filled = figures.inpainted(plain, MASKS[0] > 0.5)
    assert np.abs(filled.astype(int) - 77).max() <= 2  # Telea's weights are rounded


def test_figure_2_is_a_picture_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "figure.png"
    figures.figure_2(IMAGES, MASKS, BOXES, path)  # the last mask is empty
    height, width, _ = cv2.imread(str(path)).shape
    assert height > 500
    assert width > 400
    assert [file.name for file in tmp_path.iterdir()] == ["figure.png"]


def test_no_half_written_figure_is_left(tmp_path, monkeypatch):
    draw = figures.FigureCanvasAgg.print_png

    def fail(self, file):
        draw(self, file)  # matplotlib tries the layout out in memory first
        if isinstance(file, pathlib.Path):
            raise OSError("disk full")

    monkeypatch.setattr(figures.FigureCanvasAgg, "print_png", fail)
    with pytest.raises(OSError, match="disk full"):
        figures.figure_2(IMAGES, MASKS, BOXES, tmp_path / "figure.png")
    assert not list(tmp_path.iterdir())


def test_mask_grid_has_every_image_above_its_mask():
    grid = figures.mask_grid(IMAGES, MASKS, columns=3)
    assert grid.shape == (64, 72, 3)
    assert np.array_equal(grid[:32, 24:48], IMAGES[1])
    assert np.array_equal(grid[32:, 24:48, 0], np.round(255 * MASKS[1]))
