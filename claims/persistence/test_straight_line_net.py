"""Sections 7.2 and 7.4: the network of the complete listing, which learns 3x + 2, and what its test shows."""

from collections import OrderedDict
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from fitcore.ensembles import Ensemble, fit
from fitcore.models import number_of_parameters
from fitcore.testing import REFUTED, claim, override, replace

TRIALS = 60
TESTED = (1.0, 3.0, 5.0, 7.0, 10.0)
OUTSIDE = (-5.0, 20.0)

adam = partial(torch.optim.Adam, lr=0.01, fused=True)
small_steps = partial(torch.optim.SGD, lr=1e-4)


def net(activation=nn.ReLU):
    return nn.Sequential(OrderedDict(fc1=nn.Linear(1, 10), relu=activation(), fc2=nn.Linear(10, 1)))


def law(x, slope=3.0, intercept=2.0):
    return slope * x + intercept


def training_points():
    return torch.linspace(1, 10, 100).unsqueeze(1)


def trained(seeds, epochs=100, optimizer=adam, batch_size=20, activation=nn.ReLU):
    """Train a net a seed; return the losses (epochs, S) and the errors at the points in and outside, (S, 5 + 2)."""
    ensemble = Ensemble(partial(net, activation), seeds)
    x, points = training_points(), torch.tensor([*TESTED, *OUTSIDE])[:, None]
    data = ensemble.share(x), ensemble.share(law(x))
    losses = fit(ensemble, data, epochs=epochs, batch_size=batch_size, optimizer=optimizer).losses
    with torch.no_grad():
        return losses, (ensemble(ensemble.share(points)) - law(points)).abs()[..., 0]


@pytest.fixture
def results(shared):
    """``results(...)``: what `trained` returns, once a session."""
    return partial(shared, trained, tuple(shared.seeds(TRIALS).tolist()))


@claim(
    "pytorch-notes/net-listing-test-error-small",
    finding="In 98 % of runs all five errors are below 1 (median of the largest: 0.15 to 0.19, mostly at x = 1); the "
    "others stay below 2.5, unless all ten units are dead from the start, about one run in ten thousand (counted once, "
    "outside this run).",
    controls=[override("one epoch", epochs=1)],
    trials=TRIALS,
)
def test_the_trained_net_predicts_the_test_points_to_within_one(results, trials, evidence, epochs=100):
    errors = results(epochs=epochs)[1][:, :5]
    evidence.compare("error at x", dict(zip(TESTED, errors.T, strict=True)), limit=1)
    trials.mostly(errors.amax(1) < 1, at_least=0.5, name="all five below 1 in most runs")


@claim(
    "pytorch-notes/net-listing-extrapolates",
    verdict=REFUTED,
    finding="Above the range it does, as every unit that counts is on: 0.4 to 0.5 off at x = 20. Below it the units "
    "switch off one by one: at x = -5, where the line is at -13, the net is 13.4 off (medians). Without the ReLU the "
    "line goes on at both ends.",
    controls=[override("without the ReLU", activation=nn.Identity)],
    trials=TRIALS,
)
def test_the_net_leaves_the_line_below_its_training_range(results, trials, evidence, activation=nn.ReLU):
    below, above = results(activation=activation)[1][:, 5:].T
    straight = results(activation=nn.Identity)[1][:, 5:]
    evidence.compare("error at x", {"-5, below the range": below, "20, above it": above, "-5, no ReLU": straight[:, 0]})
    trials.mostly(below > 5, at_least=0.5, name="at -5: more than 5 off")
    trials.less(4 * above, below, name="at 20: less than a quarter of that")
    trials.mostly(straight.amax(1) < 1, at_least=0.5, name="without the ReLU: less than 1 off at both")


@claim(
    "pytorch-notes/net-listing-loss-monotone",
    verdict=REFUTED,
    finding="In all but one run of 1,000 (counted once, outside this run) some epoch ends with a higher average than "
    "the one before, typically four or five of the 99: batches are drawn anew, and Adam overshoots. From the first "
    "epoch to the last the loss falls by far more than a hundredfold. Small steps of plain gradient descent on the "
    "full batch never raise it.",
    controls=[override("small steps on the full batch", optimizer=small_steps, batch_size=None)],
    trials=TRIALS,
)
def test_some_epochs_raise_the_average_loss(results, trials, evidence, optimizer=adam, batch_size=20):
    losses = results(optimizer=optimizer, batch_size=batch_size)[0]
    smooth = results(optimizer=small_steps, batch_size=None)[0]
    rises = (losses.diff(dim=0) > 0).sum(0)
    evidence.observe("epochs that raise the average loss", rises)
    evidence.curve("average loss of the first run", range(1, 101), {"loss": losses[:, 0]}, x_label="epoch")
    trials.mostly(rises > 0, at_least=0.5, name="some epoch raises it")
    trials.mostly(losses[-1] < losses[0] / 100, at_least=0.5, name="a hundredfold lower in the end")
    trials.always((smooth.diff(dim=0) <= 0).all(0), name="small steps on the full batch never do")


def every_tenth(epoch):
    return epoch % 10 == 0


def every_tenth_from_one(epoch):
    return (epoch + 1) % 10 == 0


@claim(
    "pytorch-notes/logs-every-ten-epochs",
    finding="At 0, 10, ..., 90: what the last nine epochs come to is never printed.",
    controls=[override("counted from one", due=every_tenth_from_one)],
)
def test_ten_averages_are_printed(results, evidence, due=every_tenth):
    averages = results()[0][:, 0]
    printed = {epoch: average for epoch, average in enumerate(averages) if due(epoch)}
    evidence.curve("average loss that is printed", list(printed), {"loss": list(printed.values())}, x_label="epoch")
    assert list(printed) == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]
    assert len(averages) == 100


