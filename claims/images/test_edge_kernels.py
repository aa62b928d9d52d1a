"""Section 10.6.1: what a 3x3 kernel answers to, over all black-and-white patches, all greys, and real digits."""

from itertools import product

import hypothesis.strategies as st
import torch
from hypothesis import given
from scipy import ndimage
from torch import nn

from fitcore.data import mnist
from fitcore.testing import CONDITIONAL, claim, override
from fitcore.testing.strategies import tensors

DARK_TO_BRIGHT = torch.tensor([[-1.0, 0.0, 1.0]] * 3)
THIN_LINE = torch.tensor([[-1.0, 2.0, -1.0]] * 3)
CIRCLE = torch.tensor([[1.0, 1.0, 1.0], [1.0, -8.0, 1.0], [1.0, 1.0, 1.0]])
PATCHES = torch.tensor(list(product([0.0, 1.0], repeat=9))).view(-1, 3, 3)

COLUMNS = [torch.eye(3)[column].expand(3, 3) for column in range(3)]
OTHER_LINES = [torch.eye(3), torch.eye(3).flip(1), *(column.T for column in COLUMNS)]

for_thin_lines = override("a kernel for thin lines", kernel=THIN_LINE)
for_horizontal_edges = override("turned by a quarter", kernel=DARK_TO_BRIGHT.T)


def responses(images, kernel):
    """What ``kernel`` answers to every 3x3 window of ``images`` (n, height, width)."""
    return nn.functional.conv2d(images[:, None], kernel[None, None])[:, 0]


def windows(images):
    """All 3x3 windows of ``images`` (n, height, width), (windows, 3, 3)."""
    return images.unfold(1, 3, 1).unfold(2, 3, 1).flatten(0, 2)


@claim(
    "pytorch-notes/vertical-kernel-large-on-vertical-line",
    verdict=CONDITIONAL,
    finding="Only if the line stands in the right column of the window, where it gives 3, the largest answer. With the "
    "line in the middle the answer is exactly 0, and on the left it is -3, which ReLU drops. It is an edge, dark to "
    "bright, that the kernel answers to; for a line in the middle it takes (-1, 2, -1).",
    controls=[for_thin_lines, for_horizontal_edges],
)
@given(brightness=st.integers(1, 255), kernel=st.just(DARK_TO_BRIGHT))
def test_a_vertical_line_gives_its_brightness_three_times_or_nothing_or_less(brightness, kernel):
    left, middle, right = responses(brightness * torch.stack(COLUMNS), kernel).flatten()
    assert right == 3 * brightness == brightness * responses(PATCHES, kernel).max()
    assert middle == 0
    assert left == -3 * brightness
    assert responses(brightness * COLUMNS[1][None], THIN_LINE) == 6 * brightness


@claim(
    "pytorch-notes/vertical-kernel-large-on-vertical-line",
    verdict=CONDITIONAL,
    finding="On 1,000 real digits the answer where a line, one pixel wide, stands in the middle of the window is 0.27 "
    "in the median. At edges from dark to bright it is 2.7, of 3 at most.",
    controls=[for_thin_lines, for_horizontal_edges],
)
def test_on_real_digits_the_kernel_answers_beside_a_line_and_not_on_it(data_root, evidence, kernel=DARK_TO_BRIGHT):
    digits = mnist(data_root)[:1000].scaled[:, 0]
    answers = responses(digits, kernel).flatten()
    left, middle, right = windows(digits).unbind(-1)
    line = ((middle - left >= 0.5) & (middle - right >= 0.5)).all(1)
    edge = (right - left >= 0.5).all(1)
    evidence.image("a digit", digits[0])
    evidence.image("where the kernel answers: bright to dark (black) to bright (white)", shown(digits[0], kernel))
    samples = {"line in the middle": answers[line].abs(), "edge, dark to bright": answers[edge]}
    evidence.compare("answer to windows of real digits", samples, limit=3)
    assert answers[line].abs().median() < 0.5
    assert answers[edge].median() > 2


def shown(digit, kernel):
    return (responses(digit[None], kernel)[0] + 3) / 6


@claim(
    "pytorch-notes/vertical-kernel-small-otherwise",
    verdict=CONDITIONAL,
    finding="Horizontal and diagonal lines and plain areas give exactly 0. Other patches do not: of the 512 "
    "black-and-white patches 16 give 3 or -3, of which two are vertical lines and the rest edges; 42 of the 343 "
    "without any full column still give 2 or -2.",
    controls=[for_thin_lines, for_horizontal_edges],
)
def test_other_lines_give_nothing_and_edges_as_much_as_a_line(evidence, kernel=DARK_TO_BRIGHT):
    answers = responses(PATCHES, kernel).flatten()
    line = torch.stack([(column == PATCHES).all((1, 2)) for column in COLUMNS]).any(0)
    full_column = PATCHES.bool().all(1).any(1)
    values, counts = answers.unique(return_counts=True)
    evidence.curve("number of the 512 patches by answer", values, {"patches": counts}, x_label="answer")
    flat = torch.stack([torch.zeros(3, 3), torch.ones(3, 3), *OTHER_LINES])
    assert (responses(flat, kernel) == 0).all()
    assert (answers[line].abs() == 3).sum() == 2
    assert (answers[~line].abs() == 3).sum() == 14
    assert (answers[~full_column].abs() == 2).sum() == 42


