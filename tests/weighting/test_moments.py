"""Every way to the moments against a backward pass for every single row."""

from __future__ import annotations

import copy
from typing import ClassVar

import numpy as np
import pytest
import torch
from helpers.gradients import Convolutions, expected_moments, kd, mlp, one_by_one, rows
from helpers.small import weights_of
from torch import nn
from torch.nn import functional as F

from limbeck.checks import ModelError
from limbeck.data import Data
from limbeck.randomness import generator
from limbeck.weighting.measuring import collecting
from limbeck.weighting.measuring.moments import gradient_moments


EXACT = ("per_sample", "gram")


def networks(kind):
    if kind == "mlp":
        return mlp(5, 1), mlp(8, 2), rows(40)
    return Convolutions(1), mlp(8, 2, inputs=36), rows(40, inputs=36)


def close(found, expected, rel=1e-9):
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, rel=rel, abs=1e-12), name


@pytest.mark.parametrize("kind", ["mlp", "convolutions"])
@pytest.mark.parametrize("method", EXACT)
def test_rows_one_by_one(kind, method):
    student, teacher, (x, y) = networks(kind)
    student.eval()
    g, h = one_by_one(student, teacher, x, y)
    found = gradient_moments(
        student, teacher, (x, y), n=40, method=method, loss=kd, curvature=False
    )
    close(found, expected_moments(g, h))
    assert (found.n, found.units, found.settings["method"]) == (40, 40, method)
    for layer in found.layers:
        own = [{k: v for k, v in side.items() if k.rpartition(".")[0] == layer} for side in (g, h)]
        for name, value in expected_moments(*own).items():
            assert getattr(found.layers[layer], name) == pytest.approx(value, abs=1e-12), layer


@pytest.mark.parametrize("kind", ["mlp", "convolutions"])
def test_groups_are_means_of_rows(kind):
    student, teacher, (x, y) = networks(kind)
    student.eval()
    order = torch.randperm(40, generator=generator(0, "moments"))
    g, h = one_by_one(student, teacher, x[order], y[order])
    g, h = ({k: v.unflatten(0, (8, 5)).mean(1) for k, v in side.items()} for side in (g, h))
    found = gradient_moments(
        student, teacher, (x, y), n=43, method="groups", loss=kd, curvature=False, group_rows=5
    )
    expected = expected_moments(g, h)
    close(found, {k: v * (5 if k.startswith("tr") else 1) for k, v in expected.items()})
    assert (found.n, found.units) == (40, 8)


@pytest.mark.parametrize("kind", ["mlp", "convolutions"])
def test_probes_are_right_on_average(kind, monkeypatch):
    student, teacher, (x, y) = networks(kind)
    g, h = one_by_one(student.eval(), teacher, x, y)
    expected = expected_moments(g, h)
    found = [
        gradient_moments(
            student, teacher, (x, y), method="probes", loss=kd, curvature=False, seed=seed
        )
        for seed in range(30)
    ]
    for name, value in expected.items():
        each = np.array([getattr(one, name) for one in found])
        error = each.std(ddof=1) / np.sqrt(len(each))
        assert abs(each.mean() - value) < 4 * error + 1e-12, name
    # What the directions add to the error is said: twice the rows' own error would hide it.
    exact = gradient_moments(student, teacher, (x, y), loss=kd, curvature=False)
    told = [one.covariance[0, 0] - exact.covariance[0, 0] for one in found]
    spread = np.var([one.tr_gh for one in found], ddof=1)
    assert np.mean(told) == pytest.approx(spread, rel=0.8)


def test_the_last_layer_is_the_head_alone_and_says_proxy():
    student, teacher, (x, y) = networks("convolutions")
    g, h = one_by_one(student.eval(), teacher, x, y)
    own = [{k: v for k, v in side.items() if k.startswith("head.")} for side in (g, h)]
    found = gradient_moments(
        student, teacher, (x, y), method="last_layer", loss=kd, curvature=False
    )
    close(found, expected_moments(*own))
    assert found.settings["proxy"]
    assert "proxy" in str(found)


