"""The pictures: what is masked and filled, and that a figure is whole or not there."""

import cv2
import numpy as np
import pytest

from casm_tf.evaluation.inpainting import inpainted
from casm_tf.report import figures

random = np.random.default_rng(0)
IMAGES = random.integers(0, 256, (3, 32, 24, 3), np.uint8)
MASKS = np.zeros((3, 32, 24), np.float32)
MASKS[0, 8:20, 4:12] = 0.9
MASKS[1, 5:9, 5:9] = 1.0
BOXES = [
    np.array([[4, 8, 12, 20]]),
    np.array([[0, 0, 9, 9], [-5, 5, 30, 9]]),  # the second reaches beyond the image
    np.zeros((0, 4), int),
]
BINARY = MASKS[0] > 0.5
BORDER = np.zeros((32, 24), bool)
BORDER[:12, :10] = True


@pytest.mark.parametrize("binary", [BINARY, BORDER], ids=["inside", "border"])
def test_inpainting_changes_what_is_masked_alone(binary):
    image = IMAGES[0].copy()
    filled = inpainted(image, binary)
    assert np.array_equal(image, IMAGES[0])
    assert np.array_equal(filled[~binary], image[~binary])
    assert not np.array_equal(filled[binary], image[binary])


@pytest.mark.parametrize("binary", [BINARY, BORDER], ids=["inside", "border"])
def test_inpainting_does_not_see_what_it_hides(binary):
    other = np.where(binary[..., None], IMAGES[1], IMAGES[0])
    assert np.array_equal(inpainted(IMAGES[0], binary), inpainted(other, binary))


@pytest.mark.parametrize("colour, tolerance", [(0, 0), (128, 0), (255, 0), (77, 4)])
def test_inpainting_fills_a_plain_image_with_its_colour(colour, tolerance):
    # OpenCV's weighted mean of 77s is not quite 77; see the docstring for what it makes of that.
    plain = np.full((32, 24, 3), colour, np.uint8)
    for binary in (BINARY, BORDER):
        filled = inpainted(plain, binary)
        assert np.abs(filled.astype(int) - colour).max() <= tolerance


def test_inpainting_without_holes_and_without_anything_else():
    nothing = np.zeros((32, 24), bool)
    assert np.array_equal(inpainted(IMAGES[0], nothing), IMAGES[0])
    assert not inpainted(IMAGES[0], ~nothing).any()


def test_inpainting_says_what_it_takes():
    with pytest.raises(ValueError, match="found uint8 and float32"):
        inpainted(IMAGES[0], MASKS[0])
    with pytest.raises(ValueError, match=r"found \[32, 24, 3\] and \[24, 32\]"):
        inpainted(IMAGES[0], BINARY.T)


@pytest.mark.parametrize("count", [1, 3])
def test_figure_2_shows_every_pixel(tmp_path, count):
    path = tmp_path / "figure.png"  # of three images the last has an empty mask and no box
    figures.figure_2(IMAGES[:count], MASKS[:count], BOXES[:count], path)
    assert [file.name for file in tmp_path.iterdir()] == ["figure.png"]
    picture = cv2.imread(str(path))[..., ::-1]
    # A pixel is a square of 192 / 24 = 8, and at 192 / 1.2 = 160 pixels an inch the gaps are
    # 0.06 inches, 10 pixels, and the labels 0.9 inches, 144 pixels.
    assert picture.shape == (10 + 5 * (256 + 10) + 48, 144 + count * (192 + 10), 3)
    for column in range(count):
        binary = figures.binarize(MASKS[column])
        for row, expected in enumerate(
            [
                IMAGES[column],
                IMAGES[column] * binary[..., None],
                IMAGES[column] * ~binary[..., None],
                inpainted(IMAGES[column], binary),
            ]
        ):
            top, left = 10 + row * 266, 144 + column * 202
            tile = picture[top : top + 256, left : left + 192]
            assert np.array_equal(tile, expected.repeat(8, axis=0).repeat(8, axis=1))
    assert picture[:1340, :134].min() < 128  # the labels
    assert picture[1340:].min() < 128  # the legend


