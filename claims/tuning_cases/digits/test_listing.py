"""Case 1 as printed: where its listing stops, the smallest repair, and what its sizes and averages come to.

There is nothing to download from: torchvision reads embedded digits, from files written as the original's are.
"""

from dataclasses import dataclass

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given, settings
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import MNIST, Flowers102

from fitcore.data import cifar10, mnist
from fitcore.data.idx import write_mnist
from fitcore.data.splits import train_validation_split
from fitcore.models import number_of_parameters
from fitcore.testing import REFUTED, claim, error_of, override
from fitcore.training import fit

as_in_the_listing = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])


class PrintedCNN(nn.Module):
    """The printed network, which expects 9,216 values of each image after its second pooling.

    ``first_pool`` and ``by_view`` are what a repair changes: the window of the first pooling, and whether ``view``
    may choose the number of rows.
    """

    def __init__(self, flat=9216, *, widths=(32, 64), first_pool=2, by_view=True, after_hidden=nn.Identity):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, widths[0], 3), nn.Conv2d(*widths, 3)
        self.fc1, self.fc2 = nn.Linear(flat, 128), nn.Linear(128, 10)
        self.after_hidden, self.first_pool, self.by_view = after_hidden(), first_pool, by_view

    def maps(self, x):
        x = nn.functional.max_pool2d(self.conv1(x).relu(), self.first_pool)
        return nn.functional.max_pool2d(self.conv2(x).relu(), 2)

    def rows(self, x):
        """What the first linear layer is given."""
        maps = self.maps(x)
        return maps.view(-1, self.fc1.in_features) if self.by_view else maps.flatten(1)

    def forward(self, x):
        return nn.functional.log_softmax(self.fc2(self.after_hidden(self.fc1(self.rows(x)).relu())), dim=1)


def evaluate(model, loader):
    """Accuracy and macro F1, as the listing takes them."""
    targets, predictions = [], []
    with torch.no_grad():
        for x, y in loader:
            predictions += model.eval()(x).argmax(1).tolist()
            targets += y.tolist()
    return {"acc": accuracy_score(targets, predictions), "f1": f1_score(targets, predictions, average="macro")}


def nothing(folder, flat):
    """What the listing does for its first checkpoint."""


def save_initial(folder, flat):
    torch.save(PrintedCNN(flat).state_dict(), folder / "simple_cnn_init.pth")


@dataclass(frozen=True)
class Run:
    """What the listing prints, {"acc": ..., "f1": ...} each, and the digits (n, 1, 28, 28) that it used for it."""

    initial: dict[str, float]
    improved: dict[str, float]
    learned_from: Tensor
    evaluated_on: Tensor


def part(folder, train):
    return MNIST(folder, train=train, transform=as_in_the_listing, download=True)


def images_of(digits):
    return torch.stack([image for image, _ in digits])


def as_printed(training, test):
    """The digits to learn from, and those to evaluate on."""
    return training, test


def case_one(folder, flat=9216, prepare=nothing, parts=as_printed, epochs=5):
    """The listing from its first line to its last, on what digits it finds; the folder is its working directory."""
    prepare(folder, flat)
    training, test = parts(part(folder, True), part(folder, False))
    test_loader, model = DataLoader(test, batch_size=64), PrintedCNN(flat)
    model.load_state_dict(torch.load(folder / "simple_cnn_init.pth"))
    initial = evaluate(model, test_loader)
    improved = PrintedCNN(flat, after_hidden=nn.Dropout)
    fit(
        improved,
        DataLoader(training, batch_size=64, shuffle=True),
        epochs=epochs,
        optimizer=torch.optim.Adam(improved.parameters(), lr=0.001, weight_decay=1e-4),
        loss=nn.NLLLoss(),
    )
    torch.save(improved.state_dict(), folder / "simple_cnn_improved.pth")
    model = PrintedCNN(flat, after_hidden=nn.Dropout)
    model.load_state_dict(torch.load(folder / "simple_cnn_improved.pth"))
    return Run(initial, evaluate(model, test_loader), images_of(training), images_of(test))


