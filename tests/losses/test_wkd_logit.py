"""WKD-L: against Sinkhorn in plain loops, linear programming and hand-computed costs."""

import math

import numpy as np
import pytest
import torch
from helpers.logits import LABELS, batch_of, drawn, logits, pairs, softmax
from scipy.optimize import linprog

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import WKDL, wkd_logit_loss
from limbeck.losses.class_costs import costs_from_features, costs_of
from limbeck.types import Outputs


COST = costs_of(torch.cos(torch.arange(5.0)[:, None] - torch.arange(5.0)).double())

UNSYMMETRIC = COST * (1.0 + 0.5 * torch.arange(25.0).view(5, 5).triu(1).double() / 25.0)


def sinkhorn(p, q, cost, regularisation, iterations):
    """As in the authors' code: plain scalings, in Python; returns the cost of the plan."""
    kernel = [[math.exp(-c / regularisation) for c in row] for row in cost]
    n = len(p)
    u = [1 / n] * n
    v = u
    for _ in range(iterations):
        v = [q[j] / sum(kernel[i][j] * u[i] for i in range(n)) for j in range(n)]
        u = [p[i] / sum(kernel[i][j] * v[j] for j in range(n)) for i in range(n)]
    return sum(u[i] * kernel[i][j] * v[j] * cost[i][j] for i in range(n) for j in range(n))


def by_loops(student, teacher, targets, cost, temperature, weight, regularisation, iterations):
    total, count = 0.0, 0
    for row_s, row_t, y in pairs(student, teacher, targets):
        if y < 0:
            continue
        total -= softmax(row_t)[y] * math.log(softmax(row_s)[y])
        others = [k for k in range(len(row_s)) if k != y]
        p, q = (softmax([row[k] for k in others], temperature) for row in (row_s, row_t))
        between = [[float(cost[k, j]) for j in others] for k in others]
        total += weight * sinkhorn(p, q, between, regularisation, iterations)
        count += 1
    return total / count


@pytest.mark.parametrize(
    ("temperature", "weight", "regularisation", "iterations"),
    [(8.0, 600.0, 0.05, 10), (2.0, 3.0, 0.2, 1), (1.0, 1.0, 0.5, 4)],
)
def test_plain_loops_over_the_labelled_rows(temperature, weight, regularisation, iterations):
    student, teacher = logits()
    targets = torch.tensor([3, -1, 2, 0, -1, 4])
    found = wkd_logit_loss(
        student,
        teacher,
        targets,
        UNSYMMETRIC,
        temperature=temperature,
        distance_weight=weight,
        regularisation=regularisation,
        iterations=iterations,
    )
    settings = temperature, weight, regularisation, iterations
    expected = by_loops(student, teacher, targets, UNSYMMETRIC, *settings)
    assert found.item() == pytest.approx(expected, rel=1e-10)


def test_defaults_are_those_published_for_alike_networks():
    found = wkd_logit_loss(*logits(), LABELS, COST)
    expected = by_loops(*logits(), LABELS, COST, 8.0, 600.0, 0.05, 10)
    assert found.item() == pytest.approx(expected, rel=1e-10)
    assert WKDL.published_weights == (1.0, 1.0)


def test_many_iterations_and_little_regularisation_give_the_wasserstein_distance():
    student, teacher = (z[:1] for z in logits())
    targets = torch.tensor([2])
    others = [0, 1, 3, 4]
    p, q = (softmax([z[0, k].item() for k in others]) for z in (student, teacher))
    sums = np.zeros((8, 16))
    for i in range(4):
        for j in range(4):
            sums[i, 4 * i + j] = sums[4 + j, 4 * i + j] = 1.0
    cost = COST[others][:, others].flatten().numpy()
    exact = linprog(cost, A_eq=sums, b_eq=[*p, *q]).fun
    settings = {"temperature": 1.0, "regularisation": 0.004, "iterations": 2000}
    both = [
        wkd_logit_loss(student, teacher, targets, COST, distance_weight=weight, **settings).item()
        for weight in (1.0, 0.0)
    ]
    assert both[0] - both[1] == pytest.approx(exact, rel=1e-3)


def distance(student, teacher, targets, cost, **settings):
    """The second term alone."""
    whole, first = (
        wkd_logit_loss(student, teacher, targets, cost, distance_weight=weight, **settings)
        for weight in (1.0, 0.0)
    )
    return (whole - first).item()


