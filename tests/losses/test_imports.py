"""The losses can be used inside another project: torch and jaxtyping, nothing else."""

import subprocess
import sys


FOUNDATIONS = {"checks", "labels", "losses", "next_tokens", "randomness", "ranks", "types"}
HEAVY = {"sklearn", "scipy", "accelerate", "pydantic", "typer", "matplotlib", "pandas", "yaml"}


def test_importing_the_losses_is_cheap():
    found = subprocess.run(
        [sys.executable, "-c", "import limbeck.losses, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    parts = [name.split(".") for name in found]
    assert "torch" in found
    assert HEAVY.isdisjoint(part[0] for part in parts)
    ours = {part[1] for part in parts if part[0] == "limbeck" and len(part) > 1}
    assert ours == FOUNDATIONS
