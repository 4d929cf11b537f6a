"""ITRD against golden values, its equations as plain loops, identities and finite differences."""

import math

import pytest
import torch
from torch import Tensor

from limbeck.losses import correlation_loss, itrd_loss, mutual_information_loss


# Printed to 12 decimals, float64: half a unit of the last one, and rounding.
DIGITS = {"rel": 1e-10, "abs": 2e-12}
LN2 = math.log(2.0)


def fixture() -> tuple[Tensor, Tensor]:
    """Section 8.1 of the reference: 6 samples, 4 features."""
    i = torch.arange(6, dtype=torch.float64)[:, None]
    k = torch.arange(4, dtype=torch.float64)
    student = torch.sin(1 + 0.7 * i + 1.3 * k + 0.11 * i * k)
    return student, torch.cos(0.5 + 0.9 * i - 0.4 * k + 0.07 * i * k)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=source, dtype=torch.float64)


@pytest.mark.parametrize(
    ("alpha", "value", "norm"),
    [
        (1.0, 2.438866174059, 0.442974634700),
        (1.01, 2.448841248412, 0.446943405719),
        (1.5, 2.978585016262, 0.645330041335),
        (2.0, 3.573200456898, 0.857409149746),
    ],
)
def test_correlation_equals_the_authors(alpha, value, norm):
    student, teacher = fixture()
    student.requires_grad_()
    loss = correlation_loss(student, teacher, alpha=alpha, paper_code=True)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(value, **DIGITS)
    assert gradient.norm().item() == pytest.approx(norm, **DIGITS)
    if alpha == 1.01:
        assert gradient[0, 0].item() == pytest.approx(-0.112510274913, **DIGITS)
        assert gradient[5, 3].item() == pytest.approx(0.092292338664, **DIGITS)


@pytest.mark.parametrize("paper_code", [False, True])
def test_mutual_information_equals_the_authors(paper_code):
    student, teacher = fixture()
    student.requires_grad_()
    loss = mutual_information_loss(student, teacher, paper_code=paper_code)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(0.065495559333, **DIGITS)
    assert gradient.norm().item() == pytest.approx(0.048625351666, **DIGITS)
    assert gradient[0, 0].item() == pytest.approx(0.002250567630, **DIGITS)
    assert gradient[5, 3].item() == pytest.approx(0.016055762332, **DIGITS)


def test_projection_equals_the_authors():
    student, teacher = fixture()
    student = student[:, :3]
    k, j = torch.arange(4, dtype=torch.float64), torch.arange(3, dtype=torch.float64)
    weight = (torch.cos(k[:, None] + 2 * j) / 2).requires_grad_()
    bias = (0.1 * k).requires_grad_()
    embedded = student @ weight.T + bias
    corr = correlation_loss(embedded, teacher, alpha=1.5, paper_code=True)
    mutual = mutual_information_loss(embedded, teacher, paper_code=True)
    total = itrd_loss(student, teacher, embedded=embedded, alpha=1.5, paper_code=True)
    to_weight, to_bias = torch.autograd.grad(total, (weight, bias))
    assert corr.item() == pytest.approx(3.758566066886, **DIGITS)
    assert mutual.item() == pytest.approx(0.100016123430, **DIGITS)
    assert total.item() == pytest.approx(7.617148257201, **DIGITS)
    assert to_weight.norm().item() == pytest.approx(3.058870562508, **DIGITS)
    expected = [0.009717515538, -0.013270999707, -0.039759554746, -0.061096029959]
    assert to_bias.tolist() == pytest.approx(expected, **DIGITS)


