"""Classifier-agnostic saliency map extraction (Zolna, Geras and Cho, CVIU 2020)."""

__version__ = "0.1.0"
