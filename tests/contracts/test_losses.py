"""What every loss must keep, whatever it is: one case for each in ``LOSSES``, and for their sum."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.processes import spread
from torch import Tensor, nn


sys.path.insert(0, str(Path(__file__).parent))  # spawned processes inherit it

from loss_cases import (
    CASES,
    ROWS,
    VARIANTS,
    batch_of,
    by_token,
    models,
    prepared,
    run_rank,
    value_and_gradients,
)

from limbeck.checks import ArgumentError
from limbeck.types import Answers, Outputs


# CC compares neighbours in the batch, so it may depend on the order: by name, once it is here.
ORDERED = {"cc"}

# EA-KD weighs a row by the teacher's entropy, which is zero where the teacher is that sure; the
# divergences from a mixture are bounded, so that a student that is that sure has no gradient.
SILENT_WHERE_SURE = {"eakd", "jsd", "skew_kl"}

every_loss = pytest.mark.parametrize("name", list(CASES))


def leaves(outputs: Outputs, scale: float = 1.0) -> Outputs:
    """Return the same numbers, scaled, as leaves that take a gradient."""

    def leaf(tensor: Tensor) -> Tensor:
        return (tensor.detach() * scale).requires_grad_()

    features = {layer: leaf(values) for layer, values in outputs.features.items()}
    return Outputs(None if outputs.logits is None else leaf(outputs.logits), features)


def case(loss: nn.Module, kind: torch.dtype, scale: float = 1.0, seed: int = 0):
    batch = batch_of(kind, seed=seed, tokens=by_token(loss))
    student, teacher = (leaves(model(batch.inputs), scale) for model in models(loss, kind))
    return student, teacher, batch


def tensors(outputs: Outputs) -> list[Tensor]:
    return [outputs.logits, *outputs.features.values()]


def gradients(value: Tensor, outputs: Outputs) -> list[Tensor]:
    found = torch.autograd.grad(value, tensors(outputs), allow_unused=True, retain_graph=True)
    return [gradient for gradient in found if gradient is not None]


def held(module: nn.Module) -> Iterator[nn.Parameter]:
    """Yield every parameter that a module holds in any attribute, also in lists and dicts."""

    def inside(thing: object) -> Iterator[nn.Parameter]:
        if isinstance(thing, nn.Parameter):
            yield thing
        elif isinstance(thing, nn.Module):
            yield from inside(vars(thing))
        elif isinstance(thing, dict):
            for value in thing.values():
                yield from inside(value)
        elif isinstance(thing, (list, tuple, set)):
            for value in thing:
                yield from inside(value)

    return inside(module)


def step(loss: nn.Module, args: tuple) -> None:
    """Take one optimiser step on all that the loss owns, auxiliary phase included."""
    optimiser = torch.optim.SGD(loss.parameters(), lr=0.1)
    if hasattr(loss, "auxiliary_loss"):
        loss.auxiliary_loss(*args).backward()
    loss(*args).backward()
    optimiser.step()


@every_loss
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_finite_scalar_with_a_gradient_for_the_student_alone(name, scale, kind):
    loss = prepared(name, kind)
    student, teacher, batch = case(loss, kind, scale)
    value = loss(student, teacher, batch)
    assert value.shape == ()
    assert value.isfinite()
    assert value.dtype == torch.float32
    for_student = gradients(value, student)
    assert all(gradient.isfinite().all() for gradient in for_student)
    if scale == 1.0 or name not in SILENT_WHERE_SURE:
        assert any((gradient != 0).any() for gradient in for_student)
    assert all((gradient == 0).all() for gradient in gradients(value, teacher))


@every_loss
def test_bfloat16_is_near_float32(name):
    values = []
    for kind in (torch.float32, torch.bfloat16):
        loss = prepared(name, torch.float32)
        student, teacher, batch = case(loss, torch.float32)
        student, teacher = (
            Outputs(one.logits.to(kind), {k: v.to(kind) for k, v in one.features.items()})
            for one in (student, teacher)
        )
        values.append(loss(student, teacher, batch).item())
    assert values[1] == pytest.approx(values[0], rel=0.03)  # bfloat16 keeps 8 bits: 0.4 % an entry


@every_loss
def test_parameters_are_registered_and_move(name):
    loss = prepared(name)
    registered = {id(parameter) for parameter in loss.parameters()}
    assert {id(parameter) for parameter in held(loss)} == registered
    if not registered:
        return
    before = [parameter.detach().clone() for parameter in loss.parameters()]
    step(loss, case(loss, torch.float32))
    for old, parameter in zip(before, loss.parameters(), strict=True):
        assert not torch.equal(old, parameter)


@every_loss
def test_order_of_the_batch_is_irrelevant(name):
    if name in ORDERED:
        pytest.skip("compares neighbouring samples")
    order = torch.tensor([6, 2, 7, 0, 4, 1, 3, 5])
    assert sorted(order.tolist()) == list(range(ROWS))
    one, two = (value_and_gradients(name, rows) for rows in (torch.arange(ROWS), order))
    torch.testing.assert_close(two, one, rtol=1e-10, atol=1e-12)


@every_loss
def test_state_dict_round_trip(name):
    loss = prepared(name)
    if list(loss.parameters()):
        step(loss, case(loss, torch.float32))
    other = prepared(name, seed=1)
    other.load_state_dict(loss.state_dict())
    args = case(loss, torch.float32)
    assert torch.equal(loss(*args), other(*args))


@every_loss
def test_what_the_loop_reads(name):
    loss = prepared(name)
    assert set(loss.layers) == {"student", "teacher"}
    assert all(isinstance(layers, tuple) for layers in loss.layers.values())
    assert isinstance(loss.needs_logits, bool)
    assert isinstance(loss.mean_over_samples, bool)
    assert loss.tasks is None or isinstance(loss.tasks, frozenset)
    task, distillation = loss.published_weights
    assert task >= 0
    assert distillation > 0
    assert loss.needs_logits or any(loss.layers.values())


@every_loss
def test_a_teacher_without_logits(name):
    """Losses on features do not miss them; others say which losses take what is there."""
    loss = prepared(name)
    if loss.tasks is not None and "classification" not in loss.tasks:
        pytest.skip("takes answers for every token")
    student, teacher, batch = case(loss, torch.float32)
    labels = torch.zeros(ROWS, 1, dtype=torch.int64)
    said = Outputs(None, teacher.features, Answers(labels, counts=labels + 1))
    if not loss.needs_logits:
        assert torch.equal(prepared(name)(student, said, batch), loss(student, teacher, batch))
    elif name in ("sampled_labels", "sampled_counts"):
        assert loss(student, said, batch).isfinite()
    else:
        # CATKD reads logits once, before training.
        run = CASES[name]().prepare if name == "catkd" else loss
        with pytest.raises(ArgumentError, match=r"expected .* got labels that it drew.* sampled_l"):
            run(student, said, batch)


@every_loss
def test_mean_over_samples_is_one(name):
    """Where a loss says so, the whole batch is the weighted mean of its parts, and only there."""
    whole, _ = value_and_gradients(name, torch.arange(ROWS))
    parts = [value_and_gradients(name, rows)[0] for rows in torch.arange(ROWS).split([5, 3])]
    mean = (5 * parts[0] + 3 * parts[1]) / ROWS
    agrees = mean.item() == pytest.approx(whole.item(), rel=1e-12)
    assert agrees == prepared(name).mean_over_samples


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("ranks"))
    spread(run_rank, folder)
    return torch.load(Path(folder) / "results.pt")


@every_loss
def test_two_ranks_equal_one(name, two_ranks):
    check_same(two_ranks[name], value_and_gradients(name, torch.arange(ROWS)))


def check_same(two: tuple, one: tuple) -> None:
    (value, found), (expected_value, expected) = two, one
    assert value.item() == pytest.approx(expected_value.item(), rel=1e-9)
    assert found.keys() == expected.keys()
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", list(VARIANTS))
def test_variants_on_two_ranks(name, two_ranks):
    if name != "itrd_local":
        check_same(two_ranks[name], value_and_gradients(name, torch.arange(ROWS)))
        return
    parts = [value_and_gradients(name, rows)[0] for rows in torch.arange(ROWS).split([5, 3])]
    value, _ = two_ranks[name]
    assert value.item() == pytest.approx((parts[0] + parts[1]).item() / 2, rel=1e-9)


@pytest.mark.parametrize("name", ["itrd", "kd", "match"])
def test_a_rank_without_rows(name, two_ranks):
    check_same(two_ranks[f"{name}, empty"], value_and_gradients(name, torch.arange(ROWS)))
