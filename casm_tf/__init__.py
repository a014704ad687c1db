"""Classifier-agnostic saliency map extraction (Zolna, Geras and Cho, CVIU 2020)."""

__all__ = ["MaskModel"]
__version__ = "0.1.0"


def __getattr__(name):
    # When it is first used: `import casm_tf` is to cost nothing.
    if name == "MaskModel":
        from casm_tf.serving.mask_model import MaskModel

        return MaskModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
