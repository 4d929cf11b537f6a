"""RID: the values of the paper's equations by hand, its phases, and what rests in each."""

import math

import pytest
import torch

from limbeck.checks import ArgumentError, LayerError, ShapeError
from limbeck.losses import RID, rid_loss
from limbeck.losses.rid import scaled_distance
from limbeck.types import Batch, Outputs


TEACHER = torch.tensor([[1.0, 2.0], [3.0, 0.0]], dtype=torch.float64)
STUDENT = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
SCALE = torch.tensor([1.0, 2.0], dtype=torch.float64)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=source, dtype=torch.float64)


def maps(rows: torch.Tensor) -> torch.Tensor:
    """Repeat every number on a grid of two by two positions."""
    return rows[:, :, None, None].expand(-1, -1, 2, 2)


def test_values_by_hand():
    """Mean squares are 2.5 in both channels, and all positions of a grid are alike."""
    assert rid_loss(STUDENT, TEACHER, SCALE).item() == pytest.approx(4.375)
    assert rid_loss(STUDENT, TEACHER, SCALE, reduction="paper_sum").item() == pytest.approx(8.75)
    assert scaled_distance(STUDENT, TEACHER, SCALE).item() == pytest.approx(1.875)
    summed = scaled_distance(STUDENT, TEACHER, SCALE, reduction="paper_sum")
    assert summed.item() == pytest.approx(3.75)
    assert rid_loss(maps(STUDENT), maps(TEACHER), SCALE).item() == pytest.approx(4.375)
    grid = rid_loss(maps(STUDENT), maps(TEACHER), SCALE, reduction="paper_sum")
    assert grid.item() == pytest.approx(20.0)


@pytest.mark.parametrize("reduction", ["mean", "paper_sum"])
def test_equals_loops_over_every_entry(reduction):
    student, teacher = drawn(3, 2, 2, 3), drawn(3, 2, 2, 3, seed=1)
    scale = drawn(2, seed=2).exp()
    total = sum(float(one) ** 2 for one in scale)
    for row in range(3):
        for channel in range(2):
            for entry in range(6):
                gap = (
                    teacher[row, channel].flatten()[entry] - student[row, channel].flatten()[entry]
                )
                total += float(gap) ** 2 / float(scale[channel]) / 3
    if reduction == "mean":
        total = float(scale.square().mean())
        total += float(((teacher - student) ** 2 / scale[None, :, None, None]).mean())
    assert rid_loss(student, teacher, scale, reduction=reduction).item() == pytest.approx(total)


def test_best_scale_in_closed_form():
    """At sigma^3 = m/2 the loss is 3 (m/2)^(2/3) and has no slope; elsewhere it is more."""
    best = torch.full((2,), (2.5 / 2) ** (1 / 3), dtype=torch.float64, requires_grad=True)
    value = rid_loss(STUDENT, TEACHER, best)
    assert best[0].item() == pytest.approx(1.077217, abs=1e-6)
    assert value.item() == pytest.approx(3.481192, abs=1e-6)
    assert torch.autograd.grad(value, best)[0].abs().max() < 1e-12
    slope = SCALE.clone().requires_grad_()
    found = torch.autograd.grad(rid_loss(STUDENT, TEACHER, slope), slope)[0]
    assert found.tolist() == pytest.approx([-0.25, 1.6875])


def test_gradients():
    student, teacher, scale = drawn(3, 2, 2, 2), drawn(3, 2, 2, 2, seed=1), drawn(2, seed=2).exp()
    inputs = [part.requires_grad_() for part in (student, teacher, scale)]
    assert torch.autograd.gradcheck(lambda s, c: rid_loss(s, teacher, c), (student, scale))
    assert torch.autograd.gradcheck(scaled_distance, inputs)
    found = torch.autograd.grad(rid_loss(*inputs), teacher, allow_unused=True)
    assert found == (None,)