def test_it_is_cheaper_to_be_wrong_between_classes_that_are_alike():
    near, far = torch.tensor([[9.0, 0.0, 5.0, 0.0]]), torch.tensor([[9.0, 0.0, 0.0, 5.0]])
    teacher, targets = torch.tensor([[9.0, 5.0, 0.0, 0.0]]), torch.tensor([0])
    cost = torch.tensor([[0, 1, 1, 1], [1, 0, 0.1, 1], [1, 0.1, 0, 1], [1, 1, 1, 0.0]])
    values = [distance(z, teacher, targets, cost, temperature=1.0) for z in (near, far)]
    assert values[0] < 0.2 * values[1]


def test_the_label_and_its_costs_do_not_enter_the_distance():
    student, teacher = logits()
    one = distance(student, teacher, LABELS, COST)
    changed = student.scatter(1, LABELS[:, None], 7.0)
    assert distance(changed, teacher, LABELS, COST) == pytest.approx(one, rel=1e-9)
    shifted = distance(student + drawn(6, 1), teacher - 4.0, LABELS, COST)
    assert shifted == pytest.approx(one, rel=1e-9)
    order = torch.tensor([3, 0, 4, 1, 2])
    renamed = distance(
        student[:, order], teacher[:, order], order.argsort()[LABELS], COST[order][:, order]
    )
    assert renamed == pytest.approx(one, rel=1e-9)
    single = torch.zeros(6, dtype=torch.int64)
    row = COST.clone()
    row[0], row[:, 0] = 9.0, 9.0
    assert distance(student, teacher, single, row) == pytest.approx(
        distance(student, teacher, single, COST), rel=1e-9
    )


def test_a_cost_may_be_unsymmetric_and_goes_from_student_to_teacher():
    student, teacher = torch.tensor([[9.0, 50.0, 0.0]]), torch.tensor([[9.0, 0.0, 50.0]])
    cost = torch.zeros(3, 3)
    cost[1, 2], cost[2, 1] = 0.25, 0.75
    for z, goal, expected in ((student, teacher, 0.25), (teacher, student, 0.75)):
        found = distance(z.double(), goal.double(), torch.tensor([0]), cost, temperature=1.0)
        assert found == pytest.approx(expected, rel=1e-6)


def test_gradient_agrees_with_differences_and_the_teacher_has_none():
    student, teacher = (z.requires_grad_() for z in logits())
    cost = COST.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: wkd_logit_loss(z, teacher.detach(), LABELS, COST, distance_weight=3.0), student
    )
    value = wkd_logit_loss(student, teacher, LABELS, cost)
    found = torch.autograd.grad(value, (student, teacher, cost), allow_unused=True)
    assert found[1] is None
    assert found[2] is None


@pytest.mark.parametrize("scale", [0.0, 1e4, 1e8])
@pytest.mark.parametrize("farthest", [0.0, 1.0, 1e6])
def test_extreme_logits_and_costs_are_finite(scale, farthest):
    student, teacher = (scale * z.float() for z in logits())
    student.requires_grad_()
    value = wkd_logit_loss(student, teacher, LABELS, farthest * COST.float(), temperature=1.0)
    assert value.isfinite()
    assert torch.autograd.grad(value, student)[0].isfinite().all()


def test_rows_without_labels_two_classes_and_bfloat16():
    student, teacher = logits()
    student.requires_grad_()
    value = wkd_logit_loss(student, teacher, torch.full((6,), -1), COST)
    assert value.item() == 0.0
    assert (torch.autograd.grad(value, student)[0] == 0).all()
    pair = student.detach()[:, :2], teacher[:, :2], LABELS % 2
    assert distance(*pair, 1.0 - torch.eye(2)) == pytest.approx(0.0, abs=1e-12)
    narrow = student.detach().bfloat16(), teacher.bfloat16()
    found = wkd_logit_loss(*narrow, LABELS, COST)  # of float64, which says nothing
    assert found.dtype == torch.float32
    exact = wkd_logit_loss(*(z.double() for z in narrow), LABELS, COST)
    assert found.item() == pytest.approx(exact.item(), rel=1e-4)


def test_costs_from_features_by_loops():
    features, targets = drawn(9, 4), torch.tensor([0, 1, 2, 0, 1, 2, 0, -1, 0])
    found = costs_from_features(features, targets, 4, sharpness=1.5)
    centring = np.eye(4) - 1 / 4
    grams = []
    for k in range(3):
        rows = features[targets == k].numpy()
        grams.append(centring @ rows.T @ rows @ centring)
    for k in range(4):
        for j in range(4):
            if k == j:
                expected = 0.0
            elif 3 in (k, j):  # a class without samples
                expected = 1 - math.exp(-1.5)
            else:
                likeness = np.sum(grams[k] * grams[j])
                likeness /= np.linalg.norm(grams[k]) * np.linalg.norm(grams[j])
                expected = 1 - math.exp(-1.5 * (1 - likeness))
            assert found[k, j].item() == pytest.approx(expected, rel=1e-10)