def test_embedded_enters_the_mutual_term_only_where_widths_differ():
    student, teacher = fixture()
    embedded = student @ drawn(4, 4)
    total = itrd_loss(student, teacher, embedded=embedded, correlation_weight=1.0)
    expected = correlation_loss(embedded, teacher) + mutual_information_loss(student, teacher)
    assert total.item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize(
    ("of_teacher", "dropped", "authors", "fewer_rows"),
    [(False, 2, 0.045336668974, True), (True, 2, -0.001291270506, False)],
)
def test_zero_rows(of_teacher, dropped, authors, fewer_rows):
    pair = list(fixture())
    pair[of_teacher] = pair[of_teacher].clone()
    pair[of_teacher][dropped] = 0.0
    left = [torch.cat([z[:dropped], z[dropped + 1 :]]) for z in pair]
    safe = mutual_information_loss(*pair)
    assert safe.item() == pytest.approx(mutual_information_loss(*left).item(), rel=1e-12)
    compatible = mutual_information_loss(*pair, paper_code=True)
    assert compatible.item() == pytest.approx(authors, **DIGITS)
    assert (compatible.item() == pytest.approx(safe.item())) == fewer_rows


def test_no_rows_left_is_zero():
    student, teacher = fixture()
    for paper_code in (False, True):
        for pair in [(student * 0, teacher), (student, teacher * 0)]:
            left = [z.clone().requires_grad_() for z in pair]
            loss = mutual_information_loss(*left, paper_code=paper_code)
            (gradient,) = torch.autograd.grad(loss, left[0])
            assert loss.item() == 0.0
            assert gradient.isfinite().all()


def test_default_correlation():
    student, teacher = fixture()
    assert correlation_loss(student, teacher).item() == pytest.approx(1.803539494603, **DIGITS)
    for alpha, bits in [(1.01, 2.601957484911), (1.5, 3.246102583652)]:
        value = correlation_loss(student, teacher, alpha=alpha).item() / LN2
        assert value == pytest.approx(bits, **DIGITS)
    # Above the floor ln(1e-8) by what eps leaves of 1 - v: conditioned 1e5 times worse.
    assert correlation_loss(teacher, teacher).item() / LN2 == pytest.approx(
        -26.376325044172, rel=1e-9
    )


def test_default_with_biased_deviations_only():
    student, teacher = fixture()
    value = correlation_loss(student, teacher, eps=1e-300).item() / LN2
    assert value == pytest.approx(2.601976361630, rel=1e-8)  # delta = 1e-8 is still inside


def test_constant_features():
    student, teacher = fixture()
    dead = teacher.clone()
    dead[:, 1] = 0.3
    value = correlation_loss(student, dead).item() / LN2
    assert value == pytest.approx(2.601897349097, **DIGITS)
    stuck = student.clone()
    stuck[:, 2] = 0.7
    stuck.requires_grad_()
    loss = correlation_loss(stuck, teacher)
    assert loss.item() / LN2 == pytest.approx(2.278170312169, **DIGITS)
    assert torch.autograd.grad(loss, stuck)[0].isfinite().all()


def test_default_weights_are_the_papers_in_nats():
    student, teacher = fixture()
    mutual = mutual_information_loss(student, teacher)
    default = itrd_loss(student, teacher) - mutual
    assert default.item() == pytest.approx(2 / LN2 * 1.803539494603, rel=1e-11)
    compatible = itrd_loss(student, teacher, paper_code=True) - mutual
    assert compatible.item() == pytest.approx(2 * 2.448841248412, rel=1e-11)
    explicit = itrd_loss(
        student, teacher, correlation_weight=3.0, mutual_weight=0.5, paper_code=True
    )
    assert explicit.item() == pytest.approx(3 * 2.448841248412 + 0.5 * 0.065495559333, rel=1e-11)


def test_halves_differ_from_the_whole():
    student, teacher = fixture()
    halves = [(student[:3], teacher[:3]), (student[3:], teacher[3:])]
    corr = sum(correlation_loss(*half, paper_code=True).item() for half in halves) / 2
    mutual = sum(mutual_information_loss(*half).item() for half in halves) / 2
    assert corr == pytest.approx(2.193031887813, **DIGITS)
    assert mutual == pytest.approx(0.052908287765, **DIGITS)


