"""Moments measured by two processes are those of one."""

from pathlib import Path

import pytest
import torch
from helpers.moment_ranks import CASES, measured, run_rank
from helpers.processes import spread

from limbeck.weighting.measuring.products import MOMENTS
from limbeck.weighting.reporting.advice import recommend_weight


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    spread(run_rank, str(folder))
    return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_equal_one(ranks, name):
    expected = measured(name)
    for rank in ranks:
        found = rank[name]
        assert (found.n, found.units) == (expected.n, expected.units)
        for moment in MOMENTS:
            assert getattr(found, moment) == pytest.approx(getattr(expected, moment), rel=1e-9)
        assert found.covariance == pytest.approx(expected.covariance, rel=1e-6)
        if expected.noise_dimensions is not None:
            assert found.noise_dimensions == pytest.approx(expected.noise_dimensions, rel=1e-6)
        assert found.products.values == pytest.approx(expected.products.values, abs=1e-9)
        if expected.curvature is None:
            continue
        # The solver stops at a residual, and on rounding errors it may stop a step later.
        bias, error = expected.curvature.D_T, 0.05 * expected.curvature.standard_error
        assert abs(found.curvature.D_T - bias) < error
        assert (found.curvature.half == expected.curvature.half).all()
        advice = [
            recommend_weight(one, learning_rate=0.1, batch_size=4) for one in (found, expected)
        ]
        assert advice[0].loss.upper == pytest.approx(advice[1].loss.upper, rel=0.02)
