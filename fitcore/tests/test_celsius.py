import pytest
import torch

from fitcore.data import normalise, thermometer_readings


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_eleven_readings_of_the_dtype_asked_for(dtype):
    t_u, t_c = thermometer_readings(dtype)
    assert t_u.shape == t_c.shape == (11,)
    assert t_u.dtype == t_c.dtype == dtype


def test_every_call_returns_fresh_tensors():
    thermometer_readings()[0].zero_()
    assert thermometer_readings()[0].min() > 0


def test_normalise_divides_by_ten():
    torch.testing.assert_close(normalise(torch.tensor([35.7, -10.0])), torch.tensor([3.57, -1.0]))
