"""``python -m limbeck``, which ``torchrun -m limbeck`` uses too."""

import sys

from limbeck.cli.main import run


if __name__ == "__main__":
    sys.argv[0] = "limbeck"  # so that a record's command can be typed again
    run()