@claim(
    "pytorch-notes/vertical-kernel-detects-dark-bright-edges",
    finding="The answer is the sum of the right column minus that of the left, whatever stands between. Light added "
    "everywhere, or row by row, changes nothing; a mirrored patch gives the negative.",
    controls=[for_thin_lines, for_horizontal_edges],
)
@given(
    patch=tensors((3, 3), elements=st.integers(0, 255)),
    rows=tensors((3, 1), elements=st.integers(0, 255)),
    kernel=st.just(DARK_TO_BRIGHT),
)
def test_the_answer_is_right_minus_left_and_blind_to_all_else(patch, rows, kernel):
    answer = responses(patch[None], kernel)
    left, _, right = patch.unbind(1)
    assert answer == right.sum() - left.sum()
    assert torch.equal(responses((patch + rows)[None], kernel), answer)
    assert torch.equal(responses(patch.flip(1)[None], kernel), -answer)


@claim(
    "pytorch-notes/vertical-kernel-detects-dark-bright-edges",
    finding="In every row of a real digit the answers add up to zero: as much light as begins on the left of the "
    "strokes ends on their right. ReLU after it keeps the left sides alone.",
    controls=[for_thin_lines, for_horizontal_edges],
)
def test_each_stroke_of_a_digit_is_answered_twice_with_opposite_signs(data_root, kernel=DARK_TO_BRIGHT):
    digits = nn.functional.pad(mnist(data_root)[:500].images[:, 0].float(), (2, 2))  # so that strokes end in the dark
    answers = responses(digits, kernel)
    assert (answers.sum(2) == 0).all()
    assert ((answers > 0).any(2) == (responses(digits, kernel.abs()) > 0).any(2)).all()
    assert torch.equal(responses(digits.flip(2), kernel), -answers.flip(2))


def ring(radius):
    """A circle one pixel wide on black, with a margin."""
    position = torch.arange(-radius - 2, radius + 3)
    distance = (position[:, None] ** 2 + position**2).sqrt()
    return ((distance > radius - 0.5) & (distance < max(radius + 0.5, 1.5))).float()


def quarters(circle):
    """The four arcs of a ring, which overlap by the three pixels that a window spans."""
    upper = (torch.arange(len(circle)) <= len(circle) // 2 + 1).float()
    masks = torch.stack([upper, upper.flip(0)])
    return torch.stack([circle * rows[:, None] * columns for rows in masks for columns in masks])


def torn_apart(circle):
    """What of a ring is left if each arc loses its ends: no window has all that it had."""
    return quarters(circle) * (torch.arange(len(circle)) < len(circle) // 2 - 1).float()


@claim(
    "pytorch-notes/magnifier-4-finds-circles",
    verdict=CONDITIONAL,
    finding="A circle that fits into 3x3 pixels it finds: its own kernel answers to no other of the 512 patches as "
    "much. Of larger ones the kernel sees arcs: no kernel answers more to a ring of radius 2 to 5 than to one of the "
    "ring's four quarters.",
    controls=[override("the arcs cut short", arcs_of=torn_apart)],
)
@given(
    radius=st.integers(2, 5),
    kernel=st.just(CIRCLE) | tensors((3, 3)),
    arcs_of=st.just(quarters),
)
def test_no_kernel_tells_a_larger_ring_from_its_quarters(radius, kernel, arcs_of):
    circle = ring(radius)
    arcs = arcs_of(circle)
    assert (arcs.sum((1, 2)) < circle.sum()).all()
    assert responses(arcs, kernel).max() >= responses(circle[None], kernel).max()
    answers = responses(PATCHES, CIRCLE).flatten()
    assert torch.equal(PATCHES[answers == answers.max()], ring(1)[None, 2:-2, 2:-2])


def sizes_of_loops(digits):
    """Side of the square that the largest loop of each digit needs, with the stroke around it, where there is one."""
    dark = [ndimage.label(digit < 64)[0] for digit in digits.numpy()]
    holes = [ndimage.find_objects(labels)[1:] for labels in dark]  # the first is the background
    sides = [[max(part.stop - part.start for part in hole) + 2 for hole in of_digit] for of_digit in holes]
    return torch.tensor([max(of_digit) for of_digit in sides if of_digit])


@claim(
    "pytorch-notes/magnifier-4-finds-circles",
    verdict=CONDITIONAL,
    finding="The loops of real digits 0, 6, 8 and 9 need a window of 9x9 pixels in the median, and 3 % of them fit "
    "into 3x3. The second convolution, which sees 8x8 pixels of the image, has 42 % of them in view.",
    controls=[override("every fourth pixel of the digits", every=4)],
)
def test_the_loops_of_digits_are_larger_than_a_kernel_of_the_first_layer(data_root, evidence, every=1):
    digits = mnist(data_root)[:3000]
    looped = digits.images[torch.isin(digits.labels, torch.tensor([0, 6, 8, 9])), 0, ::every, ::every]
    sides = sizes_of_loops(looped)
    evidence.observe("side of the window that a loop needs", sides, unit="pixels", limit=3)
    assert (sides <= 3).float().mean() < 0.1
    assert 0.3 < (sides <= 8).float().mean() < 0.7