def test_bad_shapes_are_named(without_shape_hook):
    with pytest.raises(ShapeError, match=r"student \(2, 2\), teacher \(1, 2\)"):
        rid_loss(STUDENT, TEACHER[:1], SCALE)
    with pytest.raises(ShapeError, match=r"scales \(1,\)"):
        rid_loss(STUDENT, TEACHER, SCALE[:1])
    with pytest.raises(ArgumentError, match="mean, paper_sum"):
        rid_loss(STUDENT, TEACHER, SCALE, reduction="sum")


def phases(epochs: int, **options) -> list[bool]:
    loss = RID(**options)
    return [loss.begin_epoch(epoch, epochs) for epoch in range(epochs)]


@pytest.mark.parametrize(
    ("cycle", "share", "auxiliary"), [(30, 0.25, 8), (50, 0.2, 10), (20, 0.2, 4), (5, 0.2, 1)]
)
def test_auxiliary_epochs_of_a_cycle(cycle, share, auxiliary):
    found = phases(3 * cycle, warmup_epochs=0, cycle=cycle, share=share)
    assert found == ([True] * auxiliary + [False] * (cycle - auxiliary)) * 3


def test_schedules_of_paper_and_code():
    """300 epochs of CIFAR-10: 30 + 72 + 198 in the paper, 80 + 220 in the authors' code."""
    paper = phases(300, warmup_epochs=30, cycle=30, share=0.25)
    assert paper[:30] == [True] * 30
    assert (sum(paper[30:]), 270 - sum(paper[30:])) == (72, 198)
    assert phases(300, share=0.25) == paper
    code = phases(300, rounds=10, share=0.25, paper_code=True)
    assert (sum(code), 300 - sum(code)) == (80, 220)
    assert phases(250, rounds=5, share=0.2, paper_code=True)[:60] == (
        [True] * 10 + [False] * 40 + [True] * 10
    )
    assert phases(5)[1:] == [True, False, True, False]


def outputs(seed: int = 0, classes: int = 4) -> tuple[Outputs, Outputs, Batch]:
    """Return maps of unlike width and size: a student, a teacher, and their rows."""
    shapes = ((3, 4, 4), (5, 2, 2)), ((6, 4, 4), (4, 4, 4))
    features = [dict(zip(("layer1", "layer2"), side, strict=True)) for side in shapes]
    said = [
        Outputs(
            drawn(8, classes, seed=seed + place),
            {name: drawn(8, *shape, seed=seed + place + 9) for name, shape in side.items()},
        )
        for place, side in enumerate(features)
    ]
    rows = torch.arange(8)
    return said[0], said[1], Batch(rows, rows % classes, rows, rows)


def prepared(**options) -> tuple[RID, tuple[Outputs, Outputs, Batch]]:
    loss, given = RID(("layer1", "layer2"), **options), outputs()
    loss.prepare(*given)
    return loss, given


def changed(before: dict[str, torch.Tensor], loss: RID) -> set[str]:
    now = loss.state_dict()
    return {name.split(".")[0] for name in now if not torch.equal(now[name], before[name])}


@pytest.mark.parametrize("paper_code", [False, True])
def test_what_rests_gets_no_gradient_and_keeps_its_statistics(paper_code):
    loss, given = prepared(paper_code=paper_code)
    student = Outputs(
        given[0].logits, {k: v.clone().requires_grad_() for k, v in given[0].features.items()}
    )
    for auxiliary in (True, False):
        loss.near = True
        before = {name: part.clone() for name, part in loss.state_dict().items()}
        loss.zero_grad()
        value = loss.auxiliary_loss if auxiliary else loss
        value(student, *given[1:]).backward()
        moved = {name.split(".")[0] for name, p in loss.named_parameters() if p.grad is not None}
        if auxiliary:
            assert moved == {"teacher_filters", "heads"}
            assert all(part.grad is None for part in student.features.values())
            assert changed(before, loss) == {"teacher_filters"} | (
                {"student_filters"} if paper_code else set()
            )
        else:
            assert moved == {"student_filters", "scale_parameters"}
            assert all(part.grad.abs().max() > 0 for part in student.features.values())
            assert changed(before, loss) == {"student_filters"} | (
                {"teacher_filters"} if paper_code else set()
            )