def plain_correlation(student: list, teacher: list, alpha: float, paper: bool) -> float:
    rows, total, used = len(student), 0.0, 0
    for k in range(len(student[0])):
        s, t = [row[k] for row in student], [row[k] for row in teacher]
        if len(set(t)) == 1 and not paper:
            continue
        used += 1
        mean_s, mean_t = math.fsum(s) / rows, math.fsum(t) / rows
        divisor, eps = (rows - 1, 0.0) if paper else (rows, 1e-5)
        var_s = math.fsum((x - mean_s) ** 2 for x in s) / divisor
        var_t = math.fsum((x - mean_t) ** 2 for x in t) / divisor
        cross = math.fsum((x - mean_s) * (y - mean_t) for x, y in zip(s, t, strict=True)) / rows
        v = cross / math.sqrt(var_s + eps) / math.sqrt(var_t + eps)
        total += ((v - 1) ** 2) ** alpha
    if not used:
        return 0.0
    return math.log2(total) if paper else math.log(total + 1e-8)


def plain_mutual(student: list, teacher: list) -> float:
    def cosine(a: list, b: list) -> float:
        dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
        return dot / math.sqrt(math.fsum(x * x for x in a) * math.fsum(x * x for x in b))

    rows = range(len(student))
    k_s = [[cosine(student[i], student[j]) for j in rows] for i in rows]
    k_t = [[cosine(teacher[i], teacher[j]) for j in rows] for i in rows]
    alone = math.fsum(k_s[i][j] ** 2 for i in rows for j in rows)
    joint = math.fsum((k_s[i][j] * k_t[i][j]) ** 2 for i in rows for j in rows)
    return (alone - joint) / len(student) ** 2


@pytest.mark.parametrize("rows", [2, 3, 17])
def test_equals_plain_loops(rows):
    student, teacher = drawn(rows, 5, seed=1), drawn(rows, 5, seed=2)
    for paper in (False, True):
        value = correlation_loss(student, teacher, alpha=1.5, paper_code=paper).item()
        expected = plain_correlation(student.tolist(), teacher.tolist(), 1.5, paper)
        assert value == pytest.approx(expected, rel=1e-12)
    mutual = mutual_information_loss(student, drawn(rows, 3, seed=3)).item()
    plain = plain_mutual(student.tolist(), drawn(rows, 3, seed=3).tolist())
    assert mutual == pytest.approx(plain, rel=1e-12)


@pytest.mark.parametrize(
    ("rows", "width", "alpha", "floor"),
    [
        (64, 128, 1.01, -5.12),
        (16, 128, 1.01, -1.08),
        (256, 128, 1.01, -9.16),
        (64, 2048, 1.5, -7.0),
    ],
)
def test_floor_of_the_authors_loss(rows, width, alpha, floor):
    teacher = drawn(rows, width)
    value = correlation_loss(teacher, teacher, alpha=alpha, paper_code=True).item()
    assert value == pytest.approx(math.log2(width) - 2 * alpha * math.log2(rows), rel=1e-10)
    assert value == pytest.approx(floor, abs=0.005)


@pytest.mark.parametrize("paper_code", [False, True])
def test_invariances(paper_code):
    student, teacher = fixture()
    order, columns = torch.tensor([3, 0, 5, 1, 4, 2]), torch.tensor([2, 0, 3, 1])
    base = correlation_loss(student, teacher, paper_code=True).item()
    scaled = student * torch.tensor([0.5, 2.0, 7.0, 1.0]) + torch.tensor([3.0, -1.0, 0.0, 5.0])
    value = correlation_loss(scaled, teacher * 3 - 1, paper_code=True).item()
    assert value == pytest.approx(base, rel=1e-12)
    for pick in (lambda z: z[order], lambda z: z[:, columns]):
        one = correlation_loss(pick(student), pick(teacher), paper_code=paper_code).item()
        two = correlation_loss(student, teacher, paper_code=paper_code).item()
        assert one == pytest.approx(two, rel=1e-12)
    turn, _ = torch.linalg.qr(drawn(4, 4))
    signs = torch.tensor([1.0, -2.0, 0.3, -1.0, 4.0, 1.0], dtype=torch.float64)[:, None]
    for one in ((student @ turn, teacher), (student, teacher @ turn), (student * signs, teacher)):
        value = mutual_information_loss(*one, paper_code=paper_code).item()
        assert value == pytest.approx(0.065495559333, **DIGITS)


