"""Which hull scores which rows."""

import numpy as np
import torch

from limbeck.information.hull_estimate import hull_terms


def test_each_row_is_scored_at_its_place_by_a_hull_that_others_chose():
    targets = np.repeat(np.arange(3), 20)
    random = np.random.default_rng(5)
    teacher, student = (
        torch.tensor(2.0 * np.eye(3)[targets] + random.normal(size=(60, 3)))
        .softmax(1)
        .float()
        .numpy()
        for _ in range(2)
    )
    found, hulls = hull_terms(teacher, student, targets, seed=0)
    index = np.arange(60)
    scores = np.stack(
        [
            sum(part[index, targets] for part in hull.duals(*map(torch.tensor, (teacher, student))))
            for hull in hulls
        ]
    )
    by_first, by_second = (np.isclose(found, score, rtol=1e-4) for score in scores)
    assert (by_first ^ by_second).all()
    # Every class is split evenly, and a hull changes with the rows that it does not score.
    assert np.bincount(targets[by_first]).tolist() == [10, 10, 10]
    moved = teacher.copy()
    moved[by_first] = moved[by_first][:, [1, 2, 0]]
    again = hull_terms(moved, student, targets, seed=0)[1]
    assert torch.equal(again[0].vertices, hulls[0].vertices)
    assert not torch.equal(again[1].vertices, hulls[1].vertices)
