#!/usr/bin/env bash
# The installed wheel, from build/wheel: its version, its data files, a recipe, a run and a report.
set -euo pipefail
PYTHONPATH=$(../../.venv/bin/python -c 'import site; print(site.getsitepackages()[0])')
export PYTHONPATH OMP_NUM_THREADS=1
venv/bin/python - <<'CHECK'
import pathlib, tomllib, limbeck
from limbeck.forecasting.grid import own_grid
wanted = tomllib.loads(pathlib.Path("../../pyproject.toml").read_text())["project"]["version"]
assert limbeck.__version__ == wanted, (limbeck.__version__, wanted)
assert pathlib.Path.cwd() in pathlib.Path(limbeck.__file__).parents, limbeck.__file__
assert (pathlib.Path(limbeck.__file__).parent / "py.typed").exists()
assert own_grid().rows
CHECK
venv/bin/limbeck --version
venv/bin/limbeck init --recipe digits recipe.yaml
venv/bin/limbeck train recipe.yaml teacher=null training.epochs=2 out=run
venv/bin/limbeck report run --out report.html
test -s report.html
