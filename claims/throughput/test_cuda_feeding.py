"""How training data reach a GPU: through a DataLoader, and from the GPU's own memory."""

import os
from functools import partial

import pytest
from PIL import Image
from torch import nn
from torch.optim import Adam
from torch.utils.data import DataLoader, Dataset

from fitcore.data import mnist
from fitcore.ensembles import Ensemble, cross_entropies, fit
from fitcore.evaluation.ceilings import synchronised
from fitcore.evaluation.throughput import least_seconds
from fitcore.models import CNN
from fitcore.testing import claim, override

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:This instance was constructed with capturable=True"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
]

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def document_cnn():
    return CNN(widths=(16, 32), hidden=None)


class Digits(Dataset):
    """Digits as torchvision's MNIST serves them: each a picture of Pillow's, through ``transform``."""

    def __init__(self, digits, transform):
        self.images, self.labels, self.transform = digits.images[:, 0], digits.labels, transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.transform(Image.fromarray(self.images[index].numpy())), int(self.labels[index])


def rotated(picture):
    """What takes a worker some time for every picture."""
    return scaled(picture.resize((224, 224)).rotate(10).resize((28, 28)))


def scaled(picture):
    """The document's transform, ToTensor."""
    from torchvision.transforms import functional  # noqa: PLC0415 - takes seconds, and no other claim needs it

    return functional.to_tensor(picture)


class ListedLoop:
    """The document's training: batches of 64 digits through a DataLoader, Adam, loss and accuracy of every batch."""

    def __init__(self, digits, device, transform=scaled, **loading):
        self.loader = DataLoader(Digits(digits, transform), batch_size=64, shuffle=True, **loading)
        self.model, self.device = document_cnn().to(device), device
        self.optimizer = Adam(self.model.parameters(), lr=0.001)

    def epoch(self):
        loss_sum, correct = 0.0, 0
        for x, y in self.loader:
            images, labels = x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)
            logits = self.model(images)
            loss = nn.functional.cross_entropy(logits, labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            loss_sum += loss.item()
            correct += (logits.argmax(1) == labels).sum().item()
        return loss_sum / len(self.loader), correct / len(self.loader.dataset)


def epoch_of_rotated(digits, device, num_workers, pin_memory, prefetch_factor):
    """What trains for an epoch; its workers are started by the first call, and stay."""
    workers = {"num_workers": num_workers, "persistent_workers": True, "prefetch_factor": prefetch_factor}
    return ListedLoop(digits, device, rotated, pin_memory=pin_memory, **(workers if num_workers else {})).epoch


def samples_a_second(digits, device, *of_loader):
    epoch = epoch_of_rotated(digits, device, *of_loader)
    return len(digits) / least_seconds({"epoch": synchronised(epoch, device)}, rounds=2)["epoch"]


@pytest.mark.skipif(CORES <= 8, reason="needs more than eight cores: eight workers, and one to train")
@claim(
    "fitcore/gpu-workers-feed-it",
    controls=[override("none at all", workers=0)],
)
def test_eight_workers_feed_the_gpu_several_times_as_fast_as_none(
    *, headline, device, data_root, evidence, workers=8, n=1024
):
    digits = mnist(data_root)[:n]
    settings = [(0, False, 2), (0, True, 2), (2, False, 2), (2, True, 2)]
    settings += [(workers, pin, ahead) for pin in (False, True) for ahead in (2, 8)]
    rates = {of_loader: samples_a_second(digits, device, *of_loader) for of_loader in dict.fromkeys(settings)}
    names = ("workers", "pinned", "batches ahead of each")
    rows = [dict(zip(names, each, strict=True)) | {"samples a second": rate} for each, rate in rates.items()]
    evidence.table("training the CNN on digits that are rotated as they are read", rows)
    headline(epoch_of_rotated(digits, device, workers, True, 2), samples=n, rounds=1, calls=1)
    assert rates[workers, True, 2] > 3 * rates[0, True, 2]


def from_gpu_memory(digits, device, epochs=10, copies=8):
    """`fit`, of eight copies, whose data lie on the device; and the epochs of them all."""
    ensemble = Ensemble(document_cnn, range(copies)).to(device)
    data = tuple(map(ensemble.share, (digits.scaled.to(device), digits.labels.to(device))))
    optimizer = partial(Adam, lr=0.001, fused=True, capturable=device.type == "cuda")
    run = partial(fit, ensemble, data, epochs=epochs, optimizer=optimizer, loss=cross_entropies, batch_size=64)
    return run, copies * epochs


def from_a_loader(digits, device):
    return ListedLoop(digits, device).epoch, 1


@claim(
    "fitcore/gpu-resident-data-train-20-times-as-fast",
    controls=[override("from a DataLoader too", ours=from_a_loader)],
)
def test_training_from_the_gpus_memory_is_20_times_as_fast_as_from_a_loader(
    *, headline, device, data_root, evidence, ours=from_gpu_memory, n=8000
):
    digits = mnist(data_root)[:n]
    (run, epochs), (listed, _) = ours(digits, device), from_a_loader(digits, device)
    headline(run, samples=epochs * n, rounds=2, calls=1)
    seconds = least_seconds({"ours": synchronised(run, device), "listed": synchronised(listed, device)}, rounds=2)
    rates = {"from the GPU's memory": epochs * n / seconds["ours"], "from a DataLoader": n / seconds["listed"]}
    evidence.compare("training the document's CNN", rates, unit="samples a second")
    ratio = rates["from the GPU's memory"] / rates["from a DataLoader"]
    evidence.observe("times as fast as the document's loop", ratio, limit=20)
    assert ratio >= 20