@pytest.fixture
def folder(tmp_path, data_root):
    """A fresh directory, with 128 digits to learn from and 100 for the test where torchvision looks for MNIST."""
    write_mnist(tmp_path, mnist(data_root)[:128], mnist(data_root, train=False)[:100])
    return tmp_path


@claim(
    "tuning-cases/listings-run-as-is",
    verdict=REFUTED,
    finding="The first stops twice. It loads simple_cnn_init.pth, which nothing has saved: a FileNotFoundError. "
    "With such a file its first batch of 64 ends in view: 102,400 values don't make rows of 9,216. With Linear(1600, "
    "128) and a checkpoint of that network it runs to the end.",
    controls=[override("a checkpoint that is there", prepare=save_initial), override("1,600 values", flat=1600)],
)
def test_the_first_listing_stops_at_its_checkpoint_and_at_its_first_batch(folder, evidence, flat=9216, prepare=nothing):
    missing, misshapen = error_of(case_one, folder, flat, prepare), error_of(case_one, folder, flat, save_initial)
    stops = {"in a fresh directory": missing, "given the checkpoint": misshapen}
    evidence.table("where it stops", [{"run": run, "error": type(error).__name__} for run, error in stops.items()])
    assert isinstance(missing, FileNotFoundError)
    assert "simple_cnn_init.pth" in str(missing)
    assert isinstance(misshapen, RuntimeError)
    assert "'[-1, 9216]' is invalid for input of size 102400" in str(misshapen)
    run = case_one(folder, 1600, save_initial)
    assert run.initial["acc"] < 0.4  # untrained
    assert run.improved["acc"] > 0.25  # after ten updates


@claim(
    "tuning-cases/initial-checkpoints-are-never-created",
    finding="Each case trains and saves only its improved model, under another name.",
    controls=[override("saved by somebody else", name_of="{}_init.pth")],
)
@pytest.mark.parametrize("model", ["simple_cnn", "flower_cnn", "regressor"])
def test_initial_checkpoints_are_not_found(tmp_path, model, name_of="{}_improved.pth"):
    torch.save({}, tmp_path / name_of.format(model))
    initial = f"{model}_init.pth"
    with pytest.raises(FileNotFoundError, match=initial):
        torch.load(tmp_path / initial)


@claim(
    "tuning-cases/mnist-cnn-runs-batch-64",
    verdict=REFUTED,
    finding="A RuntimeError: view can't make rows of 9,216 of 64 · 1,600 values. It can of multiples of 144 images "
    "only. Either of two repairs gives (64, 10): Linear(1600, 128), or no first pooling, with which the maps are 12 x "
    "12 and 9,216 is right.",
    controls=[override("1,600 values", repair={"flat": 50}), override("one pooling", repair={"first_pool": 1})],
)
@example(batch=64, repair={})
@example(batch=144, repair={})
@given(batch=st.integers(1, 300), repair=st.just({}))
@settings(max_examples=6)
def test_the_printed_network_takes_multiples_of_144_digits_alone(batch, repair):
    x, narrow = torch.ones(batch, 1, 28, 28), {"flat": 288, "widths": (1, 2)}  # as 9,216 is to 64 channels
    error = error_of(PrintedCNN(**narrow | repair), x)
    assert (error is None) == (batch % 144 == 0)
    assert (f"shape '[-1, 288]' is invalid for input of size {50 * batch}" in str(error)) == (error is not None)
    for repaired in ({"flat": 50}, {"first_pool": 1}):
        assert PrintedCNN(**narrow | repaired)(x).shape == (batch, 10)


