"""Names that the command line offers before anything heavy is imported."""

from __future__ import annotations


DATA_SETS = ("digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "folder", "npz")
