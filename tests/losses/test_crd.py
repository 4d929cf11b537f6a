"""CRD: golden values, plain loops, negatives by class and queue, embeddings."""

import math

import pytest
import torch
from helpers.contrast import golden, plain_contrast
from helpers.features import (
    DIGITS,
    args,
    assert_finite,
    drawn,
    prepared,
    turned,
    value_and_gradient,
)
from torch.nn import functional as F

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import CRD, crd_loss
from limbeck.losses.crd import log_mean_score, noise_contrastive_loss


@pytest.mark.parametrize(
    ("temperature", "loss", "normaliser"),
    [(0.07, 9.020843460835, 342433.549766539), (0.5, 1.963360287417, 13.794255093860)],
)
def test_equals_the_authors(temperature, loss, normaliser):
    queries, bank, positive, negatives = golden()
    chosen = negatives | F.one_hot(positive, 10).bool()
    score = log_mean_score(queries, bank, chosen, temperature=temperature)
    assert 10 * score.exp().item() == pytest.approx(normaliser, rel=1e-14)
    for given in (None, score):
        value = noise_contrastive_loss(
            queries, bank, positive, negatives, temperature=temperature, log_normaliser=given
        )
        assert value.item() == pytest.approx(loss, **DIGITS)


def plain_crd(student, teacher, temperature: float) -> float:
    rows = range(len(student))
    others = [[j for j in rows if j != i] for i in rows]
    return plain_contrast(student, teacher, rows, others, temperature) + plain_contrast(
        teacher, student, rows, others, temperature
    )


@pytest.mark.parametrize("rows", [2, 3, 8])
def test_equals_plain_loops(rows):
    student, teacher = drawn(rows, 4), drawn(rows, 4, seed=1)
    for temperature in (0.07, 0.5):
        value = crd_loss(student, teacher, temperature=temperature).item()
        assert value == pytest.approx(plain_crd(student, teacher, temperature), rel=1e-11)


def test_samples_of_one_class_are_no_negatives():
    """Rows 0 and 2 are of one class, rows 3 and 4 of an unknown one each."""
    student, teacher = drawn(5, 4), drawn(5, 4, seed=1)
    others = [[1, 3, 4], [0, 2, 3, 4], [1, 3, 4], [0, 1, 2, 4], [0, 1, 2, 3]]
    expected = sum(
        plain_contrast(*pair, range(5), others, 0.2)
        for pair in ((student, teacher), (teacher, student))
    )
    labels = torch.tensor([1, 0, 1, -1, -1])
    value = crd_loss(student, teacher, temperature=0.2, labels=labels).item()
    assert value == pytest.approx(expected, rel=1e-11)


def test_the_queue_adds_negatives_for_the_student_alone():
    student, teacher, past = drawn(3, 4), drawn(3, 4, seed=1), drawn(4, 4, seed=2) * 5
    filled, labels = torch.tensor([True, True, True, False]), torch.tensor([0, 1, 2])
    allowed = [[1, 2, 3, 4, 5], [0, 2, 3, 5], [0, 1, 3, 4, 5]]  # place 4 is of class 1
    ahead = plain_contrast(student, torch.cat([teacher, past]), range(3), allowed, 0.2)
    back = plain_contrast(teacher, student, range(3), [[1, 2], [0, 2], [0, 1]], 0.2)
    value = crd_loss(
        student,
        teacher,
        temperature=0.2,
        labels=labels,
        queue=past,
        queue_labels=torch.tensor([7, 1, -1, 0]),
        queue_filled=filled,
    )
    assert value.item() == pytest.approx(ahead + back, rel=1e-11)
    without_labels = crd_loss(student, teacher, temperature=0.2, queue=past[:3]).item()
    every = [[1, 2, 3, 4, 5], [0, 2, 3, 4, 5], [0, 1, 3, 4, 5]]
    ahead = plain_contrast(student, torch.cat([teacher, past[:3]]), range(3), every, 0.2)
    assert without_labels == pytest.approx(ahead + back, rel=1e-11)


