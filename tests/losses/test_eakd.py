"""EA-KD against golden values, plain loops and the samples that count for nothing."""

import math

import pytest
import torch
from helpers.logits import batch_of, divergence, drawn, logits, pairs, softmax

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import EAKD, eakd_loss, kd_loss
from limbeck.types import Outputs


# The authors' code adds 1e-10 to the probabilities inside the logarithm; the golden values have it.
GUARD = 1e-9
WEIGHTS = [
    1.353747031694,
    1.468083923625,
    1.505183313504,
    1.485482179108,
    1.552965106483,
    1.548503340097,
]


def test_the_golden_values_with_the_guard_of_the_authors_code():
    """The loops give them to the last digit once the guard is in, so nothing else differs."""
    assert by_loops(*logits(), 4.0, 3.0, guard=1e-10) == pytest.approx(1.917838207023, rel=1e-11)
    assert by_loops(*logits(), 4.0, 3.0) != pytest.approx(1.917838207023, rel=1e-10)


def test_golden_value():
    assert eakd_loss(*logits()).item() == pytest.approx(1.917838207023, rel=GUARD)


def test_golden_weights_of_single_samples():
    student, teacher = logits()
    for row, weight in enumerate(WEIGHTS):
        one = slice(row, row + 1)
        plain = kd_loss(student[one], teacher[one]).item()
        found = eakd_loss(student[one], teacher[one]).item()
        assert found / plain == pytest.approx(weight, rel=GUARD)


def entropy(p, guard):
    return -sum(x * math.log(x + guard) for x in p)


def by_loops(student, teacher, temperature, entropy_temperature, guard=0.0):
    total = 0.0
    for row_s, row_t in pairs(student, teacher):
        unsure_s, unsure_t = (
            entropy(softmax(row, entropy_temperature), guard) for row in (row_s, row_t)
        )
        weight = 0.5 * unsure_t * (1 + unsure_s / math.log(len(row_s)))
        total += weight * divergence(softmax(row_t, temperature), softmax(row_s, temperature))
    return temperature**2 * total / len(student)


@pytest.mark.parametrize("classes", [2, 5])
def test_plain_loops(classes):
    student, teacher = (z[:, :classes] for z in logits())
    found = eakd_loss(student, teacher, temperature=2.5, entropy_temperature=1.5)
    assert found.item() == pytest.approx(by_loops(student, teacher, 2.5, 1.5), rel=1e-12)


def test_the_largest_weight_is_the_logarithm_of_the_number_of_classes():
    """A flat teacher and a student that is nearly flat: w = ln c, not ln c (1 + ln c / c) / 2."""
    student = torch.zeros(1, 100, dtype=torch.float64)
    student[0, 0] = 1e-3
    teacher = torch.zeros_like(student)
    found = eakd_loss(student, teacher).item() / kd_loss(student, teacher).item()
    assert found == pytest.approx(math.log(100), rel=1e-6)


def test_the_weights_carry_no_gradient():
    student, teacher = (z.requires_grad_() for z in logits())
    loss = eakd_loss(student, teacher)
    found = torch.autograd.grad(loss, (student, teacher), allow_unused=True)
    plain = 4 * (torch.softmax(student / 4, 1) - torch.softmax(teacher / 4, 1)) / 6
    expected = torch.tensor(WEIGHTS, dtype=torch.float64)[:, None] * plain
    torch.testing.assert_close(found[0], expected, rtol=GUARD, atol=1e-14)
    assert found[1] is None


def test_gradient_agrees_with_differences_where_the_weights_stand_still():
    """Gradcheck sees only the divergence when the entropies are taken at a huge temperature."""
    student, teacher = logits()
    assert torch.autograd.gradcheck(
        lambda z: eakd_loss(z, teacher, entropy_temperature=1e9), student.requires_grad_()
    )


def test_zero_when_they_agree_and_shifts_change_nothing():
    student, teacher = logits()
    assert eakd_loss(teacher + 3, teacher).item() == pytest.approx(0.0, abs=1e-14)
    found = eakd_loss(student - drawn(6, 1), teacher + 2).item()
    assert found == pytest.approx(eakd_loss(student, teacher).item(), rel=1e-12)


def test_a_teacher_that_is_sure_counts_for_nothing_and_gives_no_nan():
    student = torch.tensor([[0.0, 1e4, 3.0]]).requires_grad_()
    loss = eakd_loss(student, torch.tensor([[1e4, 0.0, 0.0]]))
    assert loss.item() == 0.0
    assert (torch.autograd.grad(loss, student)[0] == 0).all()


def test_logits_of_1e4_are_finite():
    student = drawn(8, 4, scale=1e4).float().requires_grad_()
    loss = eakd_loss(student, drawn(8, 4, seed=1).float())
    assert loss.isfinite()
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient.isfinite().all()
    assert (gradient != 0).any()


def test_no_rows_and_a_single_class_give_zero():
    for shape in ((0, 3), (2, 1)):
        student = torch.ones(shape).requires_grad_()
        loss = eakd_loss(student, torch.zeros(shape))
        assert loss.item() == 0.0
        loss.backward()


def test_bfloat16_is_widened():
    student, teacher = (z.bfloat16() for z in logits())
    narrow = eakd_loss(student, teacher)
    exact = eakd_loss(student.double(), teacher.double())
    assert narrow.dtype == torch.float32
    assert narrow.item() == pytest.approx(exact.item(), rel=1e-5)


def test_module_is_the_function():
    student, teacher = logits()
    args = Outputs(student), Outputs(teacher), batch_of(6)
    value = EAKD(temperature=2.0, entropy_temperature=5.0)(*args)
    assert value.item() == pytest.approx(by_loops(student, teacher, 2.0, 5.0), rel=1e-12)
    assert EAKD()(*args).item() == pytest.approx(1.917838207023, rel=GUARD)
    assert EAKD.published_weights == (0.1, 0.9)


@pytest.mark.usefixtures("without_shape_hook")
def test_messages_say_what_to_do():
    student, teacher = logits()
    with pytest.raises(ShapeError, match=r"eakd_loss: .*teacher_logits \(6, 4\)"):
        eakd_loss(student, teacher[:, :4])
    for name in ("temperature", "entropy_temperature"):
        with pytest.raises(ArgumentError, match=f"eakd_loss: expected `{name}` > 0"):
            eakd_loss(student, teacher, **{name: 0.0})
        with pytest.raises(ArgumentError, match=f"EAKD: expected `{name}` > 0"):
            EAKD(**{name: 0.0})
    with pytest.raises(ArgumentError, match=r"EAKD: .*none from teacher"):
        EAKD()(Outputs(student), Outputs(None), batch_of(6))
