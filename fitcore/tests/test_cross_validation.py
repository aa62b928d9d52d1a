import torch
from sklearn.model_selection import KFold, ShuffleSplit

from fitcore.evaluation.cross_validation import fold_scores, folds


def test_every_sample_is_held_out_once_by_kfold():
    parts = list(folds(10, KFold(n_splits=3)))
    assert [len(held_out) for _, held_out in parts] == [4, 3, 3]
    assert torch.cat([held_out for _, held_out in parts]).tolist() == list(range(10))
    assert all(sorted([*training.tolist(), *held_out.tolist()]) == list(range(10)) for training, held_out in parts)


def test_scores_are_those_of_each_fold_and_of_many_problems_at_once():
    values = torch.arange(20.0).view(2, 10)
    means = fold_scores(lambda training, held_out: values[:, held_out].mean(1), 10, KFold(n_splits=5))
    assert means.tolist() == [[0.5, 10.5], [2.5, 12.5], [4.5, 14.5], [6.5, 16.5], [8.5, 18.5]]


def test_any_splitter_of_scikit_learn_will_do():
    sizes = fold_scores(lambda training, held_out: len(training), 10, ShuffleSplit(4, test_size=3, random_state=0))
    assert sizes.tolist() == [7, 7, 7, 7]
