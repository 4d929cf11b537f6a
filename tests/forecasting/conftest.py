"""What the tests of forecasts share."""

import pytest
from helpers.forecasts import gain_model, use_models


ACCURACY = gain_model({"accuracy_gap": 0.5}, constant=1.0, spread=2.0)
CROSS_ENTROPY = gain_model({"cross_entropy_gap": 2.0}, constant=0.25, spread=0.5)


@pytest.fixture
def models(monkeypatch):
    """Forecast 1 + accuracy gap / 2 points and 0.25 + 2 cross-entropy gaps in bits."""
    return use_models(monkeypatch, accuracy=ACCURACY, cross_entropy=CROSS_ENTROPY)
