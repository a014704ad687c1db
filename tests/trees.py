"""Small trees of pictures for the tests."""

import io

import cv2
import numpy as np
from PIL import Image


def picture(seed=0, height=40, width=60):
    """Smooth colours, so that JPEG changes them little: uint8 [H, W, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def write(path, image=None):
    """Write an RGB picture, in the format that the path's suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = picture() if image is None else image
    # OpenCV's own writing takes no path with Korean letters on every system.
    path.write_bytes(cv2.imencode(path.suffix, image[..., ::-1])[1].tobytes())


def write_tree(root, splits=("train", "val"), classes=("cat", "dog"), count=8):
    """<split>/<class>/<class>_<split>_<number>.JPEG, of sizes around 60x40."""
    for split in splits:
        for label in classes:
            for number in range(count):
                name = f"{label}_{split}_{number}.JPEG"
                write(root / split / label / name, picture(number, 40 + number, 60 - number))


def xml(boxes, name="cat", size=(60, 40)):
    """A VOC file's text; `size` None leaves it out."""
    parts = (
        [] if size is None else [f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"]
    )
    for box in boxes:
        sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        inner = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
        parts.append(f"<object><name>{name}</name><bndbox>{inner}</bndbox></object>")
    return f"<annotation>{''.join(parts)}</annotation>"


def encoded(image, kind="JPEG", **settings):
    """The bytes of a Pillow image or of uint8 [H, W, 3]."""
    data = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(data, kind, **settings)
    return data.getvalue()