def test_hand_computed_value():
    """Orthogonal rows, scores e and 1 with a given mean of 1: P = e/2 and 1/2 against c = 1/2."""
    eye = torch.eye(2).double()
    expected = -math.log(math.e / (math.e + 1)) - math.log(1 / (1 + 1))
    value = crd_loss(eye, eye, temperature=1.0, log_normaliser=torch.zeros(())).item()
    assert value == pytest.approx(2 * expected, rel=1e-6)  # 1e-7 beside 1/2


def test_rotation_of_both_and_lengths_do_not_matter():
    student, teacher = drawn(6, 4), drawn(6, 4, seed=1)
    value = crd_loss(student, teacher).item()
    lengths = torch.tensor([0.5, 2.0, 30.0, 1.0, 4.0, 9.0], dtype=torch.float64)[:, None]
    for one, two in [
        (student @ turned(4), teacher @ turned(4)),
        (student * lengths, teacher),
        (student, teacher * lengths),
        (teacher, student),
    ]:
        assert crd_loss(one, two).item() == pytest.approx(value, rel=1e-11)
    assert crd_loss(teacher, teacher).item() < value


def test_gradients_flow_into_both_embeddings_and_not_into_the_mean_score():
    student, teacher = (drawn(5, 3, seed=seed).requires_grad_() for seed in (0, 1))
    score = torch.tensor(0.7, dtype=torch.float64)
    labels = torch.tensor([0, 1, 0, 2, -1])

    def fixed(one, two):
        return crd_loss(one, two, temperature=0.5, labels=labels, log_normaliser=score)

    assert torch.autograd.gradcheck(fixed, (student, teacher))
    units = F.normalize(student).detach(), F.normalize(teacher).detach()
    here = log_mean_score(*units, torch.ones(5, 5, dtype=torch.bool), temperature=0.5)
    one, two = (
        torch.autograd.grad(crd_loss(student, teacher, temperature=0.5, log_normaliser=z), student)
        for z in (None, here)
    )
    torch.testing.assert_close(one[0], two[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_rows_have_no_negatives(rows):
    """A positive alone is told from nothing: ln(P/(P + 1e-7)) with P = 1, twice."""
    value, _ = value_and_gradient(lambda z: crd_loss(z, drawn(rows, 4)), drawn(rows, 4, seed=1))
    assert value == pytest.approx(2e-7 * rows, rel=1e-6)


def test_rows_of_one_class_alone_are_finite():
    labels = torch.zeros(4, dtype=torch.int64)
    assert_finite(lambda z: crd_loss(z, drawn(4, 3), labels=labels), drawn(4, 3, seed=1))


@pytest.mark.parametrize("constant", [0.0, 0.3, 1e4])
def test_zero_and_constant_features_are_finite(constant):
    features, teacher = torch.full((4, 3), constant), drawn(4, 5).float()
    loss = prepared(CRD(queue=3), args(features, teacher))
    assert_finite(lambda z: loss(*args(z, teacher)), features)
    assert_finite(lambda z: crd_loss(z, torch.zeros(4, 3)), features)


def test_narrow_floats_and_autocast():
    student, teacher = drawn(8, 6).bfloat16(), drawn(8, 6, seed=1).bfloat16()
    value = crd_loss(student, teacher)
    exact = crd_loss(student.double(), teacher.double())
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(exact.item(), rel=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert crd_loss(student.float(), teacher.float()).item() == value.item()


@pytest.mark.usefixtures("without_shape_hook")
def test_messages():
    with pytest.raises(ShapeError, match=r"crd_loss: .*student \(2, 3\), teacher \(2, 4\)\. Embed"):
        crd_loss(drawn(2, 3), drawn(2, 4))
    with pytest.raises(ShapeError, match=r"crd_loss: .*queue \(5, 4\)"):
        crd_loss(drawn(2, 3), drawn(2, 3), queue=drawn(5, 4))
    with pytest.raises(ArgumentError, match="expected `temperature` > 0"):
        crd_loss(drawn(2, 3), drawn(2, 3), temperature=0.0)
    for wrong in ({"width": 0}, {"temperature": 0.0}, {"queue": -1}):
        with pytest.raises(ArgumentError, match=f"CRD: expected `{next(iter(wrong))}`"):
            CRD(**wrong)


def test_module_embeds_both_sides_and_keeps_the_first_mean_score():
    student, teacher = drawn(6, 3, 2, 2), drawn(6, 5, seed=1)
    given = args({"a": student}, {"a": teacher}, targets=torch.tensor([0, 1, 0, 2, 3, -1]))
    loss = prepared(CRD("a", width=7, temperature=0.2), given)
    mine, theirs = loss.embeddings.student, loss.embeddings.teacher
    one = F.normalize(student.mean((2, 3)) @ mine.weight.T + mine.bias)
    two = F.normalize(teacher @ theirs.weight.T + theirs.bias)
    scores = ((one @ two.T) / 0.2).exp()
    kept = torch.ones(6, 6, dtype=torch.bool)
    kept[0, 2] = kept[2, 0] = False
    assert loss.log_normaliser.item() == pytest.approx(scores[kept].mean().log().item(), rel=1e-12)
    others = [[j for j in range(6) if kept[i, j] and i != j] for i in range(6)]
    expected = sum(plain_contrast(a, b, range(6), others, 0.2) for a, b in ((one, two), (two, one)))
    value = loss(*given)
    assert value.item() == pytest.approx(expected, rel=1e-10)
    value.backward()
    assert all((parameter.grad != 0).any() for parameter in loss.parameters())
    before = loss.log_normaliser.item()
    loss.prepare(*args({"a": student * 2}, {"a": teacher}))  # a second time changes nothing
    loss(*args({"a": student * 2}, {"a": teacher}))
    assert loss.log_normaliser.item() == before
    assert loss.published_weights == (1.0, 0.8)


def test_targets_that_are_no_classes_are_not_used():
    student, teacher, numbers = drawn(4, 3), drawn(4, 5, seed=1), torch.zeros(4)
    one, two, three, four = (
        prepared(CRD(use_labels=use), args(student, teacher, targets=targets))(
            *args(student, teacher, targets=targets)
        ).item()
        for use, targets in [
            (True, numbers),
            (True, None),
            (False, numbers.long()),
            (True, numbers.long()),
        ]
    )
    assert one == two == three
    assert four != pytest.approx(one, rel=1e-3)


def test_the_queue_holds_the_last_embeddings_in_training_only():
    students, teachers = drawn(3, 2, 3), drawn(3, 2, 5, seed=1)
    loss = prepared(CRD(queue=3, width=4), args(students[0], teachers[0]))
    units = [F.normalize(loss.embeddings.teacher(rows)) for rows in teachers]
    loss.eval()
    loss(*args(students[0], teachers[0]))
    assert loss.seen.item() == 0
    loss.train()
    for step in range(2):
        loss(*args(students[step], teachers[step], targets=torch.tensor([step, 7]))).backward()
    assert loss.seen.item() == 4
    expected = torch.stack([units[1][1], units[0][1], units[1][0]])
    torch.testing.assert_close(loss.past, expected.detach())
    assert loss.past_labels.tolist() == [7, 7, 1]
    third = args(students[2], teachers[2], targets=torch.tensor([3, 1]))
    value = loss.eval()(*third).item()
    direct = crd_loss(
        loss.embeddings.student(students[2]),
        units[2],
        labels=torch.tensor([3, 1]),
        queue=expected,
        queue_labels=torch.tensor([7, 7, 1]),
        log_normaliser=loss.log_normaliser,
    )
    assert value == pytest.approx(direct.item(), rel=1e-10)


def test_a_queue_shorter_than_the_batch_keeps_its_last_rows():
    student, teacher = drawn(5, 3), drawn(5, 4, seed=1)
    loss = prepared(CRD(queue=2, width=4), args(student, teacher))
    loss(*args(student, teacher))
    expected = F.normalize(loss.embeddings.teacher(teacher))[3:].detach()
    torch.testing.assert_close(loss.past, expected)


def test_the_queue_is_saved_and_loaded():
    given = args(drawn(4, 3), drawn(4, 5, seed=1))
    loss, other = prepared(CRD(queue=6), given), prepared(CRD(queue=6, seed=1), given)
    loss(*given)
    other.load_state_dict(loss.state_dict())
    assert other.seen.item() == 4
    assert other(*given).item() == loss(*given).item()