@pytest.mark.parametrize("method", [*EXACT, "groups", "probes", "last_layer"])
def test_nothing_of_the_student_changes(method):
    student, teacher, data = networks("convolutions")
    student.train()
    student.head.eval()
    before = weights_of(student), [part.training for part in student.modules()]
    gradient_moments(student, teacher.train(), data, method=method, loss=kd, curvature=False)
    assert [part.training for part in student.modules()] == before[1]
    assert all(torch.equal(a, b) for a, b in zip(weights_of(student), before[0], strict=True))
    assert teacher.training
    assert all(one.grad is None for one in student.parameters())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in student.modules())


@pytest.mark.parametrize("method", [*EXACT, "groups"])
def test_the_loss_by_name_is_that_of_training(method):
    """Temperature 4, and its square; rows with weights and without labels count as in training."""
    student, teacher, (x, y) = networks("mlp")
    y = torch.where(torch.arange(40) % 4 == 0, -1, y)
    weights = torch.linspace(0.5, 2, 40)
    found = gradient_moments(
        student, teacher, Data((x, y), weights=weights), method=method, curvature=False,
        group_rows=1 if method == "groups" else None,
    )  # fmt: skip
    share = torch.where(y >= 0, weights, 0).double()
    share = 40 * share / share.sum()

    def row(z, t):
        return 16 * F.kl_div(
            (z / 4).log_softmax(1), (t / 4).log_softmax(1), log_target=True, reduction="batchmean"
        )

    plain_g, plain_h = one_by_one(student, teacher, x, y.clamp(min=0), row)
    scale = {k: share.view(-1, *[1] * (v.ndim - 1)) for k, v in plain_g.items()}
    g = {k: v * scale[k] for k, v in plain_g.items()}
    h = {k: g[k] - (plain_g[k] - plain_h[k]) for k in g}
    close(found, expected_moments(g, h), rel=1e-6)


@pytest.mark.parametrize("method", [*EXACT, "groups"])
def test_a_preconditioner_is_a_change_of_coordinates(method):
    student, teacher, (x, y) = networks("convolutions")
    factors = {
        name: torch.linspace(0.1, 3, one.numel(), dtype=torch.float64).view(one.shape)
        for name, one in student.named_parameters()
    }
    found = gradient_moments(
        student, teacher, (x, y), method=method, loss=kd, curvature=False, preconditioner=factors,
        group_rows=1 if method == "groups" else None,
    )  # fmt: skip
    g, h = one_by_one(student.eval(), teacher, x, y)
    g, h = ({k: v * factors[k].sqrt() for k, v in side.items()} for side in (g, h))
    close(found, expected_moments(g, h))


def test_frozen_parameters_do_not_count():
    student, teacher, (x, y) = networks("convolutions")
    student.first.requires_grad_(False)
    student.head.bias.requires_grad_(False)
    student.norm.weight.requires_grad_(False)
    g, h = one_by_one(student.eval(), teacher, x, y)
    for method in EXACT:
        close(
            gradient_moments(student, teacher, (x, y), method=method, loss=kd, curvature=False),
            expected_moments(g, h),
        )


class Tied(nn.Module):
    """A weight that two layers share, one that is used past its layer, and a layer that rests."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.idle = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)
        self.second.weight = self.first.weight
        self.double()

    def forward(self, x):
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


@pytest.mark.parametrize("method", EXACT)
def test_tied_weights_and_layers_that_rest(method):
    torch.manual_seed(0)
    student, teacher, (x, y) = Tied(), mlp(8, 2), rows(30)
    g, h = one_by_one(student, teacher, x, y)
    close(
        gradient_moments(student, teacher, (x, y), method=method, loss=kd, curvature=False),
        expected_moments(g, h),
    )


class Twice(nn.Module):
    """One linear layer that is called twice, on vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(6, 6).double(), nn.Linear(6, 3).double()

    def forward(self, x):
        return self.head(torch.tanh(self.first(torch.tanh(self.first(x)))))


def test_a_layer_that_is_called_twice():
    torch.manual_seed(0)
    student, teacher, (x, y) = Twice(), mlp(8, 2), rows(30)
    found = gradient_moments(student, teacher, (x, y), method="gram", loss=kd, curvature=False)
    close(found, expected_moments(*one_by_one(student, teacher, x, y)))


