"""Section 6.5: random and stratified splits into training and validation samples."""

from timeit import repeat

import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import given
from sklearn import model_selection
from torch.utils.data import Subset, random_split

from fitcore.data import stratified_split
from fitcore.testing import REFUTED, claim, error_of, override, replace

OF_CIFAR10 = torch.arange(10).repeat(5000)  # as many labels of each class as CIFAR-10 has
RARE = torch.tensor([0] * 950 + [1] * 50)


def eighty_twenty(data, split=random_split, **options):
    """Training and validation samples, in the sizes of the listing."""
    training = int(0.8 * len(data))
    return split(data, [training, len(data) - training], **options)


def with_replacement(data, sizes):
    return [Subset(data, torch.randint(len(data), (size,)).tolist()) for size in sizes]


@claim(
    "pytorch-notes/random-split-80-20-sizes",
    controls=[override("drawn with replacement", split=with_replacement)],
    trials=5,
)
def test_80_percent_of_50000_are_40000_and_no_sample_is_in_both_parts(trials, evidence, split=random_split):
    sizes = [len(part) for part in eighty_twenty(range(50_000), split)]
    assert evidence.figure("samples", reported=[40_000, 10_000], measured=sizes, tolerance=0)
    drawn = trials.map(lambda _: [i for part in eighty_twenty(range(50_000), split) for i in part.indices])
    trials.always((np.sort(drawn) == np.arange(50_000)).all(1), name="every sample is in one part, once")


def seeded_generator(seed):
    return torch.Generator().manual_seed(seed)


def global_generator(_):
    return torch.default_generator


@claim(
    "pytorch-notes/random-split-seed-42-reproducible",
    finding="A new generator of the same seed draws the same split, whatever the global seed; seed 43 draws another. "
    "Without a generator two calls differ, and so do two calls with one and the same generator.",
    controls=[override("the global generator", generator=global_generator)],
)
@given(samples=st.integers(50, 500), seed=st.just(42) | st.integers(0, 2**63 - 2), generator=st.just(seeded_generator))
def test_a_split_follows_the_seed_of_its_generator(samples, seed, generator):
    def indices(source):
        return [part.indices for part in eighty_twenty(range(samples), generator=source)]

    kept = generator(seed)
    first = indices(kept)
    assert indices(generator(seed)) == first
    assert indices(kept) != first
    assert indices(generator(seed + 1)) != first
    assert indices(global_generator(seed)) != indices(global_generator(seed))


def distinct_reads(dataset):
    """How many different images ten reads of the first sample give."""
    return len(torch.stack([dataset[0][0] for _ in range(10)]).unique(dim=0))


@claim(
    "pytorch-notes/random-split-val-uses-clean-images",
    verdict=REFUTED,
    finding="A Subset reads through the data set it was taken from, random transform included: ten reads of a "
    "validation image give ten different ones. Split indices, and take the validation ones of a second data set with "
    "the plain transform: then it is the same image every time.",
    controls=[override("a data set without augmentation", transform="plain")],
    trials=20,
)
def test_a_validation_subset_is_augmented_like_the_training_one(
    torchvision_dataset, printed, trials, evidence, transform="training"
):
    full = torchvision_dataset("CIFAR10", getattr(printed, transform), count=50)
    plain = torchvision_dataset("CIFAR10", printed.plain, count=50)

    def counts(_):
        validation = eighty_twenty(full)[1]
        repaired = Subset(plain, validation.indices)
        return distinct_reads(validation), distinct_reads(repaired)

    of_split, of_repaired = trials.map(counts).T
    evidence.observe("different images in ten reads of a validation sample", of_split)
    trials.always(of_split > 1, name="the split's own validation samples change")
    trials.always(of_repaired == 1, name="those of a data set of their own don't")


@claim(
    "pytorch-notes/subset-has-no-classes",
    verdict=REFUTED,
    finding="AttributeError: what random_split returns is a Subset, which passes no attribute on. Its data set still "
    "has them: train_dataset.dataset.classes.",
    controls=[override("not split", split=lambda data: data)],
)
def test_a_subset_has_no_classes(torchvision_dataset, split=lambda data: eighty_twenty(data)[0]):
    full = torchvision_dataset("CIFAR10", count=50)
    training = split(full)
    error = error_of(getattr, training, "classes")
    assert isinstance(error, AttributeError)
    assert "'Subset' object has no attribute 'classes'" in str(error)
    assert training.dataset.classes is full.classes
    assert full.classes[training[0][1]] in full.classes


def random_validation(labels):
    return torch.tensor(eighty_twenty(range(len(labels)))[1].indices)


