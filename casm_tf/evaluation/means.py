"""Means over images, and how sure they are where the images are few."""

import collections

import numpy as np

FEW = 100  # means over fewer images than that are told with their standard errors


class Means:
    """Means over images of some measures.

    Sums are kept, and what each of the first `FEW` images has.

    Attributes:
        images: {measure: how many there were}.
        first: {measure: the values of the first `FEW` images}.
    """

    def __init__(self):
        self._sums = collections.Counter()
        self.images = collections.Counter()
        self.first = collections.defaultdict(list)

    def add(self, **values):
        """Take in, by measure, one image's value or an array of several images'."""
        for key, some in values.items():
            for value in np.ravel(some).astype(float).tolist():
                self._sums[key] += value
                self.images[key] += 1
                if self.images[key] <= FEW:
                    self.first[key].append(value)

    def compute(self):
        """{measure: mean}."""
        return {key: total / self.images[key] for key, total in self._sums.items()}


def standard_error(values):
    """Of the mean of at least two images' values: their deviation, of ddof 1, by sqrt(n)."""
    return float(np.std(values, ddof=1)) / len(values) ** 0.5