def test_costs_of_a_module_are_correlations_of_the_teachers_logits_so_far():
    loss, seen = WKDL(), []
    for step, rows in enumerate((6, 3, 8)):
        teacher = drawn(rows, 5, seed=step) @ drawn(5, 5, seed=9)
        teacher = teacher + 100.0 * drawn(rows, 1, seed=step)  # what no softmax sees
        student, labels = drawn(rows, 5, seed=5 + step), torch.arange(rows) % 5
        given = Outputs(student), Outputs(teacher), batch_of(rows, labels)
        loss.prepare(*given)
        seen.append(teacher - teacher.mean(1, keepdim=True))
        correlation = torch.from_numpy(np.corrcoef(torch.cat(seen).numpy(), rowvar=False))
        cost = 1 - torch.exp(-(1 - correlation))
        value = loss(*given).item()
        expected = by_loops(student, teacher, labels, cost, 8.0, 600.0, 0.05, 10)
        assert value == pytest.approx(expected, rel=1e-7)
    assert loss.seen.item() == 17
    loss.eval()
    before = loss.covariance.clone()
    assert loss(*given).item() == pytest.approx(value, rel=1e-12)
    assert torch.equal(loss.covariance, before)


def test_a_class_whose_logit_is_constant_and_a_batch_without_rows():
    teacher = torch.tensor([[1.0, -1.0, 0.0], [2.0, -2.0, 0.0], [4.0, -4.0, 0.0]])
    given = Outputs(drawn(3, 3).float()), Outputs(teacher), batch_of(3, torch.tensor([0, 1, 2]))
    loss = WKDL()
    loss.prepare(*given)
    assert loss(*given).isfinite()
    cost = loss._cost(teacher)
    assert (cost.diagonal() == 0).all()
    torch.testing.assert_close(cost[0, 2].item(), 1 - math.exp(-1))
    torch.testing.assert_close(cost[0, 1].item(), 1 - math.exp(-2))
    empty = Outputs(teacher[:0]), Outputs(teacher[:0]), batch_of(0, torch.zeros(0).long())
    assert loss(*empty).item() == 0.0
    assert loss.covariance.isfinite().all()


def test_module_with_costs_is_the_function():
    student, teacher = logits()
    settings = {
        "temperature": 2.0,
        "distance_weight": 5.0,
        "regularisation": 0.3,
        "iterations": 3,
    }
    loss = WKDL(cost=COST, **settings)
    given = Outputs(student), Outputs(teacher), batch_of(6, LABELS)
    loss.prepare(*given)
    expected = by_loops(student, teacher, LABELS, COST, *settings.values())
    assert loss(*given).item() == pytest.approx(expected, rel=1e-10)
    assert not loss.mean.numel()


@pytest.mark.usefixtures("without_shape_hook")
def test_messages_say_what_to_do():
    student, teacher = logits()
    given = Outputs(student), Outputs(teacher), batch_of(6, LABELS)
    with pytest.raises(ShapeError, match=r"wkd_logit_loss: .*teacher_logits \(6, 4\)"):
        wkd_logit_loss(student, teacher[:, :4], LABELS, COST)
    with pytest.raises(ShapeError, match=r"wkd_logit_loss: .*\(5, 5\).*got \(4, 5\)"):
        wkd_logit_loss(student, teacher, LABELS, COST[:4])
    with pytest.raises(ShapeError, match=r"costs_from_features: .*targets \(6,\)"):
        costs_from_features(drawn(5, 4), LABELS, 5)
    with pytest.raises(ArgumentError, match="`temperature` > 0"):
        wkd_logit_loss(student, teacher, LABELS, COST, temperature=0.0)
    with pytest.raises(ArgumentError, match="`iterations` > 0"):
        WKDL(iterations=0)
    with pytest.raises(ArgumentError, match=r"WKDL: expected `distance_weight` in \[0.0, inf\]"):
        WKDL(distance_weight=-1.0)
    with pytest.raises(ArgumentError, match="WKDL: expected to know the classes"):
        WKDL()(*given)
    with pytest.raises(ArgumentError, match="WKDL: expected class indices"):
        WKDL(cost=COST)(Outputs(student), Outputs(teacher), batch_of(6))
