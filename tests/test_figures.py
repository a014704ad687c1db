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


def drawn(path, images, masks, boxes, captions=None):
    captions = ["a caption"] * len(images) if captions is None else captions
    figures.pictures_and_masks(path, images, masks, boxes, captions)
    return cv2.imread(str(path))[..., ::-1]


def tile(picture, row, column):
    """A pixel is a square of 192 / 24 = 8, and at 192 / 1.2 = 160 pixels an inch the gaps are 0.06
    inches, 10 pixels, the heads 0.4, 64 pixels, and the captions 0.24, 38 pixels."""
    top, left = 64 + row * (256 + 38), 10 + column * (192 + 10)
    return picture[top : top + 256, left : left + 192]


@pytest.mark.parametrize("count", [1, 3])
def test_a_row_a_picture_shows_every_pixel(tmp_path, count):
    path = tmp_path / "figure.png"  # of three images the last has an empty mask and no box
    masks = {"casm": MASKS[:count], "cam": np.zeros_like(MASKS[:count])}
    picture = drawn(path, IMAGES[:count], masks, [np.zeros((0, 4), int)] * count)
    assert [file.name for file in tmp_path.iterdir()] == ["figure.png"]
    assert picture.shape == (64 + count * (256 + 38) + 48, 10 + 6 * (192 + 10), 3)
    for row in range(count):
        binary = figures.binarize(MASKS[row])
        expected = {
            2: np.zeros((32, 24, 3)),  # CAM's mask; of an empty one there is no box
            3: IMAGES[row] * binary[..., None],
            4: IMAGES[row] * ~binary[..., None],
            5: inpainted(IMAGES[row], binary),
        }
        if not binary.any():
            grey = np.round(255 * MASKS[row])[..., None].repeat(3, axis=-1)
            expected |= {0: IMAGES[row], 1: grey}
        for column, image in expected.items():
            assert np.array_equal(
                tile(picture, row, column), image.repeat(8, axis=0).repeat(8, axis=1)
            )
        caption = picture[64 + row * 294 + 256 :][:38]
        assert caption[:, 10:202].min() < 128
    for column in range(6):
        assert picture[:64, 10 + column * 202 :][:, :192].min() < 128  # its head
    assert picture[-48:].min() < 128  # the legend


def test_boxes_are_drawn_where_they_are(tmp_path):
    black = np.zeros((1, 32, 24, 3), np.uint8)
    masks = {"casm": np.zeros((1, 32, 24)), "grad_cam": MASKS[1:2]}
    picture = drawn(tmp_path / "figure.png", black, masks, BOXES[:1])
    # The true box is on the picture and on each mask, and on a mask the box that it gives.
    for column in range(3):
        assert_box(tile(picture, 0, column), figures.GROUND_TRUTH_COLOR, [4, 8, 12, 20])
    assert_box(tile(picture, 0, 2), figures.PREDICTED_COLOR, [5, 5, 9, 9])
    for column in (0, 1):
        assert not is_of(figures.PREDICTED_COLOR, tile(picture, 0, column)).any()
    assert not tile(picture, 0, 3).any()
    assert is_of(figures.GROUND_TRUTH_COLOR, picture[-48:]).any()  # the legend
    picture = drawn(tmp_path / "figure.png", black, masks, BOXES[2:])
    assert not is_of(figures.GROUND_TRUTH_COLOR, picture).any()


def is_of(color, seen):
    rgb = [int(color[start : start + 2], 16) for start in (1, 3, 5)]
    return (seen == rgb).all(axis=-1)


def assert_box(seen, color, box):
    """The outermost pixels of a colour are a box's lines, three wide, at 8 times its size."""
    rows, columns = np.nonzero(is_of(color, seen))
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert np.abs(np.subtract(found, np.multiply(box, 8))).max() <= 2


def test_captions_are_taken_as_they_are_and_cut_off_where_the_row_ends(tmp_path, recwarn):
    masks = {"casm": MASKS[:2]}
    captions = ["$\\frac{$ \N{HANGUL SYLLABLE HAN}\nof two lines", "long " * 100]
    picture = drawn(tmp_path / "figure.png", IMAGES[:2], masks, BOXES[:2], captions)
    assert not recwarn
    assert picture.shape == (64 + 2 * (256 + 38) + 48, 10 + 5 * (192 + 10), 3)
    assert (picture[-48 - 38 :, -5:] == 255).all()


def test_no_half_written_figure_is_left(tmp_path, monkeypatch):
    path = tmp_path / "figure.png"
    path.write_bytes(b"the one before")

    def fail(self, file):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(figures.FigureCanvasAgg, "print_png", fail)
    with pytest.raises(OSError, match="disk full"):
        drawn(path, IMAGES, {"casm": MASKS}, BOXES)
    assert [file.name for file in tmp_path.iterdir()] == ["figure.png"]
    assert path.read_bytes() == b"the one before"


@pytest.mark.parametrize(
    "images, masks, boxes, message",
    [
        (IMAGES / 255, MASKS, BOXES, r"uint8 \[N, H, W, 3\]; found float64 \[3, 32, 24, 3\]"),
        (IMAGES, MASKS[..., None], BOXES, r"found \[3, 32, 24, 1\]"),
        (IMAGES, MASKS, BOXES[:2], "found 2 and 3 for 3"),
        (IMAGES[:0], MASKS[:0], [], r"found uint8 \[0, 32, 24, 3\]"),
    ],
)
def test_a_figure_says_what_it_takes(tmp_path, images, masks, boxes, message):
    with pytest.raises(ValueError, match=message):
        drawn(tmp_path / "figure.png", images, {"casm": masks}, boxes)
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
    for seen in (picture[:, :192], picture[:, -192:]):
        assert_box(seen, figures.GROUND_TRUTH_COLOR, [4, 8, 12, 20])
        assert_box(seen, figures.PREDICTED_COLOR, [6, 22, 18, 30])
