"""The stages of a run as programs with TFX's names; run one with python -m components.<name>."""
