"""Masks and true masks that PySODMetrics has scored (`make_salient_answers.py`)."""

import numpy as np


def scenes():
    """Pairs of a mask of 8 bits and a true one, uint8 and bool [24, 32]: waves over an ellipse."""
    y, x = np.mgrid[:24, :32]
    for number in range(12):
        middle, radii = (5 + number, 24 - number), (3 + number % 5, 4 + number % 7)
        truth = ((y - middle[0]) / radii[0]) ** 2 + ((x - middle[1]) / radii[1]) ** 2 <= 1
        # Integers alone, so that every NumPy gives the same.
        waves = (37 * y * (number + 1) + 53 * x + 11 * x * y) % (64 + 16 * number)
        yield (waves + (120 - 8 * number) * truth).clip(0, 255).astype(np.uint8), truth
