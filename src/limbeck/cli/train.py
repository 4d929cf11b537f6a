"""``limbeck train``."""

from __future__ import annotations

from limbeck.cli.arguments import (
    AsJson,
    Device,
    DryRun,
    Flags,
    Force,
    Out,
    Overrides,
    Overwrite,
    RecipePath,
    Resume,
    Seed,
    Seeds,
    Trust,
)


def train(
    recipe: RecipePath,
    overrides: Overrides = None,
    seed: Seed = None,
    seeds: Seeds = 1,
    out: Out = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    device: Device = None,
    dry_run: DryRun = False,
    force: Force = False,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Train a model without a teacher: teachers, and students as controls.

    The recipe's ``student`` is trained; its ``teacher`` must be null.
    """
    from limbeck.cli.running import run_recipe

    flags = Flags(seed, seeds, out, resume, overwrite, device, dry_run, force, as_json, trust=trust)
    run_recipe("train", recipe, overrides or [], flags)
