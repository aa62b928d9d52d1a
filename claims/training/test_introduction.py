"""Section 5, the introductory network 1-10-1: its listing as printed and repaired, and the order of its calls."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

from fitcore.ensembles import Ensemble, mean_squared_errors
from fitcore.models import MLP
from fitcore.testing import CONDITIONAL, REFUTED, claim, error_of, override, replace

EPOCHS = 200
TRIALS = 400
PRINTED = "forward zero_grad view step report"
DELETED = "forward zero_grad step report"
REPAIRED = "forward zero_grad backward step report"
STANDARD = "forward zero_grad backward step"
SKIPPED = "forward backward step report"
LAST = "forward backward step report zero_grad"
FIRST = "zero_grad forward backward step report"
TOO_LATE = "forward backward zero_grad step report"
X = torch.tensor([[1.0], [2.0], [3.0]])
Y = 2 * X


def network():
    return MLP([1, 10, 1], nn.ReLU)


def in_multiples_of_40(epoch):
    return epoch % 40 == 0


class Introduction:
    """The listing, as a run of the actions of an epoch in any order; leaves the losses, and what is reported."""

    def __init__(self, lr=0.01, optimizer=torch.optim.SGD, device="cpu", moved="cpu"):
        self.model = network().to(moved)
        self.x, self.y = X.to(device).to(device), Y.to(device).to(device)
        self.criterion = nn.MSELoss().to(device)
        self.optimizer = optimizer(self.model.parameters(), lr=lr)
        self.losses, self.reports = [], []

    def run(self, order, epochs=EPOCHS, is_due=in_multiples_of_40):
        for epoch in range(epochs):
            self.epoch = epoch if is_due(epoch) else None
            for action in order.split():
                getattr(self, action)()
        return self

    def current_loss(self):
        return self.criterion(self.model(self.x), self.y)

    def forward(self):
        self.loss = self.current_loss()
        self.losses.append(self.loss.detach())

    def zero_grad(self):
        self.optimizer.zero_grad()

    def view(self):
        self.loss.view()

    def backward(self):
        self.loss.sum().backward()

    def step(self):
        self.optimizer.step()

    def report(self):
        if self.epoch is not None:
            self.reports.append((self.epoch, self.loss.detach(), self.current_loss().detach()))


class Copies(Introduction):
    """As many networks as seeds, each with a loss of its own, and all trained at once."""

    def __init__(self, seeds, lr=0.01, optimizer=torch.optim.SGD):
        self.model = Ensemble(network, seeds)
        self.x, self.y = self.model.share(X), self.model.share(Y)
        self.criterion = mean_squared_errors
        self.optimizer = optimizer([self.model.flat], lr=lr)
        self.losses, self.reports = [], []


def losses_of_copies(seeds, order=REPAIRED, lr=0.01):
    """Losses at the start of each epoch, and of the weights in the end, (EPOCHS + 1, copies)."""
    copies = Copies(seeds, lr).run(order, is_due=lambda epoch: False)
    return torch.stack([*copies.losses, copies.current_loss().detach()])


@pytest.fixture
def learning_curves(shared, trials):
    """``learning_curves(order, lr)``, trained once a session."""
    return partial(shared, losses_of_copies, tuple(shared.seeds(trials.count).tolist()))


@claim(
    "pytorch-notes/intro-listing-runs-as-printed",
    verdict=REFUTED,
    finding="loss.view() without a shape raises TypeError in the first epoch, before anything is reported. With "
    "loss.backward(), as the comment above it says, the listing runs, and the five losses that it prints fall.",
    controls=[override("loss.backward()", printed=REPAIRED), override("neither of the two", repaired=DELETED)],
    trials=TRIALS,
)
def test_the_listing_stops_in_its_first_epoch_until_view_is_backward(
    learning_curves, trials, evidence, printed=PRINTED, repaired=REPAIRED
):
    as_printed, as_repaired = Introduction(), Introduction()
    with pytest.raises(TypeError, match=r"view\(\) received an invalid combination of arguments"):
        as_printed.run(printed)
    assert as_printed.reports == []
    assert error_of(as_repaired.run, repaired) is None
    reported = [loss for _, loss, _ in as_repaired.reports]
    evidence.curve("reported loss after the repair", range(0, EPOCHS, 40), {"loss": torch.stack(reported)}, "epoch")
    assert reported == sorted(set(reported), reverse=True)
    falls = learning_curves(repaired)[:EPOCHS:40].diff(dim=0) < 0
    trials.always(falls.all(0).numpy(), name="the reported losses fall")


@claim(
    "pytorch-notes/loss-view-computes-gradients",
    verdict=REFUTED,
    finding="A view of the loss is one more node of the graph; no gradient comes of it until backward is called, on "
    "the loss or on the view.",
    controls=[replace("torch.Tensor.view", lambda loss, *shape: loss.backward(), name="a view that goes backward")],
)
@pytest.mark.parametrize("shape", [(1,), (1, 1), (-1,)], ids=str)
def test_a_view_of_the_loss_fills_no_gradient(shape):
    listing = Introduction()
    listing.forward()
    viewed = listing.loss.view(*shape)
    assert {parameter.grad for parameter in listing.model.parameters()} == {None}
    viewed.backward()
    assert all(parameter.grad is not None for parameter in listing.model.parameters())


@claim(
    "pytorch-notes/intro-without-backward-nothing-changes",
    finding="Without gradients step() skips every parameter and says nothing: 200 times the same loss.",
    controls=[override("loss.backward()", order=REPAIRED)],
    trials=20,
)
def test_without_backward_the_loop_runs_and_learns_nothing(learning_curves, trials, order=DELETED):
    listing = Introduction()
    assert error_of(listing.run, order) is None
    assert len(listing.losses) == EPOCHS
    assert len(set(map(float, listing.losses))) == 1
    losses = learning_curves(order)
    trials.always((losses == losses[0]).all(0).numpy(), name="the same loss in all epochs")


@claim(
    "pytorch-notes/intro-repaired-loss-falls-every-seed",
    finding="It starts between 2 and 58 and ends at a sixth of that at most, in each of 200,000 seeds (counted once, "
    "outside this run); also where no hidden unit is active, since the bias of the output still learns the mean of the "
    "targets.",
    controls=[override("no backward", order=DELETED)],
    trials=TRIALS,
)
def test_the_repaired_loss_is_lower_in_the_end(learning_curves, trials, evidence, order=REPAIRED):
    losses = learning_curves(order)
    evidence.compare("mean squared error", {"at the start": losses[0], "after 200 epochs": losses[-1]})
    trials.always((losses[-1] < losses[0] / 2).numpy(), name="less than half of the initial loss")


def no_active_unit(weights, **_):
    """Draw weights under which no unit is active on x = 1, 2, 3."""
    return weights.detach().fill_(-2)


@claim(
    "pytorch-notes/intro-repaired-final-mse-below-0.1",
    finding="The median is 0.004, and 99.6 % of 200,000 seeds end below 0.1 (counted once, outside this run). The "
    "others have few hidden units that are active on x = 1, 2, 3 at the start, and those without any end at 8/3, the "
    "variance of the targets.",
    controls=[
        override("no backward", order=DELETED),
        replace("torch.nn.init.kaiming_uniform_", no_active_unit),
    ],
    trials=TRIALS,
)
def test_two_hundred_epochs_fit_the_line(learning_curves, trials, evidence, order=REPAIRED):
    losses = learning_curves(order)
    low, median, high = losses.quantile(torch.tensor([0.05, 0.5, 0.95]), dim=1)
    series = {"5 % of seeds are below": low, "median": median, "95 % of seeds are below": high}
    evidence.curve("mean squared error", range(EPOCHS + 1), series, "epoch")
    evidence.observe("mean squared error after 200 epochs", losses[-1], limit=0.1)
    trials.mostly((losses[-1] < 0.1).numpy(), at_least=0.9)


@claim(
    "pytorch-notes/intro-reports-five-times",
    finding="What the weights are worth in the end is never printed; (epoch + 1) % 40 == 0 would report epoch 199.",
    controls=[override("counted from one", is_due=lambda epoch: in_multiples_of_40(epoch + 1))],
)
def test_the_listing_reports_five_epochs_and_not_the_last(evidence, is_due=in_multiples_of_40):
    listing = Introduction().run(REPAIRED, is_due=is_due)
    evidence.table("reports", [{"epoch": epoch, "loss": loss.item()} for epoch, loss, _ in listing.reports])
    assert [epoch for epoch, *_ in listing.reports] == [0, 40, 80, 120, 160]
    assert len(listing.losses) == 200


@claim(
    "pytorch-notes/intro-printed-weights-match-printed-loss",
    verdict=REFUTED,
    finding="The loss was computed before the update, the weights are printed after it: theirs is the loss that the "
    "next epoch computes, in the first report lower by 34 to 44 % (median). Reported before step() the two would "
    "match.",
    controls=[override("reported before the step", order="forward zero_grad backward report step")],
    trials=20,
)
def test_the_printed_loss_is_that_of_the_weights_before_the_update(trials, evidence, order=REPAIRED):
    copies = Copies(trials.seeds).run(order, epochs=42)
    losses = torch.stack(copies.losses)
    epochs, printed, of_printed_weights = zip(*copies.reports, strict=True)
    printed, of_printed_weights, of_next_epoch = torch.stack(printed), torch.stack(of_printed_weights), losses[[1, 41]]
    evidence.compare("loss in epoch 0", {"printed": printed[0], "of the weights beside it": of_printed_weights[0]})
    assert epochs == (0, 40)
    trials.always((of_printed_weights == of_next_epoch).all(0).numpy(), name="weights of the next epoch's loss")
    trials.always((of_printed_weights[0] < printed[0]).numpy(), name="in epoch 0 lower than the printed loss")


OPTIMIZERS = {
    "SGD": torch.optim.SGD,
    "SGD with momentum": partial(torch.optim.SGD, momentum=0.5),
    "SGD with weight decay": partial(torch.optim.SGD, weight_decay=0.1),
    "Adam": torch.optim.Adam,
}


@claim(
    "pytorch-notes/zero-grad-position-is-free-before-backward",
    finding="The losses of all epochs have the same bits, also with momentum, with weight decay and with Adam.",
    controls=[override("after backward", order=TOO_LATE), override("nowhere", order=SKIPPED)],
    trials=20,
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("order", [FIRST, LAST], ids=["top of the loop", "after step"])
def test_zero_grad_may_stand_anywhere_between_step_and_backward(order, optimizer, trials):
    before_backward, elsewhere = (
        torch.stack(Copies(trials.seeds, optimizer=OPTIMIZERS[optimizer]).run(tried, epochs=20).losses)
        for tried in (REPAIRED, order)
    )
    trials.always((before_backward == elsewhere).all(0).numpy(), name="the same losses")


@claim(
    "pytorch-notes/zero-grad-between-backward-and-step-stops-learning",
    finding="All gradients are None, so that step() skips the parameters: they keep every bit, also with momentum, "
    "with weight decay and with Adam.",
    controls=[override("in front of backward", order=REPAIRED)],
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_zero_grad_after_backward_leaves_the_parameters_unchanged(optimizer, order=TOO_LATE):
    listing = Introduction(optimizer=OPTIMIZERS[optimizer])
    before = parameters_to_vector(listing.model.parameters())
    listing.run(order, epochs=20)
    assert torch.equal(parameters_to_vector(listing.model.parameters()), before)
    listing.run(REPAIRED, epochs=1)
    assert not torch.equal(parameters_to_vector(listing.model.parameters()), before)


@claim(
    "pytorch-notes/backward-accumulates-without-zero-grad",
    finding="The outputs of x = 1 and 2 give the weight a gradient of 3 and the bias one of 2; after the second pass "
    "they hold 6 and 4.",
    controls=[override("zeroed in between", clear=nn.Module.zero_grad)],
)
def test_a_second_backward_doubles_the_gradients_of_a_layer(clear=nn.Module.eval):
    layer = nn.Linear(1, 1)
    shown = []
    for _ in range(2):
        clear(layer)
        layer(X[:2]).sum().backward()
        shown.append((layer.weight.grad.item(), layer.bias.grad.item()))
    assert shown == [(3, 2), (6, 4)]


@claim(
    "pytorch-notes/skipping-zero-grad-hurts-the-intro-fit",
    verdict=CONDITIONAL,
    finding="At lr 0.01 the growing steps swing past the line and back: the error ends at 2.9 instead of 0.004 "
    "(medians), and is higher in 99.97 % of 200,000 seeds; in the rest the swing just then crosses the line. At lr "
    "0.00001, where steps are too small, their growth helps: the error is lower in each of 60,000 seeds. (Seeds "
    "counted once, outside this run.)",
    controls=[override("zeroed after all", skipping=REPAIRED)],
    trials=TRIALS,
)
def test_skipping_zero_grad_hurts_unless_the_learning_rate_is_tiny(learning_curves, trials, evidence, skipping=SKIPPED):
    skipped, zeroed, tiny_skipped, tiny_zeroed = (
        learning_curves(order, lr) for lr in (0.01, 1e-5) for order in (skipping, REPAIRED)
    )
    medians = {"skipped": skipped.median(1).values, "zero_grad": zeroed.median(1).values}
    evidence.curve("median of the mean squared error, lr 0.01", range(EPOCHS + 1), medians, "epoch")
    trials.less(zeroed[-1], skipped[-1], at_least=0.9, name="lr 0.01: higher without zero_grad")
    trials.less(tiny_skipped[-1], tiny_zeroed[-1], at_least=0.9, name="lr 0.00001: lower without zero_grad")


zero_grad = torch.optim.Optimizer.zero_grad


@claim(
    "pytorch-notes/zero-grad-sets-grad-to-none",
    verdict=REFUTED,
    finding="They become None, by default since torch 2.0; set_to_none=False fills them with zeros. The difference "
    "shows under weight decay or momentum: step() skips a parameter without a gradient, but moves one of zeros.",
    controls=[
        replace(
            "torch.optim.Optimizer.zero_grad",
            lambda optimizer, set_to_none=False: zero_grad(optimizer, set_to_none),
            name="zeros by default",
        )
    ],
)
@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_zero_grad_takes_the_gradients_away(optimizer):
    listing = Introduction(optimizer=partial(getattr(torch.optim, optimizer), weight_decay=0.1))
    parameters = list(listing.model.parameters())
    listing.run("forward backward zero_grad", epochs=1)
    assert [parameter.grad for parameter in parameters] == [None] * 4
    before = parameters[0].detach().clone()
    listing.optimizer.step()
    assert torch.equal(parameters[0], before)
    listing.run("forward backward", epochs=1).optimizer.zero_grad(set_to_none=False)
    assert not any(parameter.grad.any() for parameter in parameters)
    listing.optimizer.step()
    assert not torch.equal(parameters[0], before)


@claim(
    "pytorch-notes/intro-listing-works-on-accelerator",
    verdict=REFUTED,
    finding="Only the data are moved. The model stays on the CPU, and the first forward pass raises RuntimeError. "
    "After model.to(device) the epochs run. Shown with the meta device in place of a GPU.",
    controls=[override("the data on the CPU too", device="cpu"), override("the model isn't moved", moved="cpu")],
)
def test_the_model_has_to_be_moved_as_the_data_are(device="meta", moved="meta"):
    with pytest.raises(RuntimeError, match=r"device.*(cpu|meta)"):
        Introduction(device=device).run(STANDARD, epochs=1)
    assert error_of(Introduction(device="meta", moved=moved).run, STANDARD, epochs=3) is None


@claim(
    "pytorch-notes/intro-listing-works-on-accelerator",
    verdict=REFUTED,
    finding="On a GPU the same: RuntimeError, and after model.to(device) the loss falls as on the CPU.",
    controls=[override("the data on the CPU too", device="cpu"), override("the model isn't moved", moved="cpu")],
)
@pytest.mark.gpu
def test_on_a_gpu_the_model_has_to_be_moved_as_the_data_are(evidence, device="cuda", moved="cuda"):
    with pytest.raises(RuntimeError, match=r"device.*(cpu|cuda)"):
        Introduction(device=device).run(STANDARD, epochs=1)
    on_gpu = Introduction(device="cuda", moved=moved)
    assert error_of(on_gpu.run, STANDARD) is None
    losses = torch.stack(on_gpu.losses).cpu()
    evidence.curve("loss on the GPU", range(EPOCHS), {"model moved": losses}, "epoch")
    assert losses[-1] < losses[0] / 2
