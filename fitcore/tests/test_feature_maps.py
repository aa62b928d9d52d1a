import pytest
import torch
from torch import nn

from fitcore.evaluation.feature_maps import feature_maps, tiled
from fitcore.models import CNN


def test_feature_maps_are_the_outputs_of_the_layers_in_the_order_asked_for():
    model, images = CNN(widths=(2, 3), hidden=None), torch.rand(4, 1, 28, 28)
    pooled, convolved = feature_maps(model, images, ["features.2", "features.0"])
    assert torch.equal(convolved, model.features[0](images))
    assert torch.equal(pooled, model.features[:3](images))
    assert not pooled.requires_grad


def test_feature_maps_are_safe_from_an_in_place_operation():
    model = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True))
    (maps,) = feature_maps(model, torch.tensor([-1.0, 1.0]), ["0"])
    assert maps.tolist() == [-1.0, 1.0]


def test_no_hook_is_left_even_if_the_network_refuses_the_images():
    model = CNN(widths=(2,), hidden=None)
    with pytest.raises(ValueError, match="28x28"):
        feature_maps(model, torch.rand(1, 1, 20, 20), ["features.0"])
    assert not model.features[0]._forward_hooks


def test_layers_that_are_never_called_or_do_not_exist_are_named():
    model = nn.Sequential(nn.Identity())
    model.add_module("unused", nn.Identity())
    model.forward = lambda images: images
    with pytest.raises(ValueError, match="calls no unused"):
        feature_maps(model, torch.rand(1), ["unused"])
    with pytest.raises(AttributeError, match="conv1"):
        feature_maps(model, torch.rand(1), ["conv1"])


def test_tiles_lie_row_by_row_between_grey_lines():
    maps = torch.tensor([-1.0, 0.25, 2.0])[:, None, None].expand(3, 2, 2)
    picture = tiled(maps, columns=2, side=4)
    assert picture.shape == (12, 12)
    assert [picture[2, 2], picture[2, 8], picture[8, 2], picture[8, 8]] == [0, 0.25, 1, 0.5]
    assert (picture[::6] == 0.5).all()
    assert (picture[:, 5::6] == 0.5).all()


def test_one_column_of_whole_numbers_is_a_stack():
    picture = tiled(torch.tensor([0, 1, 7])[:, None, None], columns=1, side=1)
    assert picture[:, 1].tolist() == [0.5, 0.0, 0.5, 0.5, 1.0, 0.5, 0.5, 1.0, 0.5]


@pytest.mark.parametrize(("pictures", "rows"), [(3, 1), (4, 2), (5, 2), (6, 2), (7, 3)])
def test_the_last_row_is_filled_up(pictures, rows):
    assert tiled(torch.zeros(pictures, 1, 1), columns=3, side=1).shape == (3 * rows, 9)


def test_tiles_need_a_column():
    with pytest.raises(ValueError, match="columns must be at least 1, got 0"):
        tiled(torch.zeros(1, 2, 2), columns=0, side=2)
