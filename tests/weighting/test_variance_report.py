"""The variance report against numbers by hand, plain loops over rows, and autograd."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.gradients import Convolutions, kd, mlp, one_by_one, rows
from torch import nn
from torch.nn import functional as F

from limbeck.checks import ArgumentError, DataError
from limbeck.data import Data
from limbeck.report.weights import weights_svg
from limbeck.types import Outputs
from limbeck.weighting.measuring.curvature import Curvature
from limbeck.weighting.measuring.gradient_moments import moments_of
from limbeck.weighting.measuring.products import Products
from limbeck.weighting.reporting.advice import recommend_weight
from limbeck.weighting.reporting.outlook import outlook
from limbeck.weighting.reporting.shares import class_shares, layer_shares, unbiased_weight
from limbeck.weighting.reporting.variance_report import VarianceReport, variance_report


def curvature(bias, error=0.0, **changes):
    settings = {
        "D_T": bias, "standard_error": error, "rows": np.full(64, bias),
        "half": np.arange(64) % 2.0,
        "mean": 2.0, "rayleigh": 3.0, "damping": 0.08, "iterations": 9, "residual": 1e-4,
        "converged": True,
    }  # fmt: skip
    return Curvature(**settings | changes)


def by_hand(bias=1 / 20, **changes):
    """tr_gg = tr_gh = 2.5, tr_hh = 2.59, hbar2 = 1/4, known with next to no error."""
    values = np.abs(np.random.default_rng(0).normal(size=(1, 64, 7))) * 1e-6
    made = moments_of(
        Products(("x",), values), settings={"method": "by hand", "loss": "kd"},
        curvature=None if bias is None else curvature(bias),
    )  # fmt: skip
    settings = {"tr_gh": 2.5, "tr_gg": 2.5, "tr_hh": 2.59, "gbar2": 0.0, "hbar2": 0.25}
    return replace(made, **settings | changes)


def samples(g, h, layers=1):
    """One-dimensional gradients, the same in each layer."""
    g, h = np.array(g, float), np.array(h, float)
    values = np.stack(
        [g * h, g * g, h * h, g * g.mean(), g * h.mean(), h * g.mean(), h * h.mean()], axis=1
    )
    names = tuple(f"layer {at}" for at in range(layers))
    return moments_of(
        Products(names, np.stack([values] * layers)), settings={"method": "by hand", "loss": "kd"}
    )


def report_of(moments, *, weight=None, rows_in_data=1000, held_out=None, horizon=None, batch=1):
    advice = recommend_weight(moments, learning_rate=1 / 20, batch_size=batch, horizon=horizon)
    told = {"one_step": advice.one_step, "long_run": advice.loss or advice.horizon}
    if horizon is not None:
        told["long_run"] = advice.horizon
    outlooks = {k: outlook(moments, advice, v.value) for k, v in told.items()
                if v.status != "unresolved"}  # fmt: skip
    if weight is not None:
        outlooks["in_use"] = outlook(moments, advice, weight)
    grid = tuple(outlook(moments, advice, at / 10) for at in range(11))
    return VarianceReport(
        moments, held_out, advice, weight, grid, outlooks, unbiased_weight(moments),
        layer_shares(moments), None, None, None, rows_in_data, (), {},
    )  # fmt: skip


# ---- one weight


def test_outlook_by_hand():
    """gamma = 1/20, B = 4: A = 2.5 / 320 = 1/128; mu = hbar2 / (2 D_T) = 2.5, 1 + kappa = 15."""
    moments = by_hand()
    advice = recommend_weight(moments, learning_rate=1 / 20, batch_size=4)
    found = outlook(moments, advice, 0.5)
    left = 1 - 1 + 0.25 * 2.59 / 2.5
    assert found.noise_left == pytest.approx(left)
    assert found.bias_one_step == pytest.approx(0.25 * 0.25 * 4 / 2.5)
    assert found.bias_long_run == pytest.approx(15 * 0.1)
    plateau = left / 128 + 0.25 / 20
    assert found.plateau == pytest.approx(plateau)
    assert found.batch_one_step == pytest.approx(4 / left)
    assert found.batch_long_run == pytest.approx(4 / 128 / plateau)
    plain = outlook(moments, advice, 0.0)
    assert (plain.noise_left, plain.bias_one_step, plain.bias_long_run) == (1, 0, 0)
    assert plain.plateau == pytest.approx(1 / 128)
    assert plain.batch_one_step == plain.batch_long_run == 4


def test_the_equivalent_batch_of_shrinkage():
    """tr_hh = tr_gg = tr_gh: B (A + D_T) / D_T at lambda = A / (A + D_T)."""
    moments = by_hand(tr_hh=2.5)
    advice = recommend_weight(moments, learning_rate=1 / 20, batch_size=1)
    floor, bias = 1 / 32, 1 / 20
    found = outlook(moments, advice, floor / (floor + bias))
    assert found.batch_long_run == pytest.approx((floor + bias) / bias)
    assert found.batch_one_step == pytest.approx(1 / (bias / (floor + bias)) ** 2)


def test_without_curvature_the_long_run_goes_by_kappa():
    moments = by_hand(None)
    found = outlook(moments, recommend_weight(moments, learning_rate=0.05, batch_size=1), 0.5)
    assert (found.bias_long_run, found.plateau, found.batch_long_run) == (None, None, None)
    steps = recommend_weight(moments, learning_rate=0.05, batch_size=1, horizon=9)
    found = outlook(moments, steps, 0.5)
    assert found.bias_long_run == pytest.approx(9 * 0.025)
    assert found.batch_long_run == pytest.approx(1 / (0.259 + 0.225))
    # A horizon counts by kappa where there is a plateau, too: (1 - r^t) / (1 + r^t) 15, r = 7/8.
    moments = by_hand()
    steps = recommend_weight(moments, learning_rate=0.05, batch_size=1, horizon=2)
    growth = 15 * (1 - (7 / 8) ** 2) / (1 + (7 / 8) ** 2)
    assert outlook(moments, steps, 0.5).batch_long_run == pytest.approx(
        1 / (0.259 + growth * 0.025)
    )


def test_what_fell_below_zero_counts_as_zero_and_no_noise_has_no_batch():
    moments = by_hand(-0.01, hbar2=-0.1, tr_hh=2.5)
    found = outlook(moments, recommend_weight(moments, learning_rate=0.05, batch_size=1), 1.0)
    assert (found.noise_left, found.bias_one_step, found.plateau) == (0, 0, 0)
    assert found.batch_one_step is None
    assert found.batch_long_run is None


def test_noise_scale_by_pairs_of_rows():
    source = np.random.default_rng(1)
    g = source.normal(3, 1, 40)
    h = 0.5 * g + source.normal(0, 1, 40)
    moments = samples(g, h)
    advice = recommend_weight(moments, learning_rate=0.1, batch_size=2)
    for weight in (0.0, 0.6):
        k = g - weight * h
        pairs = [k[i] * k[j] for i in range(40) for j in range(40) if i != j]
        expected = k.var(ddof=1) / np.mean(pairs)
        assert outlook(moments, advice, weight).noise_scale == pytest.approx(expected)
    # Two standard errors, from <k_i, mean of the others>, decide whether it is told.
    for shift in np.linspace(0.1, 0.8, 15):
        moved = samples(g - g.mean() + shift, h - h.mean() + 2)
        k = (g - g.mean() + shift) - 0.2 * (h - h.mean() + 2)
        t = k * (k.sum() - k) / 39
        told = outlook(moved, advice, 0.2).noise_scale is not None
        assert told == (t.mean() >= 4 * t.std(ddof=1) / np.sqrt(40))
    # Two standard errors below: a mean of about nothing.
    centred = samples(g - g.mean(), h)
    assert outlook(centred, advice, 0.0).noise_scale is None


# ---- layers and classes


def test_shares_of_layers_and_the_weight_without_bias():
    source = np.random.default_rng(1)
    g = source.normal(3, 1, 40)
    h = 0.5 * g + source.normal(2, 1, 40)
    found = layer_shares(samples(g, h, layers=4))
    one = found["layer 2"]
    assert one.rho == pytest.approx(np.corrcoef(g, h)[0, 1])
    ratio = np.cov(g, h)[0, 1] / h.var(ddof=1)
    assert one.unbiased.value == pytest.approx(ratio)
    assert one.unbiased.lower < ratio < one.unbiased.upper
    assert one.rows == 40
    assert one.share_gg == pytest.approx(1 / 4)
    assert one.share_hh == pytest.approx(1 / 4)
    assert one.share_hbar2 == pytest.approx(1 / 4)
    assert unbiased_weight(samples(g, h)).value == pytest.approx(ratio)
    unseen = layer_shares(samples(g, h - h.mean()))["layer 0"]
    assert unseen.share_hbar2 is None


def class_case():
    student, teacher, (x, y) = mlp(5, 1), mlp(8, 2), rows(60)
    y = torch.where(torch.arange(60) % 5 == 0, -1, y)
    return student, teacher, x, y


def test_classes_by_rows_of_one_class():
    student, teacher, x, y = class_case()
    names = ["a", "b", "c"]
    found = variance_report(
        student, teacher, Data((x, y), class_names=names), loss=kd, learning_rate=0.1,
        batch_size=4, curvature=False, n=60,
    )  # fmt: skip
    share = torch.where(y >= 0, 60 / int((y >= 0).sum()), 0.0).double()
    g, h = one_by_one(student, teacher, x, y.clamp(min=0))
    flat = [torch.cat([v.flatten(1) for v in side.values()], 1) for side in (g, h)]
    distillation = flat[0] - flat[1]
    g = share[:, None] * flat[0]
    h = g - distillation
    total = 0.0
    assert list(found.classes) == ["unlabelled", *names]
    for kind, (name, one) in zip((-1, 0, 1, 2), found.classes.items(), strict=True):
        own = y == kind
        gc, hc = g[own] - g.mean(0), h[own] - h.mean(0)
        gg, hh, gh = ((a * b).sum(1) * 60 / 59 for a, b in ((gc, gc), (hc, hc), (gc, hc)))
        assert one.rows == int(own.sum()), name
        assert one.tr_gg == pytest.approx(float(gg.mean()))
        assert one.tr_hh == pytest.approx(float(hh.mean()))
        assert one.rho == pytest.approx(float(gh.mean() / (gg.mean() * hh.mean()).sqrt()))
        assert one.unbiased.raw == pytest.approx(float(gh.mean() / hh.mean()))
        others = (h.sum(0) - h[own]) / 59
        assert one.hbar2 == pytest.approx(float((h[own] * others).sum(1).mean()))
        assert one.share_gg == pytest.approx(
            float(((g[own] - g.mean(0)) ** 2).sum() / ((g - g.mean(0)) ** 2).sum())
        )
        assert one.share_hh == pytest.approx(
            float(((h[own] - h.mean(0)) ** 2).sum() / ((h - h.mean(0)) ** 2).sum())
        )
        total += one.share_gg
    assert total == pytest.approx(1)


def test_a_class_interval_is_that_of_a_ratio_of_its_rows():
    source = np.random.default_rng(1)
    h = source.normal(0, 1, 2000)
    g = 0.5 * h + source.normal(0, 0.2, 2000)
    found = class_shares(samples(g, h), torch.arange(2000) % 2)
    for kind, one in found.items():
        own = np.arange(2000) % 2 == int(kind)
        top, bottom = (g * h)[own], (h * h)[own]
        ratio = top.mean() / bottom.mean()
        error = (top - ratio * bottom).std(ddof=1) / np.sqrt(1000) / bottom.mean()
        assert one.unbiased.upper - one.unbiased.lower == pytest.approx(2 * 1.96 * error, rel=0.05)


def test_one_row_of_a_class_resolves_nothing_and_what_has_no_classes_is_none():
    moments = samples([1, -2, 3, 0.5], [0.5, -1, 2, 0.7])
    found = class_shares(moments, torch.tensor([0, 0, 0, 7]))
    assert found["7"].unbiased.status == "unresolved"
    assert class_shares(moments, None) is None
    assert class_shares(moments, torch.zeros(4)) is None
    assert class_shares(moments, torch.zeros(4, 2, dtype=torch.int64)) is None
    groups = moments_of(replace(moments.products, rows=2), settings=moments.settings)
    assert class_shares(groups, torch.zeros(4, dtype=torch.int64)) is None


# ---- the whole report


@pytest.fixture(scope="module")
def whole():
    """A student with BatchNorm, a teacher of its shape, and the report on all their rows."""
    student, teacher, data = Convolutions(1), Convolutions(2), rows(48, inputs=36)
    with torch.no_grad():
        teacher.norm.running_mean.add_(0.3)
    teacher.norm.num_batches_tracked.fill_(5)
    student.train()
    found = variance_report(
        student, teacher, data, loss=kd, learning_rate=0.1, batch_size=4, weight=0.25, n=48,
        held_out=rows(30, inputs=36, seed=3),
    )  # fmt: skip
    return student, teacher, data, found


def test_the_grid_has_the_weight_in_use_in_its_place(whole):
    found = whole[3]
    assert [one.weight for one in found.grid] == [
        0.0, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0,
    ]  # fmt: skip
    assert found.outlooks["in_use"] == found.grid[3]
    assert (found.moments.n, found.held_out.n, found.rows_in_data) == (48, 30, 48)
    assert found.held_out.curvature is None


def test_interpolated_weights_by_direct_evaluation(whole):
    student, teacher, (x, y), found = whole
    mine, theirs = student.state_dict(), teacher.state_dict()
    for one, loss in zip(found.grid, found.interpolation, strict=True):
        mixed = Convolutions(3).eval()
        mixed.load_state_dict(
            {
                k: (1 - one.weight) * v + one.weight * theirs[k] if v.is_floating_point() else v
                for k, v in mine.items()
            }
        )
        with torch.no_grad():
            assert loss == pytest.approx(float(F.cross_entropy(mixed(x), y)), rel=1e-9)


def test_the_cosine_by_autograd(whole):
    student, teacher, (x, y), found = whole

    def gradient(model, loss):
        model = copy.deepcopy(model).eval()
        parts = torch.autograd.grad(loss(model(x)), list(model.parameters()))
        return torch.cat([part.flatten() for part in parts])

    with torch.no_grad():
        said = copy.deepcopy(teacher).eval()(x)
    task = lambda z: F.cross_entropy(z, y)  # noqa: E731
    f_x, f_theta = gradient(student, task), gradient(teacher, task)
    for one, cosine in zip(found.grid, found.cosine, strict=True):
        lam = one.weight
        mixed = gradient(student, lambda z, lam=lam: (1 - lam) * task(z) + lam * kd(z, said))
        plain = f_x - lam * f_theta
        assert cosine == pytest.approx(float(F.cosine_similarity(mixed, plain, dim=0)), rel=1e-9)


def test_models_are_as_they_were(whole):
    student, teacher, _, _ = whole
    assert student.training
    assert not any(part._forward_hooks for part in (*student.modules(), *teacher.modules()))
    fresh = Convolutions(1)
    for name, value in student.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[name]), name


def test_other_shapes_and_other_teachers_have_no_baseline():
    student, data = mlp(5, 1), rows(30)
    options = {"loss": kd, "learning_rate": 0.1, "batch_size": 4, "curvature": False}
    other = mlp(6, 2)
    asked = lambda batch: Outputs(mlp(5, 2)(batch.inputs))  # noqa: E731
    renamed = nn.Sequential(nn.Identity(), *mlp(5, 2))
    for teacher in (other, asked, renamed):
        found = variance_report(student, teacher, data, **options)
        assert found.interpolation is found.cosine is None
        assert found.grid[0].plateau is None
        assert found.held_out is None
        assert "long_run" not in found.outlooks  # not known without curvature
    alike = variance_report(student, mlp(5, 2), data, **options)
    assert len(alike.interpolation) == len(alike.cosine) == 11


def test_noise_of_the_grid_is_that_of_the_rows():
    student, teacher, (x, y) = mlp(5, 1), mlp(8, 2), rows(40)
    found = variance_report(
        student, teacher, (x, y), loss=kd, learning_rate=0.1, batch_size=4, curvature=False
    )
    g, h = one_by_one(student, teacher, x, y)
    g, h = (torch.cat([v.flatten(1) for v in side.values()], 1) for side in (g, h))
    noise = g.var(0).sum()
    for one in found.grid:
        k = g - one.weight * h
        assert one.noise_left == pytest.approx(float(k.var(0).sum() / noise))
    gram = h @ h.T
    square = float((gram.sum() - gram.trace()) / (40 * 39))
    bias = 0.25 * max(square, 0) * 4 / float(noise)
    assert found.grid[5].bias_one_step == pytest.approx(bias)
    distance = (g @ g.T).sum() - (g @ g.T).trace()
    assert found.distance == pytest.approx(float(distance / (40 * 39) * 4 / noise))


# ---- what is said


def test_the_text_of_a_resolved_weight():
    """lambda_f = 2.5 / 6.59; plateau A (1 - 2.5 / 6.59); equivalent batch 6.59 / 4.09."""
    found = report_of(by_hand(), weight=0.125)
    text = str(found)
    weight = 2.5 / 6.59
    assert not found.cannot_lower_training_loss
    assert found.advised_name == "loss"
    assert f"the advised weight is {weight:.3f} [" in found.verdict
    assert f"levels off {(1 - weight) / 32:.3g} instead of 0.0312 nats" in found.verdict
    assert f"a batch of {6.59 / 4.09:.4g} rows without" in found.verdict
    one = 125 / 142
    left = 1 - 2 * one + one**2 * 2.59 / 2.5
    assert f"{1 / left:.4g}" in text
    assert "in use" in text
    assert "0.125" in text
    assert found.verdict in text
    assert "long run, one curvature" in text
    assert len(text.splitlines()) <= 40


def test_a_horizon_is_what_is_advised():
    found = report_of(by_hand(), horizon=9)
    assert found.advised_name == "horizon"
    assert "9 steps, one curvature" in str(found)
    assert "nats above" not in found.verdict


def unresolved(**changes):
    errors = {"tr_gh": 0.1, "tr_gg": 0.1, "tr_hh": 0.1, "gbar2": 0.1, "hbar2": 0.2}
    return by_hand(standard_errors=errors, **changes)


def test_an_unresolved_weight_is_an_interval_and_rows():
    """hbar2 + 2 errors = 0.65: at least 64 * 3 * 0.2 / 0.65 = 59.08 rows, so as many again."""
    moments = unresolved()
    found = report_of(moments)
    assert "long_run" not in found.outlooks
    text = str(found)
    assert f"{2.5 / 6.59:.3f} [" not in text
    assert f"{2.5 / (2.59 + 15 * 0.25):.3f} [" not in text
    assert found.verdict.startswith("the weight of the long run is unresolved [")
    assert found.verdict.endswith("at least 64 more rows would resolve it.")
    errors = {**moments.standard_errors, "hbar2": 2.0}
    # 64 * 3 * 2 / 4.25 = 90.4 rows
    found = report_of(replace(moments, standard_errors=errors), rows_in_data=80)
    assert "at least 27 more rows would resolve it (the data hold 16 more)" in found.verdict


def test_rows_for_an_interval_without_bounds():
    """One step, B = 1: D = 2.84; with variance 4 of tr_hh, z^2 4 / 2.84^2 * 64 = 121.93 rows."""
    covariance = np.zeros((5, 5))
    covariance[2, 2] = 4.0
    found = report_of(by_hand(covariance=covariance))
    assert "unresolved [" in str(found)
    assert "at least 58 more rows would resolve it" in str(found)
    assert "one_step" not in found.outlooks


def test_without_curvature_the_text_says_what_is_missing():
    found = report_of(by_hand(None))
    assert "measure the curvature, or name a horizon" in found.verdict
    assert "plateau" not in str(found)


def test_a_solver_that_fails_is_named():
    found = report_of(replace(by_hand(), curvature=curvature(0.05, converged=False)))
    assert "the solver of D_T did not converge" in found.verdict


def test_no_gain_is_said_plainly():
    zero = report_of(by_hand(tr_gh=-1.0))
    assert zero.cannot_lower_training_loss
    assert zero.verdict.startswith(
        "distillation cannot lower the training loss here: the advised weight is 0."
    )
    assert zero.verdict in str(zero)
    # Zero is zero, however large the bias: no rows are asked for.
    found = report_of(unresolved(tr_gh=-1.0))
    assert found.cannot_lower_training_loss
    assert "unresolved [0.000, 0.000]" in str(found)
    assert "more rows would" not in str(found)
    # A weight of 1 hangs on the bias.
    assert "unresolved [1.000, 1.000]; at least" in report_of(unresolved(tr_gh=90.0)).verdict
    # Rows that say next to nothing of tr_gh: its interval holds 0, and the bounds are known.
    source = np.random.default_rng(0)
    numbers = np.zeros((1, 64, 7))
    numbers[0, :, 0] = source.normal(0.1, 40, 64)
    moments = moments_of(
        Products(("x",), numbers), settings={"method": "by hand", "loss": "kd"},
        curvature=curvature(0.05),
    )  # fmt: skip
    errors = {**by_hand().standard_errors}
    known = {"tr_gg": 2.5, "tr_hh": 2.59, "hbar2": 0.25, "gbar2": 0.0, "tr_gh": 0.5}
    found = report_of(replace(moments, **known, standard_errors=errors))
    assert found.advised.status == "resolved"
    assert found.advised.lower == 0 < found.advised.upper
    assert "no gain beyond the weight's interval, [0, " in found.verdict
    assert "at least" not in found.verdict


def test_notes():
    # A network that is at chance, and an easy task: the gradient is all there is.
    student, teacher, (x, y) = mlp(5, 1), mlp(8, 2), rows(40)
    data = (x, torch.zeros_like(y))
    far = variance_report(
        student, teacher, data, loss=kd, learning_rate=0.1, batch_size=64, curvature=False
    )
    assert far.distance > 1
    assert "far from its plateau" in far.notes[0]
    near = variance_report(
        student, teacher, data, loss=kd, learning_rate=0.1, batch_size=1, curvature=False
    )
    assert not any("far from" in note for note in near.notes)
    assert near.distance == pytest.approx(far.distance / 64)
    rough = variance_report(
        student, student, (x, y), loss=lambda s, t: 0 * kd(s, t), learning_rate=0.1,
        batch_size=1, curvature=False,
    )  # fmt: skip
    assert any("two standard errors" in note for note in rough.notes) == (
        rough.moments.hbar2 < 2 * rough.moments.standard_errors["hbar2"]
    )


def test_a_distillation_gradient_that_is_too_large_is_told_from_a_wrong_teacher():
    student, teacher, (x, y) = mlp(5, 1), mlp(8, 2), rows(60)
    large = lambda s, t: 16 * F.cross_entropy(s, y_of(t))  # noqa: E731
    y_of = lambda t: t.softmax(1)  # noqa: E731
    found = variance_report(
        student, teacher, (x, y), loss=large, learning_rate=0.1, batch_size=1, curvature=False
    )
    g, h = one_by_one(student, teacher, x, y, large)
    g, h = (torch.cat([v.flatten(1) for v in side.values()], 1) for side in (g, h))
    d = (g - h) - (g - h).mean(0)
    g = g - g.mean(0)
    size = float((d.square().sum() / g.square().sum()).sqrt())
    along = float((d * g).sum() / (d.square().sum() * g.square().sum()).sqrt())
    assert f"is {size:.3g} times as large" in found.advice.action
    assert f"correlation {along:.2f}" in found.advice.action


def test_a_bias_on_held_out_rows_alone_is_noted():
    """A teacher that repeats the training labels, and errs elsewhere."""
    student, (x, y) = mlp(5, 1), rows(200)
    unseen = rows(300, seed=9)
    seen = {tuple(row.tolist()): int(label) for row, label in zip(x, y, strict=True)}

    def teacher(batch):
        known = [seen.get(tuple(row.tolist()), 0) for row in batch.inputs]
        return Outputs(20.0 * F.one_hot(torch.tensor(known), 3).double())

    found = variance_report(
        student, teacher, (x, y), held_out=unseen, loss=kd, learning_rate=0.1, batch_size=1
    )
    assert any("larger on held-out rows" in note for note in found.notes)
    assert "held-out rows" in str(found)


def test_json_has_no_nan_and_is_written_whole(tmp_path, whole):
    found = whole[3]
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert json.loads(text)["grid"][3]["weight"] == 0.25
    broken = replace(found, interpolation=(math.nan, math.inf), unbiased=unbiased_weight(by_hand()))
    assert json.loads(json.dumps(broken.to_dict(), allow_nan=False))["interpolation"] == [None] * 2
    assert found.save(tmp_path / "new") == tmp_path / "new"
    assert json.loads((tmp_path / "new" / "weights.json").read_text()) == json.loads(text)
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"weights.json", "weights.svg"}
    assert (tmp_path / "new" / "weights.svg").read_text() == weights_svg(json.loads(text))


def test_groups_have_no_classes_but_all_else():
    student, teacher, data = mlp(5, 1), mlp(5, 2), rows(64)
    found = variance_report(
        student, teacher, data, loss=kd, method="groups", group_rows=2, learning_rate=0.1,
        batch_size=4, curvature=False,
    )  # fmt: skip
    assert found.classes is None
    assert found.moments.index.shape == (32, 2)
    assert sorted(found.moments.index.ravel()) == list(range(64))
    assert len(found.interpolation) == 11


# ---- refusals


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"batch_size": 0}, "batch_size"),
        ({"momentum": 1.0}, "`momentum` in"),
        ({"weight": 1.5}, "weight"),
        ({"horizon": 0}, "`horizon` of 1 step"),
    ],
)
def test_arguments_out_of_range_are_refused_before_measuring(changes, said):
    def teacher(_):
        raise AssertionError("measured")

    options = {"learning_rate": 0.1, "batch_size": 4} | changes
    with pytest.raises(ArgumentError, match=f"variance_report: expected.*{said}"):
        variance_report(mlp(5, 1), teacher, rows(20), **options)


def test_losses_that_compare_rows_are_refused():
    with pytest.raises(ArgumentError, match="mean over samples"):
        variance_report(
            mlp(5, 1), mlp(8, 2), rows(20), loss="dist", learning_rate=1.0, batch_size=1
        )


def test_rows_that_are_all_alike_are_refused():
    data = (torch.ones(16, 6, dtype=torch.float64), torch.zeros(16, dtype=torch.int64))
    student = mlp(5, 1)
    for part in student.parameters():
        nn.init.zeros_(part)
    with pytest.raises(DataError, match="differ from row to row"):
        variance_report(student, mlp(8, 2), data, loss=kd, learning_rate=1.0, batch_size=1)
