import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from fitcore.evaluation.retrieval import cosine_similarities, most_similar

MEMORIES = torch.tensor([[0.0, 1.0], [2.0, 0.0], [3.0, 3.0], [-1.0, 0.0]])
QUERIES = torch.tensor([[1.0, 0.1], [-5.0, 1.0]])


def test_similarities_are_those_of_scikit_learn():
    queries, memories = torch.randn(2, 5, 7, dtype=torch.float64)
    memories[0] = 0
    expected = torch.from_numpy(cosine_similarity(queries, memories))
    torch.testing.assert_close(cosine_similarities(queries, memories), expected)
    torch.testing.assert_close(cosine_similarities(queries[None], memories), expected[None])


def test_recalls_by_angle_the_most_similar_first():
    assert most_similar(QUERIES, MEMORIES, 3).tolist() == [[1, 2, 0], [3, 0, 2]]


def test_recalls_all_if_asked_to():
    assert most_similar(QUERIES, MEMORIES, 4).sort(1).values.tolist() == [[0, 1, 2, 3]] * 2


def test_of_equals_the_older_comes_first():
    assert most_similar(QUERIES, MEMORIES.repeat(2, 1), 4).tolist() == [[1, 5, 2, 6], [3, 7, 0, 4]]


def test_every_store_of_a_batch_answers_its_own_queries():
    stores = torch.stack([MEMORIES, MEMORIES.flip(0)])
    assert most_similar(QUERIES, stores, 1).tolist() == [[[1], [3]], [[2], [0]]]


@pytest.mark.parametrize("k", [0, 5])
def test_refuses_to_recall_none_or_more_than_there_are(k):
    with pytest.raises(ValueError, match=f"between 1 and the 4 memories, got {k}"):
        most_similar(QUERIES, MEMORIES, k)
