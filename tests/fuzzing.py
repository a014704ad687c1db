"""Properties that are tried on a few examples in every run of the tests, on many in the long one."""

import hypothesis
import pytest


def fuzz(examples, long, **strategies):
    """Make of a property two tests: of `examples` examples, and of `long` ones, marked long."""

    def decorate(prop):
        @pytest.mark.parametrize("examples", [examples, pytest.param(long, marks=pytest.mark.long)])
        def test(examples):
            hypothesis.settings(max_examples=examples)(hypothesis.given(**strategies)(prop))()

        return test

    return decorate
