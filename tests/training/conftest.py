"""What several tests of training share."""

import pytest
from helpers.measured import Recorder

from limbeck.training import measuring


@pytest.fixture
def recorder(monkeypatch):
    """Put a recorder in the estimator's place: such tests are about what it is given."""
    found = Recorder()
    monkeypatch.setattr(measuring, "estimate_pid", found)
    return found