def test_mutual_information_is_no_matching_loss():
    import numpy as np

    source = np.random.default_rng(0)
    centres = source.standard_normal((8, 64))
    means = centres[np.repeat(np.arange(8), 8)]
    teacher = torch.from_numpy(means + 0.5 * source.standard_normal((64, 64)))
    students = {
        0.0: torch.eye(64, dtype=torch.float64),
        0.014501060: torch.from_numpy(source.standard_normal((64, 64))),
        0.037525153: teacher,
        0.050691774: torch.from_numpy(means),
        0.900234960: torch.ones(64, 64, dtype=torch.float64),
    }
    for expected, student in students.items():
        value = mutual_information_loss(student, teacher).item()
        assert value == pytest.approx(expected, abs=5e-10)


def test_collapsed_student():
    _, teacher = fixture()
    value = mutual_information_loss(torch.ones(6, 2, dtype=torch.float64), teacher).item()
    assert value == pytest.approx(0.199272605304, **DIGITS)


def test_orthonormal_student_gives_exactly_zero():
    """The diagonal is skipped, so that its rounding stays out of the value."""
    teacher = drawn(64, 7).float()
    assert mutual_information_loss(torch.eye(64), teacher).item() == 0.0


def test_nearly_equal_norms_keep_their_difference():
    """Where all samples are almost alike for the teacher, the two norms agree to 1e-8."""
    student = torch.ones(8, 3, dtype=torch.float64)
    teacher = torch.ones(8, 3, dtype=torch.float64) + 1e-4 * drawn(8, 3)
    exact = mutual_information_loss(student, teacher).item()
    single = mutual_information_loss(student.float(), teacher.float())
    assert 0.0 < exact < 1e-7
    assert 0.0 <= single.item() < 1e-6  # 1 - K_t^2 is clamped: rounding may not make it negative


@pytest.mark.parametrize("paper_code", [False, True])
def test_gradients(paper_code):
    student, teacher = drawn(5, 3, seed=4).requires_grad_(), drawn(5, 3, seed=5)
    short = drawn(5, 2, seed=6)
    for loss in (
        lambda z: correlation_loss(z, teacher, alpha=1.5, paper_code=paper_code),
        lambda z: mutual_information_loss(z, short, paper_code=paper_code),
        lambda z: itrd_loss(z, teacher, embedded=z.square(), paper_code=paper_code),
    ):
        assert torch.autograd.gradcheck(loss, student)
        assert torch.autograd.gradgradcheck(loss, student)


@pytest.mark.parametrize("paper_code", [False, True])
def test_gradients_with_zero_teacher_row(paper_code):
    student, teacher = drawn(5, 3, seed=4).requires_grad_(), drawn(5, 3, seed=5)
    teacher[2] = 0.0
    assert torch.autograd.gradcheck(
        lambda z: mutual_information_loss(z, teacher, paper_code=paper_code), student
    )


@pytest.mark.parametrize("max_pairs", [1, 23, 46, 100, 529])
def test_tiles_change_nothing(max_pairs):
    student, teacher = drawn(23, 6, seed=7).requires_grad_(), drawn(23, 4, seed=8)
    whole = mutual_information_loss(student, teacher)
    tiled = mutual_information_loss(student, teacher, max_pairs=max_pairs)
    assert tiled.item() == pytest.approx(whole.item(), rel=1e-13)
    (one,), (two,) = (torch.autograd.grad(loss, student) for loss in (whole, tiled))
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-16)


def test_tiles_bound_the_memory(monkeypatch):
    from limbeck.losses import pairs

    seen = []
    tiles = pairs._tiles

    def watched(*given):
        for gram, weight in tiles(*given):
            seen.append(gram.shape)
            yield gram, weight

    monkeypatch.setattr(pairs, "_tiles", watched)
    mutual_information_loss(drawn(1024, 2), drawn(1024, 2))
    assert seen == [(1024, 1024)]
    seen.clear()
    mutual_information_loss(drawn(2048, 2), drawn(2048, 2))
    assert seen == [(512, 2048)] * 4