@claim(
    "pytorch-notes/net-listing-test-points-unseen",
    verdict=REFUTED,
    finding="All five are training points, to the bit: linspace(1, 10, 100) has steps of 1/11 and meets every whole "
    "number. The points halfway between two neighbours are new.",
    controls=[override("points between", points=tuple(x + 1 / 22 for x in TESTED[:-1]))],
)
def test_every_test_point_is_a_training_point(points=TESTED):
    seen = training_points().flatten().tolist()
    assert [point in seen for point in points] == [True] * len(points)
    assert (len(seen), max(seen)) == (100, 10)
    assert not set(seen) & {x + 1 / 22 for x in TESTED}


def transposed(layer):
    layer.weight = nn.Parameter(layer.weight.T)


@claim(
    "pytorch-notes/net-parameter-shapes",
    controls=[replace("torch.nn.Linear.reset_parameters", transposed)],
)
def test_the_net_has_31_parameters_in_four_tensors():
    shapes = {name: tuple(parameter.shape) for name, parameter in net().named_parameters()}
    assert shapes == {"fc1.weight": (10, 1), "fc1.bias": (10,), "fc2.weight": (1, 10), "fc2.bias": (1,)}
    assert number_of_parameters(net()) == 31


def net_with_dropout():
    return nn.Sequential(net(), nn.Dropout(0.5))


@claim(
    "pytorch-notes/eval-mode-changes-net-output",
    verdict=REFUTED,
    finding="Not a bit of it: the net has neither dropout nor batch normalisation. With dropout it would.",
    controls=[override("a net with dropout", build=net_with_dropout)],
    trials=20,
)
def test_eval_changes_nothing_for_a_net_without_dropout_and_batch_norm(trials, build=net):
    def changes(seed):
        model, x = build(), training_points()
        return not torch.equal(model.train()(x), model.eval()(x))

    trials.always(~trials.map(changes), name="the same in both modes")
    with_dropout = net_with_dropout()
    assert not torch.equal(with_dropout.train()(training_points()), with_dropout.eval()(training_points()))


class StraightLine(Dataset):
    """The points of the listing, with its argument ``device``."""

    def __init__(self, device="cpu"):
        self.device = device
        self.x = training_points()
        self.y = law(self.x)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


class PlacedStraightLine(StraightLine):
    def __init__(self, device="cpu"):
        super().__init__(device)
        self.x, self.y = self.x.to(device), self.y.to(device)


@claim(
    "pytorch-notes/net-dataset-device-argument",
    verdict=REFUTED,
    finding="It is stored and never used: the data stay on the CPU whatever it says, a device that this machine lacks "
    "included. A .to(device) in the constructor would place them.",
    controls=[override("the argument is used", dataset=PlacedStraightLine)],
)
@pytest.mark.parametrize("device", ["meta", "cuda:7"])
def test_the_data_set_ignores_its_device(device, dataset=StraightLine):
    assert {part.device.type for part in (dataset("meta").x, *dataset("meta")[0])} == {"cpu"}
    assert StraightLine(device).x.device.type == "cpu"
    assert PlacedStraightLine("meta").x.device.type == "meta"


@claim(
    "pytorch-notes/net-data-stay-on-cpu-until-the-loop",
    controls=[override("placed by the data set", dataset=PlacedStraightLine)],
)
@pytest.mark.parametrize("device", ["meta", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_only_the_loop_moves_the_batches(device, dataset=StraightLine):
    data = dataset(device)
    batches = [batch for pair in DataLoader(data, batch_size=20, shuffle=True) for batch in pair]
    assert {each.device.type for each in (data.x, data.y, *batches)} == {"cpu"}
    assert {each.to(device).device.type for each in batches} == {device}
    assert [len(each) for each in batches] == [20] * 10


def section_6_model(lr=0.1):
    """Section 6's training: 2x + 1 on [0, 10], batches of 10, five epochs of SGD."""
    x = torch.linspace(0, 10, 100).unsqueeze(1)
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for chosen in (batch for _ in range(5) for batch in torch.randperm(100).split(10)):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x[chosen]), law(x[chosen], 2.0, 1.0)).backward()
        optimizer.step()
    return model


@torch.no_grad()
def errors_of(model):
    """What 7.2 prints as the errors."""
    points = torch.tensor(TESTED)[:, None]
    return (model(points) - law(points)).abs().flatten()


@claim(
    "pytorch-notes/plus-two-three-target-on-section6-model",
    verdict=REFUTED,
    finding="Saving and predicting work with any model, but the comparison is with 3x + 2, and section 6 teaches "
    "2x + 1: a model that has learned it is x + 1 off, from 2 to 11. As printed, at a rate of 0.1, section 6 diverges "
    "instead: every error is beyond a billion, or no number. The model meant is that of 7.4.",
    controls=[override("a model that learned 3x + 2", slope=3.0, intercept=2.0)],
    trials=8,
)
def test_the_check_of_7_2_fits_no_model_of_section_6(trials, evidence, slope=2.0, intercept=1.0):
    printed = trials.map(lambda seed: errors_of(section_6_model()), finite=False)
    learned = errors_of(partial(law, slope=slope, intercept=intercept))
    evidence.curve("error that 7.2 prints for a model that learned 2x + 1", TESTED, {"error": learned}, x_label="x")
    trials.always(~(printed < 1e9).any(1), name="trained as printed: beyond a billion, or no number")
    assert torch.equal(learned, torch.tensor(TESTED) + 1)