@claim(
    "tuning-cases/mnist-cnn-flat-size-9216",
    verdict=REFUTED,
    finding="It is 64 x 5 x 5 = 1,600: 28, 26, 13, 11, 5. 12 x 12 is what two convolutions with a single pooling "
    "leave: 28, 26, 24, 12.",
    controls=[override("one pooling", first_pool=1)],
)
@example(side=28, first_pool=2)
@given(side=st.integers(10, 40), first_pool=st.just(2))
def test_a_digit_becomes_maps_of_5x5(side, first_pool):
    def maps(side, **settings):
        return PrintedCNN(1, **settings).maps(torch.ones(1, 1, side, side))[0]

    assert maps(28, first_pool=first_pool).shape == (64, 5, 5)
    assert maps(28, first_pool=1).shape == (64, 12, 12)
    assert maps(side, first_pool=first_pool, widths=(1, 2)).shape[1] == ((side - 2) // 2 - 2) // 2


@claim(
    "tuning-cases/mnist-view-minus-one-mixes-images-b144",
    finding="Each of the 25 rows has values of six or seven images. In training the loss stops it, which has 25 rows "
    "for 144 labels, and in evaluation accuracy_score does. flatten(1) would have named the sizes at once.",
    controls=[override("flatten(1)", by_view=False)],
)
def test_view_makes_25_rows_of_144_digits(by_view=True):
    model = PrintedCNN(288, widths=(1, 2), by_view=by_view)
    x = torch.ones(144, 1, 28, 28)
    assert error_of(model, x) is None
    assert model(x).shape == (25, 10)
    images = torch.arange(144.0).view(-1, 1, 1, 1).expand(-1, 2, 5, 5)
    model.maps = lambda _: images.contiguous()
    assert {len(row.unique()) for row in model.rows(x)} == {6, 7}
    labels = torch.zeros(144, dtype=torch.long)
    assert "batch_size (25) to match target batch_size (144)" in str(error_of(nn.NLLLoss(), model(x), labels))
    assert "[144, 25]" in str(error_of(evaluate, model, [(x, labels)]))
    assert "(144x50 and 288x128)" in str(error_of(PrintedCNN(288, widths=(1, 2), by_view=False), x))


@claim(
    "tuning-cases/mnist-cnn-parameter-count-printed",
    finding="98 % of them, 1,179,776, in the linear layer that doesn't fit; the repaired network has 225,034.",
    controls=[override("1,600 values", flat=1600)],
)
def test_the_printed_network_has_1199882_parameters(flat=9216):
    model = PrintedCNN(flat)
    counts = [number_of_parameters(layer) for layer in (model.conv1, model.conv2, model.fc1, model.fc2)]
    assert counts == [320, 18_496, 1_179_776, 1_290]
    assert number_of_parameters(model) == sum(counts) == 1_199_882
    assert number_of_parameters(PrintedCNN(1600)) == 225_034


def unlike(x):
    """Digits with exchanged shades."""
    return 1 - x


@pytest.fixture
def tolerance(data_root):
    """Half a unit of the last printed digit, and for the embedded ones five standard errors of 8,000 images."""
    return 2.5e-3 if data_root is None else 5e-5


@claim(
    "tuning-cases/normalize-constants-are-mnist-mean-std",
    finding="Of the 8,000 embedded training digits they are 0.1310 and 0.3086.",
    controls=[override("exchanged shades", seen=unlike), override("photographs", load=cifar10)],
)
def test_the_constants_are_mean_and_standard_deviation_of_the_digits(
    data_root, evidence, tolerance, load=mnist, seen=torch.clone
):
    pixels = seen(load(data_root).scaled).double()
    printed, measured = [0.1307, 0.3081], [pixels.mean(), pixels.std()]
    assert evidence.figure("mean, standard deviation", reported=printed, measured=measured, tolerance=tolerance)


def in_points(before, after):
    return 100 * (after - before)


def relative(before, after):
    return 100 * (after - before) / before


@claim(
    "tuning-cases/mnist-gain-arithmetic-points-not-percent",
    finding="They are percentage points. Relative to the accuracy before, the gain is 1.70 %; of the errors it would "
    "take 60 %, from 2.75 to 1.10 in a hundred.",
    controls=[override("relative to the figure before", gain=relative)],
)
@pytest.mark.parametrize(("before", "after", "printed"), [(0.9725, 0.9890, "1.65"), (0.9723, 0.9889, "1.66")])
def test_the_printed_gains_are_differences_in_points(before, after, printed, gain=in_points):
    assert f"{gain(before, after):.2f}" == printed
    assert f"{relative(before, after):.1f}" == "1.7"
    assert round(relative(1 - before, 1 - after)) == -60


@claim(
    "tuning-cases/mnist-batch-counts-938-157",
    finding="The last training batch has 32 digits, and the last test batch 16.",
    controls=[override("the last batch dropped", drop_last=True)],
)
def test_the_loaders_have_938_and_157_batches(evidence, drop_last=False):
    loaders = [DataLoader(range(n), batch_size=64, drop_last=drop_last) for n in (60_000, 10_000)]
    sizes = [[len(batch) for batch in loader] for loader in loaders]
    measured = [len(of_loader) for of_loader in sizes]
    assert evidence.figure("batches", reported=[938, 157], measured=measured, tolerance=0)
    assert [of_loader[-1] for of_loader in sizes] == [32, 16]


def printed_average(losses, batch_size):
    """Sum of the batches' mean losses over their number."""
    return torch.stack([batch.mean() for batch in losses.split(batch_size)]).mean()


def weighted_average(losses, batch_size):
    """The same with each batch weighted by its size."""
    return sum(batch.mean() * len(batch) for batch in losses.split(batch_size)) / len(losses)


@claim(
    "tuning-cases/mnist-printed-loss-is-epoch-mean",
    verdict=REFUTED,
    finding="Not quite: the last batch, of 32, counts like one of 64, and the printed average is off by 0.000533 of "
    "what its loss differs from the others'. It seldom moves more than the last of four decimals, "
    "and is nothing where all batches are of one size. Weighted by their sizes, batches give the mean.",
    controls=[override("weighted batches", average=weighted_average), override("batches of 60", batch_size=60)],
    trials=5,
)
def test_the_printed_average_gives_the_last_batch_twice_its_weight(
    trials, evidence, average=printed_average, batch_size=64
):
    losses = trials.map(lambda seed: torch.empty(60_000, dtype=torch.float64).exponential_(10.0))
    losses = torch.from_numpy(losses)
    printed = torch.stack([average(of_trial, batch_size) for of_trial in losses])
    lasts, others = losses[:, -32:].mean(1), losses[:, :-32].mean(1)
    evidence.observe("printed average minus mean", printed - losses.mean(1))
    assert_close(printed - losses.mean(1), (lasts - others) * (1 / 938 - 32 / 60_000))
    trials.always(printed != losses.mean(1), name="not the mean")
    even = torch.stack([printed_average(of_trial, 60) for of_trial in losses])
    assert_close(even, losses.mean(1), rtol=1e-12, atol=0)


def a_tenth_held_out(training, test):
    """Indices of the training digits to learn from, and the digits to evaluate on."""
    learning, held_out = train_validation_split(len(training), 0.1)
    return Subset(training, learning.tolist()), Subset(training, held_out.tolist())


@claim(
    "tuning-cases/validation-accuracy-uses-a-validation-split",
    verdict=REFUTED,
    finding="Both listings load a training and a test part, train on all of the one and evaluate on the other: what is "
    "called validation accuracy is test accuracy. MNIST has no third part, so that one must be held out of its "
    "training digits; Flowers102 has one, 'val', which isn't used.",
    controls=[override("a tenth of the training digits held out", parts=a_tenth_held_out)],
)
def test_the_listing_learns_from_all_training_digits_and_evaluates_on_the_test(folder, parts=as_printed):
    run = case_one(folder, 1600, save_initial, parts, epochs=1)  # only for the digits that it uses
    assert torch.equal(run.learned_from, images_of(part(folder, True)))
    assert torch.equal(run.evaluated_on, images_of(part(folder, False)))
    learning, held_out = a_tenth_held_out(part(folder, True), None)
    assert (len(learning), len(held_out)) == (116, 12)
    assert not {*learning.indices} & {*held_out.indices}
    assert "'val'" in str(error_of(Flowers102, folder, split="validation"))
