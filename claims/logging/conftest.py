"""The document's complete example, trained and logged, and TensorBoard's web page of a folder."""

import shutil
import tempfile
import warnings
import weakref
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, TensorDataset

from fitcore.evaluation.event_files import EventFiles

HYPERPARAMETERS = {
    "learning_rate": 0.01,
    "batch_size": 32,
    "hidden_size": 20,
    "optimizer": "Adam",
    "loss_function": "MSE",
    "epochs": 200,
    "dropout_rate": 0.1,
}


@dataclass(eq=False)
class Example:
    """What a run of the example leaves, its folder included, and what it did besides.

    ``norms`` are those of the whole gradient whenever the example recorded one; ``improvements`` the epochs of a new
    best validation loss.
    """

    folder: Path
    model: nn.Module
    training: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    steps: int = 0
    norms: list[float] = field(default_factory=list)
    improvements: list[int] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)

    @property
    def events(self):
        """The event files of the run itself."""
        return EventFiles(self.folder)

    @property
    def sub_run(self):
        """Those of the one folder within it."""
        (folder,) = (path for path in self.folder.iterdir() if path.is_dir())
        return EventFiles(folder)


def regression_net():
    return nn.Sequential(nn.Linear(1, 20), nn.ReLU(), nn.Dropout(0.1), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 1))


def batches_of(dataset, sampler, drop_last=False):
    """Batches of 32, which the loader takes from the data set at once instead of sample by sample."""
    return DataLoader(dataset, sampler=BatchSampler(sampler(dataset), 32, drop_last), batch_size=None)


@dataclass(frozen=True)
class Options:
    """How the complete example is run.

    ``lean`` leaves out what takes long, and most claims don't read: graph, histograms and figure. The last five are
    what the example doesn't do: to count the steps of each epoch from 0, to let the scheduler step before the learning
    rate is logged, to save only the first model, to log the root of the sum of the
    squared norms, and to drop the last, smaller batch.
    """

    epochs: int = 200
    samples: int = 500
    lean: bool = False
    restart_steps: bool = False
    schedule_first: bool = False
    keep_first: bool = False
    root_of_squares: bool = False
    drop_last: bool = False


def logged_example(options):
    """Do what the complete example does."""
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

    x = torch.rand(options.samples, 1) * 10
    y = 3 * x + 2 + 1.5 * torch.randn(options.samples, 1)
    split = int(0.8 * options.samples)
    example = Example(Path(tempfile.mkdtemp()), regression_net(), (x[:split], y[:split]), (x[split:], y[split:]))
    weakref.finalize(example, shutil.rmtree, example.folder, ignore_errors=True)
    with SummaryWriter(example.folder) as writer:
        if not options.lean:
            writer.add_graph(example.model, torch.randn(1, 1))
        writer.add_text("Hyperparameters", "\n".join(f"{name}: {value}" for name, value in HYPERPARAMETERS.items()))
        best_loss = train(example, writer, options)
        example.model.load_state_dict(torch.load(example.folder / "best_model.pth"))
        example.model.eval()
        r2 = coefficient_of_determination(example.model)
        writer.add_scalar("Metrics/R2_Score", r2, 0)
        if not options.lean:
            writer.add_figure("Analysis/Predictions_and_Residuals", figure(example), 0)
        writer.add_hparams(HYPERPARAMETERS, {"best_val_loss": best_loss, "r2_score": r2, "total_steps": example.steps})
        writer.add_text("Summary", f"total steps: {example.steps}")
        writer.flush()
    return example


