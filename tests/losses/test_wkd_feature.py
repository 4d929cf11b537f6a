"""WKD-F: against plain loops and the closed form of the Wasserstein distance; its connector."""

import math
import statistics

import pytest
import torch
from helpers.features import args, assert_finite, drawn, maps, prepared, value_and_gradient
from torch import nn
from torch.nn import functional as F

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import WKDF, wkd_feature_loss


def cells(side, grid):
    """Which positions adaptive average pooling puts into each cell, seen from its gradient."""
    line = torch.zeros(1, 1, side, dtype=torch.float64, requires_grad=True)
    out = F.adaptive_avg_pool1d(line, grid)
    for cell in range(grid):
        (gradient,) = torch.autograd.grad(out[0, 0, cell], line, retain_graph=True)
        yield [i for i in range(side) if gradient[0, 0, i] > 0]


def by_loops(student, teacher, mean_weight, grid):
    total = 0.0
    for row in range(len(student)):
        for channel in range(student.shape[1]):
            sides = []
            for side in (student, teacher):
                image = side[row, channel].tolist()
                found = []
                for ys in cells(len(image), grid):
                    for xs in cells(len(image[0]), grid):
                        values = [image[y][x] for y in ys for x in xs]
                        variance = statistics.variance(values) if len(values) > 1 else 0.0
                        found.append((statistics.fmean(values), math.sqrt(variance + 1e-5)))
                sides.append(found)
            for (m, s), (goal, goal_s) in zip(*sides, strict=True):
                total += mean_weight * (m - goal) ** 2 + (s - goal_s) ** 2
    return total / (len(student) * grid**2)


@pytest.mark.parametrize("grid", [1, 2, 3, 4])
def test_equals_plain_loops(grid):
    student, teacher = maps(2, 3, 5, 0.3), maps(2, 3, 4, 1.0)
    found = wkd_feature_loss(student, teacher, mean_weight=1.7, grid=grid).item()
    assert found == pytest.approx(by_loops(student, teacher, 1.7, grid), rel=1e-10)


def test_defaults_are_those_published_for_alike_networks():
    student, teacher = maps(2, 3, 5, 0.3), maps(2, 3, 4, 1.0)
    expected = by_loops(student, teacher, 4.0, 1)
    assert wkd_feature_loss(student, teacher).item() == pytest.approx(expected, rel=1e-10)
    assert WKDF.published_weights == (1.0, 0.08)


def test_is_the_wasserstein_distance_of_two_gaussians():
    """Tr(A + B - 2 (A^1/2 B A^1/2)^1/2) and the means, with torch's eigenvalues, from samples."""
    samples = drawn(1, 3, 50), 2.0 * drawn(1, 3, 50, seed=1) + 1.0
    means = [z[0].mean(1) for z in samples]
    covariances = [torch.diag(z[0].var(1) + 1e-5) for z in samples]
    root = covariances[0].sqrt()
    inner = torch.linalg.eigvalsh(root @ covariances[1] @ root).sqrt().sum()
    expected = (means[0] - means[1]).square().sum() - 2 * inner
    expected = expected + sum(torch.trace(one) for one in covariances)
    found = wkd_feature_loss(*samples, mean_weight=1.0).item()
    assert found == pytest.approx(expected.item(), rel=1e-11)


def test_positions_of_a_cell_may_be_shuffled_but_not_across_cells():
    student, teacher = drawn(2, 3, 4, 4), drawn(2, 3, 4, 4, seed=1)
    for change, grids in ((student.flip(2, 3), (1,)), (student[:, :, [1, 0, 3, 2]], (1, 2))):
        for grid in (1, 2, 4):
            one = wkd_feature_loss(student, teacher, grid=grid).item()
            two = wkd_feature_loss(change, teacher, grid=grid).item()
            assert (two == pytest.approx(one, rel=1e-12)) == (grid in grids)


def test_a_shift_of_both_changes_nothing_and_large_means_do_not_hide_deviations():
    student, teacher = drawn(2, 3, 4, 4), drawn(2, 3, 4, 4, seed=1)
    one = wkd_feature_loss(student, teacher, mean_weight=0.0).item()
    two = wkd_feature_loss(student + 1e6, teacher, mean_weight=0.0).item()
    assert two == pytest.approx(one, rel=1e-7)


def test_padded_tokens_do_not_count():
    student, teacher = drawn(2, 3, 4), drawn(2, 3, 4, seed=1)
    mask = torch.tensor([[True, False, False, True], [True, True, True, True]])
    kept = [
        wkd_feature_loss(student[:1, :, [0, 3]], teacher[:1, :, [0, 3]]).item(),
        wkd_feature_loss(student[1:], teacher[1:]).item(),
    ]
    found = wkd_feature_loss(student, teacher, mask=mask).item()
    assert found == pytest.approx(sum(kept) / 2, rel=1e-12)


def test_gradients():
    student, teacher = maps(2, 3, 4, 0.3).requires_grad_(), maps(2, 3, 2, 1.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: wkd_feature_loss(z, teacher, grid=2), student)
    found = torch.autograd.grad(
        wkd_feature_loss(student, teacher), (student, teacher), allow_unused=True
    )
    assert found[0].abs().max() > 0
    assert found[1] is None


