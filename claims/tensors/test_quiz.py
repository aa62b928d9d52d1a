"""Section 1.10: the quiz as a listing, and its last step."""

import ast

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given
from torch.nn import functional

from fitcore.testing import REFUTED, claim, override, replace

STEPS = """
1.Make a tensor of three faces:
faces = torch.rand(3, 4, 5)
2.Average each of them
averages = faces.mean(dim=(1, 2))
"""
IMPORTS = "import torch\n"
AS_PRINTED = f'{IMPORTS}"""{STEPS}"""\n'
WITHOUT_QUOTES = IMPORTS + STEPS
WITHOUT_PROSE = IMPORTS + "\n".join(line for line in STEPS.splitlines() if not line[:1].isdigit())


def names_after(listing):
    """The names that running ``listing`` defines."""
    names = {}
    exec(compile(listing, "listing", "exec"), names)
    return names.keys() - {"__builtins__"}


@claim(
    "pytorch-notes/quiz-listing-is-one-string",
    verdict=REFUTED,
    finding="It runs and computes nothing: after the imports comes a single string. Without the quotes it is a "
    "SyntaxError at the first numbered sentence; without these as well it runs.",
    controls=[override("without quotes and prose", listing=WITHOUT_PROSE)],
)
def test_a_quoted_solution_computes_nothing(listing=AS_PRINTED):
    assert [type(statement) for statement in ast.parse(listing).body] == [ast.Import, ast.Expr]
    assert names_after(listing) == {"torch"}
    with pytest.raises(SyntaxError):
        names_after(WITHOUT_QUOTES)
    assert names_after(WITHOUT_PROSE) == {"torch", "faces", "averages"}


one_hot = functional.one_hot


def without_the_number_of_classes(labels, num_classes):
    return one_hot(labels)


@claim(
    "pytorch-notes/one-hot-shape-and-dtype",
    finding="Of int64, as the labels are. num_classes matters: without it eight labels that are all 0 make one column.",
    controls=[
        replace("torch.nn.functional.one_hot", without_the_number_of_classes),
    ],
)
@example(labels=[0] * 8)
@given(labels=st.lists(st.integers(0, 1), min_size=8, max_size=8))
def test_one_hot_has_a_column_a_class_and_a_single_one_a_row(labels):
    encoded = functional.one_hot(torch.tensor(labels), num_classes=2)
    assert encoded.shape == (8, 2)
    assert encoded.dtype == torch.int64
    assert encoded.tolist() == [[1 - label, label] for label in labels]
