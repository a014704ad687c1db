"""How large others' pictures may be, as a flag; a program imports this and calls `apply`.

The library takes Pillow's own setting, MAX_IMAGE_PIXELS. It is no setting of a run, which may
resume under another limit.
"""

from absl import flags
from PIL import Image

flags.DEFINE_integer(
    "max_pixels", Image.MAX_IMAGE_PIXELS, "Larger pictures and masks are not read.", lower_bound=1
)


def apply():
    """Put the flag in force, once it is parsed."""
    Image.MAX_IMAGE_PIXELS = flags.FLAGS.max_pixels