def last_fifth(labels):
    return torch.arange(len(labels))[-len(labels) // 5 :]


def stratified_validation(labels):
    return stratified_split(labels)[1]


@claim(
    "pytorch-notes/random-split-preserves-class-ratio",
    finding="Each class of CIFAR-10 gets 1,000 of 10,000 validation images give or take 27, as in draws without "
    "replacement. The rarer the class, the rougher: one with 50 of 1,000 samples gets 10 give or take 2.8.",
    controls=[
        override("a stratified split", validation=stratified_validation),
        override("the last fifth of sorted labels", validation=last_fifth),
    ],
    trials=20,
)
def test_a_random_split_keeps_class_proportions_roughly_and_not_exactly(trials, evidence, validation=random_validation):
    balanced, imbalanced = OF_CIFAR10.sort().values, RARE
    counts = trials.map(lambda _: torch.bincount(balanced[validation(balanced)], minlength=10))
    rare = trials.map(lambda _: [imbalanced[validation(imbalanced)].sum() for _ in range(20)])
    evidence.compare("validation samples of a class", {"5,000 of 50,000": counts[:, 0], "50 of 1,000": rare[:, 0]})
    trials.always((abs(counts - 1000) < 200).all(1), name="5,000 of 50,000: within a fifth, seven standard deviations")
    trials.always((abs(rare - 10) < 25).all(1), name="50 of 1,000: within nine standard deviations")
    trials.always((counts != 1000).any(1), name="5,000 of 50,000: not exactly, in some class")
    trials.always((rare != 10).any(1), name="50 of 1,000: not exactly, in some of twenty splits")


def stratified(labels):
    """Training and validation indices, as the listing takes them."""
    splitter = model_selection.StratifiedShuffleSplit(n_splits=1, test_size=0.2, random_state=42)
    ((training, validation),) = splitter.split(np.zeros(len(labels)), labels)
    return torch.from_numpy(training), torch.from_numpy(validation)


not_stratified = replace("sklearn.model_selection.StratifiedShuffleSplit", model_selection.ShuffleSplit)


@claim("pytorch-notes/stratified-split-exact-counts", controls=[not_stratified], trials=3)
def test_a_stratified_split_of_cifar10_has_4000_and_1000_images_of_every_class(trials, evidence):
    def counts(_):
        labels = OF_CIFAR10[torch.randperm(50_000)]
        return torch.stack([torch.bincount(labels[part], minlength=10) for part in stratified(labels)])

    measured = trials.map(counts)
    reported = np.broadcast_to(np.array([[4000], [1000]]), measured.shape)
    assert evidence.figure("images of each class", reported=reported, measured=measured, tolerance=0)


@claim(
    "pytorch-notes/stratified-split-exact-counts",
    finding="Classes of any size keep their share to within one sample.",
    controls=[not_stratified],
)
@given(sizes=st.lists(st.integers(20, 200), min_size=2, max_size=5), seed=st.integers(0, 2**32))
def test_a_stratified_split_keeps_the_share_of_every_class_to_within_a_sample(sizes, seed):
    counts = torch.tensor(sizes)
    labels = torch.arange(len(sizes)).repeat_interleave(counts)
    labels = labels[torch.randperm(len(labels), generator=seeded_generator(seed))]
    parts = stratified(labels)
    assert torch.cat(parts).sort().values.tolist() == list(range(len(labels)))
    for part in parts:
        expected = counts * len(part) / len(labels)
        assert (torch.bincount(labels[part], minlength=len(sizes)) - expected).abs().max() <= 1


def by_iteration(dataset):
    return [label for _, label in dataset]


def from_targets(dataset):
    return list(dataset.targets)


@claim(
    "pytorch-notes/label-loop-cost",
    finding="The loop transforms every image only to drop it: a quarter to half a millisecond a label, by machine, so "
    "that 50,000 take twelve seconds to half a minute. The targets of the data set are the same labels, tens of "
    "thousands of times as fast.",
    controls=[override("the targets", collect=from_targets)],
)
def test_a_loop_over_the_data_set_augments_every_image_for_its_label(
    torchvision_dataset, printed, evidence, collect=by_iteration
):
    transformed = []
    dataset = torchvision_dataset("CIFAR10", lambda image: transformed.append(printed.training(image)), count=100)

    def collected(by, repeats=1):
        before = len(transformed)
        seconds = min(repeat(lambda: by(dataset), number=1, repeat=repeats))
        return by(dataset), seconds / len(dataset), (len(transformed) - before) / (repeats + 1)

    labels, seconds, images = collected(collect)
    targets, seconds_of_targets, images_of_targets = collected(from_targets, repeats=9)
    rows = {"loop": (seconds, images), "targets": (seconds_of_targets, images_of_targets)}
    evidence.table("labels", [{"by": by, "µs a label": 1e6 * t, "images made": n} for by, (t, n) in rows.items()])
    assert labels == targets
    assert (images, images_of_targets) == (len(dataset), 0)
    assert seconds > 100 * seconds_of_targets
