import numpy as np
import torch

from fitcore.evaluation.memory import allocated_bytes, shares_storage


def test_views_share_their_storage_and_copies_do_not():
    x = torch.arange(12)
    assert shares_storage(x, x[3:].view(3, 3).t())
    assert shares_storage(*x.split(6))
    assert not shares_storage(x, x.clone())


def test_numpy_arrays_are_followed_into():
    array = np.arange(12)
    assert shares_storage(torch.from_numpy(array), torch.from_numpy(array[5:]))
    assert not shares_storage(torch.from_numpy(array[:5]), torch.from_numpy(array[5:]))
    assert not shares_storage(torch.from_numpy(array), torch.tensor(array))


def test_an_empty_storage_shares_nothing():
    assert not shares_storage(torch.empty(0), torch.empty(0))


def test_each_storage_is_counted_once():
    x = torch.ones(1, 3)
    assert allocated_bytes() == 0
    assert allocated_bytes(x, x.expand(4, 3), x.view(3)) == 12
    assert allocated_bytes(x, x.repeat(4, 1)) == 12 + 48
    assert allocated_bytes(x[:, :1]) == 12