def train(example, writer, options):
    """The loop over the epochs; returns the best validation loss."""
    optimizer = torch.optim.Adam(example.model.parameters(), lr=0.01, fused=True)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=50, gamma=0.5)
    training = batches_of(TensorDataset(*example.training), RandomSampler, options.drop_last)
    validation = batches_of(TensorDataset(*example.validation), SequentialSampler)
    criterion, best_loss = nn.MSELoss(), float("inf")
    for epoch in range(options.epochs):
        example.model.train()
        losses = []
        for batch, (inputs, targets) in enumerate(training):
            step = batch if options.restart_steps else example.steps
            loss = criterion(example.model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            if batch % 50 == 0:
                record_gradients(example, writer, step, options)
            optimizer.step()
            losses.append(loss.item())
            writer.add_scalar("Loss/Batch_Train", loss.item(), step)
            example.steps += 1

        example.model.eval()
        with torch.no_grad():
            held_out = [criterion(example.model(inputs), targets).item() for inputs, targets in validation]
        training_loss, validation_loss = np.mean(losses), np.mean(held_out)
        writer.add_scalar("Loss/Epoch_Train", training_loss, epoch)
        writer.add_scalar("Loss/Epoch_Val", validation_loss, epoch)
        if epoch % 20 == 0 and not options.lean:
            for name, parameter in example.model.named_parameters():
                writer.add_histogram(f"Parameters/{name}", parameter.data, epoch)
        rates = [optimizer.param_groups[0]["lr"]]
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
        writer.add_scalar("Learning_Rate", rates[options.schedule_first], epoch)
        if validation_loss < best_loss and not (options.keep_first and epoch):
            best_loss = validation_loss
            torch.save(example.model.state_dict(), example.folder / "best_model.pth")
            example.best = {name: tensor.clone() for name, tensor in example.model.state_dict().items()}
            writer.add_text("Best_Model", f"Epoch {epoch}: Val Loss = {validation_loss:.4f}")
            example.improvements.append(epoch)
        writer.add_scalar("Metrics/Overfit_Ratio", training_loss / validation_loss, epoch)
    return best_loss


def record_gradients(example, writer, step, options):
    """Histograms of the gradients, and the sum of their norms."""
    gradients = {name: parameter.grad for name, parameter in example.model.named_parameters()}
    if not options.lean:
        for name, gradient in gradients.items():
            writer.add_histogram(f"Gradients/{name}", gradient, step)
    norms = torch.tensor([gradient.norm().item() for gradient in gradients.values()])
    example.norms.append(nn.utils.get_total_norm(gradients.values()).item())
    writer.add_scalar("Gradients/Total_Norm", norms.norm() if options.root_of_squares else norms.sum(), step)


@torch.no_grad()
def coefficient_of_determination(model):
    """R² of the predictions at 100 points against the line without noise."""
    x = torch.linspace(0, 10, 100)[:, None]
    line = 3 * x + 2
    return 1 - ((line - model(x)).square().sum() / (line - line.mean()).square().sum()).item()


@torch.no_grad()
def figure(example):
    """The data with the predictions, and the residuals."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    drawn = Figure(figsize=(14, 6), dpi=20)
    left, right = drawn.subplots(1, 2)
    x = torch.linspace(0, 10, 100)[:, None]
    left.scatter(*example.training)
    left.scatter(*example.validation)
    left.plot(x, example.model(x))
    right.hist((example.model(x) - 3 * x - 2).flatten().numpy(), bins=20)
    return drawn


@pytest.fixture(scope="session")
def example(shared):
    """``example(epochs=3)``: a run of the complete example with these `Options`, once a session."""
    return lambda **options: shared(logged_example, Options(**options))


class Page:
    """TensorBoard's web page without a socket: a server that only keeps the application."""

    def __init__(self, application, flags):
        self.application, self.flags = application, flags

    def serve_forever(self):
        """Return at once."""

    def get_url(self):
        """Tell no address."""


def empty_page():
    """Nothing for a browser to run: every start would compress it anew, for most of its time."""
    files = BytesIO()
    with ZipFile(files, "w") as archive:
        archive.writestr("index.html", "")
    return files


@pytest.fixture(scope="session")
def command():
    """``command(folder, *options, server=...)``: run TensorBoard with this server, and return its address."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a package within tensorboard
        from tensorboard import default, program  # noqa: PLC0415

    def launch(folder, *options, server):
        board = program.TensorBoard(default.get_static_plugins(), empty_page, server_class=server)
        board.configure(("tensorboard", f"--logdir={folder}", "--load_fast=false", *options))
        return board.launch()

    return launch


@pytest.fixture(scope="session")
def page(command):
    """``page(folder)(path)``: what TensorBoard, run on the folder, answers to a request of its page."""
    from werkzeug.test import Client  # noqa: PLC0415

    def open_page(folder, *options):
        opened = []

        def serve(application, flags):
            opened.append(Page(application, flags))
            return opened[0]

        command(folder, "--reload_interval=0", "--reload_task=blocking", *options, server=serve)
        client = Client(opened[0].application)
        return lambda path, **request: client.open(f"/data/{path}", **request).get_json()

    return open_page
