"""What cannot be measured is refused, with what to do."""

from __future__ import annotations

import pytest
import torch
from helpers.gradients import Convolutions, kd, mlp, rows
from torch import nn

from limbeck.checks import ArgumentError, DataError, LayerError, ModelError, ShapeError
from limbeck.losses import DIST, ITRD
from limbeck.weighting.measuring.moments import gradient_moments


def measured(student=None, teacher=None, data=None, **options):
    options = {"loss": kd, "curvature": False} | options
    return gradient_moments(student or mlp(4, 1), teacher or mlp(8, 2), data or rows(40), **options)


@pytest.mark.parametrize("n", [7, 0, -3])
def test_too_few_rows_asked_for(n):
    with pytest.raises(ArgumentError, match=f"expected 8 rows at least; got n={n} and data of 40"):
        measured(n=n)


def test_too_few_rows_in_the_data():
    with pytest.raises(DataError, match="expected 8 rows at least; got n=512 and data of 5"):
        measured(data=rows(5))


def test_a_frozen_student():
    with pytest.raises(ModelError, match="parameters that require gradients; Sequential has none"):
        measured(mlp(4, 1).requires_grad_(False))


def test_a_teacher_with_other_classes(without_shape_hook):
    with pytest.raises(ShapeError, match=r"student_logits \(40, 3\), teacher_logits \(40, 4\)"):
        measured(teacher=mlp(8, 2, classes=4), loss="kd")


def test_a_teacher_that_is_no_teacher(without_shape_hook):
    with pytest.raises(ModelError, match="`teacher` to be a torch module or a Teacher"):
        measured(teacher=3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_inputs_of_the_teacher_that_are_not_finite(value):
    teacher = mlp(8, 2)
    teacher[2].bias.data[1] = value
    with pytest.raises(
        DataError, match=r"gradients of the distillation loss; got NaN .* of 40 rows"
    ):
        measured(teacher=teacher)


def test_weights_of_the_student_that_are_not_finite():
    student = mlp(4, 1)
    student[0].weight.data[0, 0] = float("nan")
    with pytest.raises(DataError, match=r"gradients of the task loss; got NaN .* 40 of 40 rows"):
        measured(student)


class Explodes(torch.autograd.Function):
    """Finite forward, infinite backward."""

    @staticmethod
    def forward(ctx, x):  # noqa: ARG004
        return x.clone()

    @staticmethod
    def backward(ctx, *gradients):  # noqa: ARG004
        return gradients[0] * float("inf")


class Exploding(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(6, 4).double(), nn.Linear(4, 3).double()

    def forward(self, x):
        return self.head(Explodes.apply(self.first(x)))


def test_gradients_that_are_not_finite_inside():
    with pytest.raises(DataError, match="NaN or infinite ones in the layers first"):
        measured(Exploding(), method="groups")


@pytest.mark.parametrize("loss", [ITRD(), DIST(), "dkd"])
def test_losses_that_are_no_means_over_samples(loss):
    with pytest.raises(ArgumentError, match="expected a loss that is a mean over samples"):
        measured(loss=loss)


def test_unless_forced():
    found = measured(loss="dist", force=True)
    assert found.tr_hh > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "persample"}, "per_sample"),
        ({"loss": "kdd"}, "`loss` to be one of"),
        ({"loss": 3}, "`loss` to be a name"),
        ({"task": "clasification"}, "Did you mean classification"),
        ({"method": "groups", "group_rows": 21}, "two groups of `group_rows` at least; got 21"),
        ({"method": "groups", "group_rows": 0}, "two groups"),
        ({"training": True, "method": "gram"}, "expected method='groups' with training=True"),
        ({"preconditioner": {}}, r"factors >= 0 of shape \(4, 6\) for '0.weight'; got nothing"),
    ],
)
def test_arguments(without_shape_hook, options, words):
    with pytest.raises(ArgumentError, match=words):
        measured(**options)


def test_preconditioners_of_another_shape_or_sign():
    student = mlp(4, 1)
    factors = {name: torch.ones_like(one) for name, one in student.named_parameters()}
    with pytest.raises(ArgumentError, match=r"'0\.weight'; got shape"):
        measured(student, preconditioner=factors | {"0.weight": -torch.ones(4, 6)})
    with pytest.raises(ArgumentError, match=r"'2.bias'; got shape \(1,\)"):
        measured(student, preconditioner=factors | {"2.bias": torch.ones(1)})


@pytest.mark.parametrize("method", ["per_sample", "gram", "probes", "last_layer"])
def test_batch_norm_without_running_statistics(method):
    student = nn.Sequential(
        nn.Linear(6, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 3)
    ).double()
    with pytest.raises(ArgumentError, match=r"statistics of the batch: 1\. Take method='groups'"):
        measured(student, method=method)
    assert measured(student).settings["method"] == "groups"


def test_layers_that_gram_does_not_know():
    student = nn.Sequential(nn.Linear(6, 4), nn.PReLU(), nn.Linear(4, 3)).double()
    with pytest.raises(ModelError, match=r"got 1 \(PReLU\)\. Take method='per_sample' or 'groups'"):
        measured(student, method="gram")
    assert measured(student).settings["method"] == "per_sample"


def test_an_operator_that_cannot_be_vectorised_falls_back():
    class Awkward(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3, dtype=torch.float64))
            self.inner = mlp(4, 1)

        def forward(self, x):
            return self.inner(x) * self.scale * (1.0 if bool((x > 100).any()) else 2.0)

    with pytest.raises(RuntimeError, match=r"vmap|data-dependent"):
        measured(Awkward(), method="per_sample")
    assert measured(Awkward()).settings["method"] == "groups"


def test_no_head_for_the_last_layer():
    student = nn.Sequential(nn.Linear(6, 3), nn.Tanh()).double()
    with pytest.raises(LayerError, match="expected a linear layer whose output is the model's"):
        measured(student, method="last_layer")


def test_modes_come_back_after_an_error(without_shape_hook):
    student = Convolutions(1).train()
    with pytest.raises(DataError):
        measured(student, mlp(8, 2, inputs=36), rows(5, inputs=36))
    teacher = mlp(8, 2, inputs=36, classes=5).train()
    with pytest.raises(ShapeError):
        measured(student, teacher, rows(40, inputs=36), loss="kd")
    assert student.training
    assert student.norm.training
    assert teacher.training
    assert not any(part._forward_hooks for part in student.modules())