def test_constant_maps_single_positions_narrow_floats_and_no_rows():
    teacher = drawn(2, 3, 4, 4).bfloat16()
    assert_finite(lambda z: wkd_feature_loss(z, teacher), torch.full((2, 3, 4, 4), 0.3))
    single = drawn(2, 3, 1, 1, seed=2)
    value, _ = value_and_gradient(lambda z: wkd_feature_loss(z, 0 * single), single)
    assert value == pytest.approx(4.0 * single.square().sum().item() / 2)
    found = wkd_feature_loss(teacher, 2 * teacher)
    assert found.dtype == torch.float32
    expected = wkd_feature_loss(teacher.double(), 2 * teacher.double()).item()
    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert wkd_feature_loss(teacher[:0], teacher[:0]).item() == 0.0


def test_module_is_the_function_of_its_connectors():
    student = {"a": drawn(4, 3, 4, 4), "b": drawn(4, 2, 6)}
    teacher = {"a": drawn(4, 5, 2, 2), "b": drawn(4, 2, 7)}
    given = args(student, teacher)
    loss = prepared(WKDF(("a", "b"), mean_weight=0.7, grid=1), given)
    hidden = F.conv2d(student["a"], loss.regressors[0][0].weight)
    one = F.batch_norm(hidden, None, None, training=True)
    two = loss.regressors[1][0](student["b"].transpose(1, 2))
    assert [type(step) for step in loss.regressors[1]] == [nn.Conv1d]
    expected = wkd_feature_loss(one, teacher["a"], mean_weight=0.7) + wkd_feature_loss(
        two, teacher["b"].transpose(1, 2), mean_weight=0.7
    )
    assert loss(*given).item() == pytest.approx(expected.item(), rel=1e-10)
    before = [parameter.clone() for parameter in loss.parameters()]
    loss.prepare(*given)  # a second time changes nothing
    assert all(torch.equal(a, b) for a, b in zip(before, loss.parameters(), strict=True))


def test_a_module_leaves_padded_tokens_out():
    student, teacher = drawn(2, 6, 3), drawn(2, 6, 5)
    mask = torch.tensor([[1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0]])
    given = args({"a": student}, {"a": teacher}, mask=mask)
    loss = prepared(WKDF("a"), given)
    found = loss(*given).item()
    junk = mask[:, :, None] == 0
    other = args({"a": student.masked_fill(junk, 9.0)}, {"a": teacher * ~junk}, mask=mask)
    assert loss(*other).item() == pytest.approx(found, rel=1e-12)
    assert loss(*args({"a": student}, {"a": teacher})).item() != pytest.approx(found, rel=0.01)
    mine = loss.regressors[0][0](student.transpose(1, 2))
    expected = wkd_feature_loss(mine, teacher.transpose(1, 2), mask=mask.bool()).item()
    assert found == pytest.approx(expected, rel=1e-12)


def test_the_grid_of_a_module_is_used():
    given = args({"a": drawn(4, 3, 4, 4)}, {"a": drawn(4, 5, 4, 4)})
    one, two = (prepared(WKDF("a", grid=grid), given)(*given).item() for grid in (1, 2))
    assert abs(one - two) > 1e-3


def test_relu_where_the_teacher_has_one_unless_told():
    student, signed = {"a": drawn(4, 3, 4, 4)}, {"a": drawn(4, 5, 4, 4)}
    positive = {"a": signed["a"].relu()}

    def has_relu(loss, teacher):
        return isinstance(prepared(loss, args(student, teacher)).regressors[0][-1], nn.ReLU)

    assert has_relu(WKDF("a"), positive)
    assert not has_relu(WKDF("a"), signed)
    assert has_relu(WKDF("a", relu=True), signed)
    assert not has_relu(WKDF("a", relu=False), positive)


@pytest.mark.usefixtures("without_shape_hook")
def test_messages():
    with pytest.raises(ShapeError, match=r"wkd_feature_loss: .*\(2, 3, 4, 4\).*\(2, 4, 4, 4\)"):
        wkd_feature_loss(drawn(2, 3, 4, 4), drawn(2, 4, 4, 4))
    with pytest.raises(ShapeError, match="wkd_feature_loss: expected maps or token states"):
        wkd_feature_loss(drawn(2, 3), drawn(2, 3))
    with pytest.raises(ShapeError, match="at least 3 positions a side"):
        wkd_feature_loss(drawn(2, 3, 4, 4), drawn(2, 3, 2, 2), grid=3)
    with pytest.raises(ShapeError, match="at least 2 positions a side"):
        wkd_feature_loss(drawn(2, 3, 4), drawn(2, 3, 4), grid=2)
    with pytest.raises(ArgumentError, match="`grid` > 0; got 0"):
        WKDF(grid=0)
    with pytest.raises(ArgumentError, match=r"`mean_weight` in \[0.0, inf\]; got -1"):
        wkd_feature_loss(drawn(2, 3, 4, 4), drawn(2, 3, 4, 4), mean_weight=-1.0)
    with pytest.raises(ShapeError, match=r"WKDF: .*got vectors"):
        prepared(WKDF("a"), args({"a": drawn(4, 3)}, {"a": drawn(4, 3)}))
    with pytest.raises(ArgumentError, match=r"WKDF: .*not prepared"):
        WKDF("a")(*args({"a": drawn(4, 3, 2, 2)}, {"a": drawn(4, 3, 2, 2)}))
