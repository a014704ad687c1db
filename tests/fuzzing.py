"""Properties tried on a few examples whenever tests are run, on many in the long tests."""

import hypothesis
import pytest

LONG = 8


def fuzz(examples, **strategies):
    """Make of a property two tests: of `examples` examples, and of LONG times as many."""
    long = pytest.param(LONG * examples, marks=pytest.mark.long)

    def decorate(prop):
        @pytest.mark.parametrize("examples", [examples, long])
        def test(examples):
            hypothesis.settings(max_examples=examples)(hypothesis.given(**strategies)(prop))()

        return test

    return decorate
