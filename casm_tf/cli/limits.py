"""Limits for files that others made, as flags; a program imports this and calls `apply`.

The library's own settings are Pillow's MAX_IMAGE_PIXELS, `annotations.MAX_XML_BYTES` and
`archives.MAX_BYTES`. They are no settings of a run: it may resume under other limits.
"""

from absl import flags
from PIL import Image

from casm_tf.data import annotations
from casm_tf.host import archives

FLAGS = flags.FLAGS

flags.DEFINE_integer(
    "max_pixels", Image.MAX_IMAGE_PIXELS, "Larger pictures and masks are not read.", lower_bound=1
)
flags.DEFINE_integer(
    "max_xml_bytes", annotations.MAX_XML_BYTES, "Larger XML files are not read.", lower_bound=1
)
flags.DEFINE_integer(
    "max_model_bytes",
    archives.MAX_BYTES,
    "Model files that unpack to more are not loaded.",
    lower_bound=1,
)


def apply():
    """Put the flags in force, once they are parsed."""
    Image.MAX_IMAGE_PIXELS = FLAGS.max_pixels
    annotations.MAX_XML_BYTES = FLAGS.max_xml_bytes
    archives.MAX_BYTES = FLAGS.max_model_bytes