def test_warm_up_learns_the_label_alone():
    """The student is out of the auxiliary loss in the warm-up, and in it afterwards."""
    loss, (student, teacher, batch) = prepared(warmup_epochs=2, cycle=4)
    other = outputs(seed=50)[0]
    for epoch, same in ((0, True), (1, True), (2, False)):
        assert loss.begin_epoch(epoch, 10)
        loss.eval()
        values = [loss.auxiliary_loss(said, teacher, batch).item() for said in (student, other)]
        assert (values[0] == values[1]) == same
    code, _ = prepared(cycle=4, paper_code=True)
    near = [(code.begin_epoch(epoch, 12), code.near) for epoch in (0, 4)]
    assert near == [(True, False), (True, True)]


def test_auxiliary_loss_is_cross_entropy_and_distance():
    loss, (student, teacher, batch) = prepared()
    loss.eval().requires_grad_(False)
    expected = 0.0
    for place, (mine, theirs) in enumerate(loss.filtered(student, teacher, batch)):
        scores = loss.heads[place](torch.relu(theirs).flatten(1)).log_softmax(1)
        expected -= float(scores[torch.arange(8), batch.targets].mean())
        sigma = math.log1p(math.exp(5.0)) + 1e-3
        expected += float(((theirs - mine) ** 2).mean()) / sigma
    assert loss.auxiliary_loss(student, teacher, batch).item() == pytest.approx(expected)


def test_scales_start_at_five():
    loss, given = prepared()
    far = [float(((t - s) ** 2).mean()) for s, t in loss.filtered(*given)]
    loss.eval()
    assert loss(*given).item() == pytest.approx(sum(5.0077**2 + one / 5.0077 for one in far), 1e-4)


def test_filters_have_the_papers_shapes():
    """Teacher: as wide inside; student: twice as wide; both end in the student's channels."""
    loss, _ = prepared()
    shapes = [(tuple(f.first.shape), tuple(f.last.shape)) for f in loss.teacher_filters]
    assert shapes == [((6, 6), (3, 6)), ((4, 4), (5, 4))]
    shapes = [(tuple(f.first.shape), tuple(f.last.shape)) for f in loss.student_filters]
    assert shapes == [((6, 3), (3, 6)), ((10, 5), (5, 10))]
    assert [tuple(one.weight.shape) for one in loss.heads] == [(4, 48), (4, 20)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cycle": 30, "rounds": 10}, "`cycle` or `rounds`; got 30 and 10"),
        ({"share": 1.5}, "share"),
        ({"cycle": 0}, "cycle"),
        ({"warmup_epochs": -1}, "warmup_epochs"),
        ({"reduction": "sum"}, "mean, paper_sum"),
        ({"layer": {"student": "a", "teacher": ("a", "b")}}, "as many layers"),
    ],
)
def test_bad_arguments_are_named(options, message, without_shape_hook):
    with pytest.raises(ArgumentError, match=message):
        RID(**options)


def test_what_cannot_be_done_is_named():
    loss, (student, teacher, batch) = prepared()
    with pytest.raises(ArgumentError, match="not prepared"):
        RID("layer1")(student, teacher, batch)
    with pytest.raises(ArgumentError, match="to know the classes"):
        RID("layer1").prepare(Outputs(None, student.features), teacher, batch)
    with pytest.raises(LayerError, match="layer3"):
        RID().prepare(student, teacher, batch)
    with pytest.raises(ArgumentError, match="rows without any"):
        loss.auxiliary_loss(student, teacher, Batch(batch.inputs, None, batch.index, batch.view))
    with pytest.raises(ArgumentError, match=r"0\.9 of 2 epochs"):
        RID(cycle=2, share=0.9).begin_epoch(0, 10)
