import pytest

from fitcore.testing import error_of


def test_a_call_that_returns_has_no_error():
    assert error_of(int, "12", base=3) is None


def test_an_exception_is_handed_on():
    error = error_of(int, "a")
    assert isinstance(error, ValueError)
    assert "'a'" in str(error)


def test_an_interrupt_is_no_outcome():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        error_of(interrupted)