def test_figure_2_draws_the_boxes_where_they_are(tmp_path):
    path = tmp_path / "figure.png"
    empty = np.zeros((1, 32, 24), np.float32)
    figures.figure_2(IMAGES[:1], empty, BOXES[:1], path)
    tile = cv2.imread(str(path))[10 + 4 * 266 :, 144:, ::-1][:256, :192]
    orange = (tile == [230, 159, 0]).all(axis=-1)
    rows, columns = np.flatnonzero(orange.any(1)), np.flatnonzero(orange.any(0))
    # The line is three pixels wide, and the box is x 4 to 12 and y 8 to 20, times 8.
    assert np.abs(np.subtract([columns[0], columns[-1] + 1], [32, 96])).max() <= 2
    assert np.abs(np.subtract([rows[0], rows[-1] + 1], [64, 160])).max() <= 2
    assert not tile[~cv2.dilate(orange.astype(np.uint8), np.ones((7, 7))).astype(bool)].any()


def test_no_half_written_figure_is_left(tmp_path, monkeypatch):
    path = tmp_path / "figure.png"
    path.write_bytes(b"the one before")

    def fail(self, file):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(figures.FigureCanvasAgg, "print_png", fail)
    with pytest.raises(OSError, match="disk full"):
        figures.figure_2(IMAGES, MASKS, BOXES, path)
    assert [file.name for file in tmp_path.iterdir()] == ["figure.png"]
    assert path.read_bytes() == b"the one before"


@pytest.mark.parametrize(
    "images, masks, boxes, message",
    [
        (IMAGES / 255, MASKS, BOXES, r"uint8 \[N, H, W, 3\]; found float64 \[3, 32, 24, 3\]"),
        (IMAGES, MASKS[..., None], BOXES, r"found \[3, 32, 24, 1\]"),
        (IMAGES, MASKS, BOXES[:2], "found 2 for 3"),
        (IMAGES[:0], MASKS[:0], [], r"found uint8 \[0, 32, 24, 3\]"),
    ],
)
def test_figure_2_says_what_it_takes(tmp_path, images, masks, boxes, message):
    with pytest.raises(ValueError, match=message):
        figures.figure_2(images, masks, boxes, tmp_path / "figure.png")
    assert not list(tmp_path.iterdir())


def test_mask_grid_has_every_image_above_its_mask():
    masks = np.stack([np.zeros((32, 24)), np.ones((32, 24)), MASKS[0]])
    grid = figures.mask_grid(IMAGES, masks, columns=2)
    assert grid.dtype == np.uint8
    assert grid.shape == (2 * (2 * 32 + 2), 2 * (24 + 2), 3)
    assert np.array_equal(grid[:32, :24], IMAGES[0])
    assert np.array_equal(grid[:32, 26:50], IMAGES[1])
    assert np.array_equal(grid[66:98, :24], IMAGES[2])
    assert (grid[66:, 26:] == 255).all()  # there is no fourth image
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None] for image in IMAGES]
    assert (grid[32:64, :24] == grey[0]).all()
    expected = np.round(0.3 * grey[1] + 0.7 * np.array([230, 159, 0]))
    assert np.abs(grid[32:64, 26:50] - expected).max() <= 1


def test_a_scored_image_is_beside_its_mask():
    png = np.frombuffer(figures.scored_image(IMAGES[0], MASKS[0], [], None), np.uint8)
    picture = cv2.cvtColor(cv2.imdecode(png, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    tiles = figures.mask_grid(IMAGES[:1], MASKS[:1])[:64, :24].repeat(8, axis=0).repeat(8, axis=1)
    assert picture.shape == (256, 192 + 6 + 192, 3)
    assert np.array_equal(picture[:, :192], tiles[:256])
    assert np.array_equal(picture[:, -192:], tiles[256:])


def test_a_scored_image_has_both_boxes_on_both_tiles():
    black = np.zeros((32, 24, 3), np.uint8)
    boxes = np.array([[4, 8, 12, 20]])
    png = figures.scored_image(black, np.zeros((32, 24)), boxes, (6, 22, 18, 30))
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    for tile in (picture[:, :192], picture[:, -192:]):
        for color, expected in (
            (figures.GROUND_TRUTH_COLOR, [32, 64, 96, 160]),
            (figures.PREDICTED_COLOR, [48, 176, 144, 240]),
        ):
            rgb = [int(color[start : start + 2], 16) for start in (1, 3, 5)]
            rows, columns = np.nonzero((tile == rgb).all(axis=-1))
            found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            # The lines are three pixels wide, half of that outside the box.
            assert np.abs(np.subtract(found, expected)).max() <= 2
