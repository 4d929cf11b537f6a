"""SimKD: against plain loops; the layers and weights of the paper; what it refuses."""

import pytest
import torch
from helpers.features import args, maps

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import SimKD


def test_equals_plain_loops_where_the_teachers_map_is_larger():
    student, teacher = maps(2, 3, 2, 0.3), maps(2, 3, 4, 1.0)
    total = 0.0
    for row in range(2):
        for channel in range(3):
            for y in range(2):
                for x in range(2):
                    cells = teacher[row, channel, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].tolist()
                    mean = sum(cells[0] + cells[1]) / 4
                    total += (student[row, channel, y, x].item() - mean) ** 2
    given = args({"projector": student}, {"layer3": teacher})
    assert SimKD()(*given).item() == pytest.approx(total / 24, rel=1e-12)


def test_the_published_training_has_no_task_term():
    assert SimKD().published_weights == (0.0, 1.0)
    assert SimKD().layers == {"student": ("projector",), "teacher": ("layer3",)}
    assert list(SimKD().parameters()) == []


def test_the_gradient_is_twice_the_error_over_the_number_of_entries():
    student, teacher = maps(2, 3, 2, 0.3).requires_grad_(), maps(2, 3, 2, 1.0)
    (found,) = torch.autograd.grad(
        SimKD("a")(*args({"a": student}, {"a": teacher})), student, allow_unused=True
    )
    torch.testing.assert_close(found, 2 * (student.detach() - teacher) / 24)


def test_unlike_channels_are_refused_with_what_to_do():
    given = args({"projector": maps(2, 3, 2, 0.3)}, {"layer3": maps(2, 4, 2, 1.0)})
    with pytest.raises(ShapeError, match=r"student 'projector' \(2, 3, 2, 2\).*reusing_head"):
        SimKD()(*given)


def test_one_layer_of_each_side():
    with pytest.raises(ArgumentError, match="one layer of each side"):
        SimKD(("layer2", "layer3"))
