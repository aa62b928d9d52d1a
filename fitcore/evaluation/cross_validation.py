"""Cross-validation: every sample is held out once."""

from collections.abc import Callable, Iterator

import torch
from sklearn.model_selection import BaseCrossValidator
from torch import Tensor


def folds(samples: int, splitter: BaseCrossValidator) -> Iterator[tuple[Tensor, Tensor]]:
    """Indices ``(training, validation)`` of each fold that a splitter of scikit-learn makes of ``samples`` rows."""
    for training, validation in splitter.split(range(samples)):
        yield torch.from_numpy(training), torch.from_numpy(validation)


def fold_scores(
    score: Callable[[Tensor, Tensor], Tensor | float], samples: int, splitter: BaseCrossValidator
) -> Tensor:
    """Score of each of k folds, (k, ...); their mean over the folds estimates the error on new data.

        scores = fold_scores(error_of_a_fit, len(x), KFold(n_splits=5, shuffle=True))

    Args:
        score: fits anew on the first indices and returns the error on the second, of many problems at once if it likes.
        samples: number of rows to share out.
        splitter: ``sklearn.model_selection.KFold`` or another that needs no labels.

    Source: M. Stone, "Cross-Validatory Choice and Assessment of Statistical Predictions", J. R. Stat. Soc. B 36, 1974.
    """
    return torch.stack([torch.as_tensor(score(*indices)) for indices in folds(samples, splitter)])
