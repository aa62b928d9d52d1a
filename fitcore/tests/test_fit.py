"""`fit` is held against a loop written out, and a resumed run against one that went through."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn, optim
from torch.optim import lr_scheduler
from torch.testing import assert_close
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from fitcore.evaluation.peak_memory import PeakMemory
from fitcore.seeding import seeded
from fitcore.training import EarlyStopping, fit

exactly = partial(assert_close, rtol=0.0, atol=0.0, equal_nan=True)
cross_entropy = nn.functional.cross_entropy


def network():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))


def data(n=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 4, generator=generator), torch.randint(3, (n,), generator=generator)


def accuracy(outputs, targets):
    return (outputs.argmax(1) == targets).float().mean()


def loader(sampler=None, **settings):
    return DataLoader(TensorDataset(*data()), batch_size=6, shuffle=sampler is None, sampler=sampler, **settings)


def written_out(model, optimizer, batches, epochs, *, validation=None, scheduler=None, max_norm=None):
    """The loop of a textbook: losses, validation losses, norms."""
    losses, validation_losses, norms = [], [], []
    for _ in range(epochs):
        model.train()
        total = torch.tensor(0.0, dtype=torch.float64)
        for x, y in batches:
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()
            if max_norm:
                norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), max_norm)))
            optimizer.step()
            total += loss.detach().double() * len(y)
        losses.append(float(total) / 20)
        model.eval()
        with torch.no_grad():
            validation_losses.append(float(cross_entropy(model(validation[0]), validation[1])) if validation else None)
        if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
            scheduler.step(validation_losses[-1])
        elif scheduler:
            scheduler.step()
    return losses, validation_losses, norms


@pytest.mark.parametrize("make_optimizer", [partial(optim.SGD, lr=0.1, momentum=0.9), partial(optim.Adam, lr=0.01)])
@pytest.mark.parametrize(
    "make_scheduler",
    [
        lambda optimizer: lr_scheduler.StepLR(optimizer, 2, 0.5),
        lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, patience=0),
    ],
    ids=["StepLR", "plateau"],
)
@pytest.mark.parametrize("max_norm", [None, 0.5])
def test_fit_is_the_loop_of_a_textbook(make_optimizer, make_scheduler, max_norm):
    with seeded(1):
        model, twin = (network() for _ in range(2))
        twin.load_state_dict(model.state_dict())
    settings = {"epochs": 5, "validation": data(seed=1), "max_norm": max_norm}
    optimizer = make_optimizer(twin.parameters())
    with seeded(2):
        expected = written_out(twin, optimizer, loader(), scheduler=make_scheduler(optimizer), **settings)
    optimizer = make_optimizer(model.parameters())
    with seeded(2):
        history = fit(
            model,
            loader(),
            optimizer=optimizer,
            scheduler=make_scheduler(optimizer),
            loss=cross_entropy,
            metrics={"accuracy": accuracy},
            **settings,
        )
    exactly(model.state_dict(), twin.state_dict())
    assert history.losses.tolist() == expected[0]
    assert history.validation_losses.tolist() == pytest.approx(expected[1], rel=1e-7)
    assert (history.gradient_norms.tolist() if max_norm else []) == expected[2]
    assert history.learning_rates[0] == make_optimizer.keywords["lr"]
    assert history.best_epoch == 5
    outputs = model.eval()(settings["validation"][0])
    assert history.validation_metrics["accuracy"][-1] == accuracy(outputs, settings["validation"][1])
    assert history.metrics["accuracy"].shape == (5,)


def test_tensors_are_shuffled_anew_in_every_epoch_and_each_is_seen_once():
    seen = []

    class Spy(nn.Linear):
        def forward(self, x):
            seen.append(x[:, 0].clone())
            return super().forward(x)

    model, x = Spy(1, 1), torch.arange(7.0)[:, None]
    fit(model, (x, x), epochs=3, batch_size=3, optimizer=optim.SGD(model.parameters(), lr=0.0), loss=nn.MSELoss())
    assert [len(batch) for batch in seen] == [3, 3, 1] * 3
    epochs = [torch.cat(seen[start : start + 3]) for start in (0, 3, 6)]
    assert all(sorted(epoch.tolist()) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 3


def test_losses_are_means_over_samples_also_where_the_last_batch_is_small():
    model, (x, y) = nn.Linear(4, 3).double(), data(n=7)
    expected = cross_entropy(model(x.double()), y)
    frozen = optim.SGD(model.parameters(), lr=0.0)
    history = fit(model, (x.double(), y), epochs=2, batch_size=3, optimizer=frozen, loss=cross_entropy)
    assert_close(history.losses, expected.expand(2))


@pytest.mark.parametrize(("batch_size", "accumulate"), [(5, 4), (5, 3), (6, 2), (3, 100)])
def test_accumulated_gradients_are_those_of_the_large_batch(batch_size, accumulate):
    x, y = data(n=20)
    model, twin = nn.Linear(4, 3).double(), nn.Linear(4, 3).double()
    twin.load_state_dict(model.state_dict())
    batches = list(zip(x.double().split(batch_size), y.split(batch_size), strict=True))
    large = list(zip(x.double().split(batch_size * accumulate), y.split(batch_size * accumulate), strict=True))
    for trained, data_of, steps in ((model, batches, accumulate), (twin, large, 1)):
        optimizer = optim.SGD(trained.parameters(), lr=0.5)
        fit(trained, data_of, epochs=3, accumulate=steps, optimizer=optimizer, loss=cross_entropy)
    assert_close(model.state_dict(), twin.state_dict())


def test_a_scheduler_may_step_after_every_update():
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5)
    settings = {"optimizer": optimizer, "scheduler": scheduler, "schedule_every": "batch", "loss": cross_entropy}
    history = fit(model, data(), epochs=2, batch_size=5, accumulate=2, **settings)
    assert history.learning_rates.tolist() == [1.0, 0.25]


def test_early_stopping_leaves_the_best_model():
    model, held_out = network(), data(seed=1)
    optimizer = optim.SGD(model.parameters(), lr=2.0)
    stopping = EarlyStopping(patience=3)
    history = fit(
        model,
        data(),
        epochs=200,
        optimizer=optimizer,
        loss=cross_entropy,
        validation=held_out,
        early_stopping=stopping,
    )
    best = int(history.validation_losses.argmin())
    assert history.best_epoch == best + 1
    assert len(history.losses) == best + 1 + stopping.patience < 200
    left = cross_entropy(model.eval()(held_out[0]), held_out[1])
    assert_close(left.double(), history.validation_losses[best], check_dtype=False)
    assert stopping.best == torch.inf, "the caller's early stopping is a pattern"


def test_a_model_that_never_improves_is_left_as_it_was():
    model = network()
    before = deepcopy(model.state_dict())
    x, y = data()
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    stopping = {"validation": (x * torch.nan, y), "early_stopping": EarlyStopping(2)}
    history = fit(model, (x, y), epochs=9, optimizer=optimizer, loss=cross_entropy, **stopping)
    exactly(model.state_dict(), before)
    assert (history.best_epoch, len(history.losses)) == (0, 2)


class Interrupted(Exception):
    pass


class Stops:
    """Batches that are interrupted in the middle of an epoch."""

    def __init__(self, batches, epoch):
        self.batches, self.left = batches, epoch
        self.generator, self.sampler = batches.generator, batches.sampler

    def __iter__(self):
        for index, batch in enumerate(self.batches):
            if self.left == 0 and index == 1:
                raise Interrupted
            yield batch
        self.left -= 1


SCHEDULERS = {
    "StepLR": lambda optimizer: lr_scheduler.StepLR(optimizer, 2, 0.5),
    "plateau": lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, patience=0),
    "none": lambda optimizer: None,
}


@pytest.mark.parametrize("make_scheduler", SCHEDULERS.values(), ids=SCHEDULERS)
@pytest.mark.parametrize(
    ("own_order", "stopping", "interrupted_in"),
    [(False, None, 1), (True, EarlyStopping(3), 3)],
    ids=["global order", "order of its own, early stopping"],
)
def test_a_resumed_run_goes_on_to_the_bit(tmp_path, interrupted_in, make_scheduler, own_order, stopping):
    def run(path, resume=False, epoch=None):
        with seeded(5 if not resume else 6):  # a new process has another random state
            model = network()
            optimizer = optim.Adam(model.parameters(), lr=0.05)
            generator = torch.Generator().manual_seed(7 if not resume else 8)
            batches = loader(sampler=RandomSampler(range(20), generator=generator)) if own_order else loader()
            history = fit(
                model,
                batches if epoch is None else Stops(batches, epoch),
                epochs=6,
                optimizer=optimizer,
                scheduler=make_scheduler(optimizer),
                loss=cross_entropy,
                validation=data(seed=1),
                max_norm=1.0,
                early_stopping=stopping,
                checkpoint=path,
                resume=resume,
            )
        return history, model.state_dict(), optimizer.state_dict()

    through = run(tmp_path / "through.pt")
    with pytest.raises(Interrupted):
        run(tmp_path / "interrupted.pt", epoch=interrupted_in)
    resumed = run(tmp_path / "interrupted.pt", resume=True)
    exactly(vars(resumed[0]), vars(through[0]))
    exactly(resumed[1:], through[1:])
    again = run(tmp_path / "interrupted.pt", resume=True)
    exactly(again[1], through[1])


def test_resuming_without_a_file_starts_from_the_beginning(tmp_path):
    model = network()
    settings = {"optimizer": optim.SGD(model.parameters(), lr=0.1), "loss": cross_entropy}
    history = fit(model, data(), epochs=2, checkpoint=tmp_path / "new.pt", resume=True, **settings)
    assert len(history.losses) == 2
    assert (tmp_path / "new.pt").exists()


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path, model, smaller, other = tmp_path / "run.pt", network(), nn.Linear(4, 3), network()
    other[0], sgd = nn.Linear(5, 8), partial(optim.SGD, lr=0.1)
    fit(model, data(), epochs=1, optimizer=sgd(model.parameters()), loss=cross_entropy, checkpoint=path)
    again = {"epochs": 2, "loss": cross_entropy, "checkpoint": path, "resume": True}
    with pytest.raises(ValueError, match=r"0\.weight"):
        fit(other, data(), optimizer=sgd(other.parameters()), **again)
    with pytest.raises(ValueError, match=r"a run with parameter groups of \[6\], this one has \[2\]"):
        fit(smaller, data(), optimizer=sgd(smaller.parameters()), **again)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"validation": data()}, "a run with validation False, this one has True"),
        (
            {"early_stopping": EarlyStopping(1), "validation": data()},
            "a run with early_stopping False, this one has True",
        ),
        ({"metrics": {"accuracy": accuracy}}, r"a run with metrics \[\], this one has \['accuracy'\]"),
        ({"scheduler": True}, "a run with scheduler None, this one has ExponentialLR"),
        ({"optimizer": optim.Adam}, "a run with optimizer SGD, this one has Adam"),
        ({"training": loader(generator=torch.Generator())}, "a run with generators 0, this one has 1"),
    ],
    ids=["validation", "early stopping", "metrics", "scheduler", "optimizer", "generators"],
)
def test_a_checkpoint_of_a_run_with_other_settings_is_refused_before_anything_is_loaded(tmp_path, changed, says):
    path, model = tmp_path / "run.pt", network()
    settings = {"training": data(), "epochs": 1, "optimizer": optim.SGD, "loss": cross_entropy, "checkpoint": path}

    def run(**settings):
        optimizer = settings.pop("optimizer")(model.parameters(), lr=0.1)
        scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5) if settings.pop("scheduler", None) else None
        return fit(model, optimizer=optimizer, scheduler=scheduler, **settings)

    run(**settings)
    before = deepcopy(model.state_dict())
    run(**settings | {"checkpoint": None})
    moved = deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=says):
        run(**settings | {"epochs": 2, "resume": True} | changed)
    exactly(model.state_dict(), moved)
    run(**settings | {"resume": True})
    exactly(model.state_dict(), before)


def test_a_checkpoint_that_another_program_wrote_is_refused(tmp_path):
    model = network()
    torch.save({"epoch": 3, "model_state_dict": model.state_dict()}, tmp_path / "other.pt")
    settings = {"optimizer": optim.SGD(model.parameters(), lr=0.1), "loss": cross_entropy}
    with pytest.raises(ValueError, match="the file is no checkpoint of fit: it has no best, epochs"):
        fit(model, data(), epochs=2, checkpoint=str(tmp_path / "other.pt"), resume=True, **settings)


@pytest.mark.parametrize("validation", [None, data(seed=1)], ids=["alone", "validated"])
def test_the_model_is_left_in_evaluation_mode(validation):
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    fit(model, data(), epochs=1, optimizer=optimizer, loss=cross_entropy, validation=validation)
    assert not any(module.training for module in model.modules())


def test_the_metrics_are_those_that_were_asked_for():
    model = network()
    settings = {"epochs": 1, "optimizer": optim.SGD(model.parameters(), lr=0.1), "loss": cross_entropy}
    assert fit(model, data(), **settings, validation=data()).metrics == {}
    history = fit(model, data(), **settings, validation=data(), metrics={"accuracy": accuracy})
    assert history.metrics.keys() == history.validation_metrics.keys() == {"accuracy"}


def test_validation_records_no_graph():
    model, recorded = network(), []

    def watched(outputs, targets):
        recorded.append(outputs.requires_grad)
        return cross_entropy(outputs, targets)

    optimizer = optim.SGD(model.parameters(), lr=0.1)
    fit(model, data(), epochs=1, optimizer=optimizer, loss=watched, validation=data(seed=1))
    assert recorded == [True, False]


@pytest.mark.parametrize("progress", [False, True])
def test_the_progress_bar_is_quiet_where_nobody_looks(progress, capfd):
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    fit(model, data(), epochs=2, optimizer=optimizer, loss=cross_entropy, progress=progress)
    assert capfd.readouterr() == ("", "")


def test_the_progress_bar_shows_epochs_and_loss_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    model = nn.Linear(4, 3)
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    history = fit(model, data(), epochs=2, optimizer=optimizer, loss=cross_entropy, progress=True)
    assert "2/2" in (shown := capsys.readouterr().err)
    assert f"loss={history.losses[-1]:.3g}" in shown
    fit(model, data(), epochs=2, optimizer=optimizer, loss=cross_entropy)
    assert not capsys.readouterr().err, "unless it was asked for"


def test_an_epoch_keeps_no_graph_of_the_batches_before():
    (x, y), peaks = data(n=1000), []
    for batches in (2, 8):
        model, metrics = nn.Linear(4, 3), {"size": lambda outputs, targets: outputs.square().sum()}
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        with PeakMemory(x, y, *model.parameters()) as memory:
            fit(model, [(x, y)] * batches, epochs=1, optimizer=optimizer, loss=cross_entropy, metrics=metrics)
        peaks.append(memory.peak)
    assert peaks[1] - peaks[0] < x.nbytes


def test_the_rate_that_is_kept_is_that_of_the_first_parameter_group():
    weight, bias = (model := nn.Linear(4, 3)).parameters()
    optimizer = optim.SGD([{"params": [weight], "lr": 0.1}, {"params": [bias], "lr": 0.2}])
    assert fit(model, data(), epochs=1, optimizer=optimizer, loss=cross_entropy).learning_rates.tolist() == [0.1]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"accumulate": 0}, "accumulate must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"max_norm": 0.0}, "max_norm must be positive, got 0.0"),
        ({"max_norm": -1.0}, "max_norm must be positive, got -1.0"),
        ({"max_norm": torch.nan}, "max_norm must be positive, got nan"),
        ({"schedule_every": "step"}, "schedule_every must be 'epoch' or 'batch', got 'step'"),
        ({"early_stopping": EarlyStopping(1)}, "early_stopping needs validation data"),
        ({"resume": True}, "resume needs a checkpoint"),
        ({"metrics": {"loss": accuracy}}, "metrics must have names other than 'loss'"),
        ({"training": (torch.ones(3, 4), torch.ones(2))}, "inputs and targets must be as many, got 3 and 2"),
        ({"training": iter([]), "batch_size": 2}, "batch_size is for a pair of tensors"),
        ({"training": []}, "data must have at least one batch in every epoch"),
        ({"training": iter([data()]), "epochs": 2}, "an iterator is used up by the first"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else None,
)
def test_settings_that_make_no_sense_are_refused(settings, says):
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=says):
        fit(model, **{"training": data(), "epochs": 1, "optimizer": optimizer, "loss": cross_entropy} | settings)


def test_a_plateau_cannot_step_after_every_update():
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    plateau = lr_scheduler.ReduceLROnPlateau(optimizer)
    with pytest.raises(ValueError, match="ReduceLROnPlateau sees a loss after each epoch"):
        fit(
            model,
            data(),
            epochs=1,
            optimizer=optimizer,
            loss=cross_entropy,
            scheduler=plateau,
            schedule_every="batch",
        )