class PastTheLayer(nn.Module):
    """A linear layer whose weight is read once more, past its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(6, 6).double(), nn.Linear(6, 3).double()

    def forward(self, x):
        return self.head(torch.tanh(self.first(x) @ self.first.weight))


def test_weights_read_past_their_layer_are_seen():
    torch.manual_seed(0)
    student, teacher, (x, y) = PastTheLayer(), mlp(8, 2), rows(30)
    with pytest.raises(ModelError, match="first, which may be read past"):
        gradient_moments(student, teacher, (x, y), method="gram", loss=kd, curvature=False)
    found = gradient_moments(student, teacher, (x, y), loss=kd, curvature=False)
    assert found.settings["method"] == "per_sample"
    close(found, expected_moments(*one_by_one(student, teacher, x, y)))


def test_a_loss_on_features():
    student, teacher, (x, y) = networks("mlp")
    teacher = mlp(5, 4)

    class Features(nn.Module):
        layers: ClassVar = {"student": ("1",), "teacher": ("1",)}
        mean_over_samples = True

        def forward(self, s, t, batch):
            return (s.features["1"] - t.features["1"]).square().sum(1).mean()

    found = {
        method: gradient_moments(
            student, teacher, (x, y), method=method, loss=Features(), curvature=False
        )
        for method in EXACT
    }
    trained = dict(student.named_parameters())
    g = {k: [] for k in trained}
    h = {k: [] for k in trained}
    for row in range(40):
        z = student[:2](x[row : row + 1])
        task = F.cross_entropy(student[2](z), y[row : row + 1])
        gap = (z - teacher[:2](x[row : row + 1]).detach()).square().sum()
        for kept, value in ((g, task), (h, task - gap)):
            for name, one in zip(
                trained,
                torch.autograd.grad(value, list(trained.values()), retain_graph=True),
                strict=True,
            ):
                kept[name].append(one)
    expected = expected_moments(*({k: torch.stack(v) for k, v in s.items()} for s in (g, h)))
    for one in found.values():
        close(one, expected)
    assert not any(part._forward_hooks for part in [*student, *teacher])


@pytest.mark.parametrize("name", ["kd", "ctkd", "ttm", "wttm"])
def test_losses_of_the_library_that_are_means_over_samples(name):
    student, teacher, (x, y) = networks("mlp")
    student, teacher = student.float(), teacher.float()
    found = gradient_moments(student, teacher, (x.float(), y), loss=name, curvature=False)
    assert found.settings["loss"] == name
    assert found.tr_gg > 0


def test_the_teacher_with_the_labels_probabilities_is_the_task():
    """q = p: h is g, and everything follows."""
    student, _, (x, y) = networks("mlp")
    found = gradient_moments(student, copy.deepcopy(student), (x, y), loss=kd, curvature=False)
    assert found.tr_gh == pytest.approx(found.tr_gg)
    assert found.rho == pytest.approx(1)
    assert found.lambda_cv == pytest.approx(1)
    assert found.hbar2 == pytest.approx(found.gbar2)


def test_rows_are_drawn_by_the_seed_and_without_replacement():
    student, teacher, (x, y) = networks("mlp")
    seen = []

    def noted(s, t, batch):
        seen.append(batch.index.tolist())
        return kd(s.logits, t.logits)

    for seed in (0, 0, 1):
        gradient_moments(student, teacher, (x, y), n=16, loss=noted, curvature=False, seed=seed)
    assert seen[0] == seen[1] != seen[2]
    assert len(set(seen[0])) == 16
    gradient_moments(student, teacher, (x, y), n=1000, loss=noted, curvature=False)
    assert sorted(seen[-1]) == list(range(40))


def test_the_teacher_answers_in_eval_mode():
    student, _, (x, y) = networks("mlp")
    teacher = nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.5), nn.Linear(16, 3)).double()
    found = gradient_moments(student, teacher.train(), (x, y), loss=kd, curvature=False)
    close(found, expected_moments(*one_by_one(student, teacher.eval(), x, y)))


def test_probes_in_other_coordinates():
    student, teacher, (x, y) = networks("mlp")
    factors = {
        name: torch.linspace(0.1, 3, one.numel(), dtype=torch.float64).view(one.shape)
        for name, one in student.named_parameters()
    }
    g, h = one_by_one(student, teacher, x, y)
    g, h = ({k: v * factors[k].sqrt() for k, v in side.items()} for side in (g, h))
    found = [
        gradient_moments(
            student, teacher, (x, y), method="probes", loss=kd, curvature=False, seed=seed,
            preconditioner=factors,
        )
        for seed in range(30)
    ]  # fmt: skip
    for name, value in expected_moments(g, h).items():
        each = np.array([getattr(one, name) for one in found])
        assert abs(each.mean() - value) < 4 * each.std(ddof=1) / np.sqrt(30) + 1e-12, name


@pytest.mark.parametrize(("kind", "width"), [("mlp", 4096), ("convolutions", 4096), ("mlp", 32)])
@pytest.mark.parametrize("method", EXACT)
def test_over_how_many_directions_the_noise_of_h_is_spread(kind, width, method, monkeypatch):
    """(tr C)^2 / tr C^2, the square without the products of a row with itself."""
    monkeypatch.setattr(collecting, "SKETCH", width)
    student, teacher, (x, y) = networks(kind)
    _, h = one_by_one(student.eval(), teacher, x, y)
    flat = torch.cat([one.flatten(1) for one in h.values()], dim=1).numpy()
    centred = flat - flat.mean(0)
    trace = (centred**2).sum() / 39
    apart = [
        (centred[i] @ centred[j] + trace / 40) ** 2 for i in range(40) for j in range(40) if i != j
    ]
    found = gradient_moments(student, teacher, (x, y), method=method, loss=kd, curvature=False)
    # Folded into few numbers the products are estimates; factors of linear layers stay exact.
    folded = width == 32 and method == "per_sample"
    expected = pytest.approx(trace**2 / np.mean(apart), rel=0.3 if folded else 1e-9)
    assert found.noise_dimensions == expected


@pytest.mark.parametrize(
    ("student", "method"), [(mlp(4, 1), "gram"), (Convolutions(1), "gram"), (Tied(), "gram")]
)
def test_the_way_that_is_chosen(student, method):
    data = rows(30, inputs=36) if isinstance(student, Convolutions) else rows(30)
    teacher = mlp(8, 2, inputs=data[0].shape[1])
    found = gradient_moments(student, teacher, data, loss=kd, curvature=False)
    assert found.settings["method"] == method


class ByName(nn.Module):
    """A network that hands a layer its input by name."""

    def __init__(self):
        super().__init__()
        self.inner = mlp(5, 1)

    def forward(self, x):
        return self.inner[-1](input=self.inner[:-1](x))


def test_inputs_by_name_are_left_to_another_way():
    teacher, (x, y) = mlp(8, 2), rows(40)
    options = {"n": 40, "loss": kd, "curvature": False}
    found = gradient_moments(ByName(), teacher, (x, y), **options)
    assert found.settings["method"] == "per_sample"
    close(found, {"tr_gg": gradient_moments(mlp(5, 1), teacher, (x, y), **options).tr_gg})
    with pytest.raises(ModelError, match="by position for method='gram'; got them by name in"):
        gradient_moments(ByName(), teacher, (x, y), method="gram", **options)


@pytest.mark.parametrize("method", [*EXACT, "groups", "probes"])
def test_statistics_of_bfloat16_networks_are_wider(method):
    student, teacher, (x, y) = networks("mlp")
    options = {"n": 40, "method": method, "curvature": True, "loss": kd}
    exact = gradient_moments(student, teacher, (x, y), **options)
    narrow = [one.bfloat16() for one in (student, teacher)]
    found = gradient_moments(*narrow, (x.bfloat16(), y), **options)
    for name in ("tr_gg", "tr_gh", "tr_hh", "gbar2", "hbar2", "D_T"):
        error = 0.03 * exact.tr_gg if name == "gbar2" else 0.03 * abs(getattr(exact, name))
        assert abs(getattr(found, name) - getattr(exact, name)) < error, name
