"""How many queries of which kind pass a teacher on, over finite domains; numpy and scipy only.

Learners for each privilege are here by name. Bounds, plans, meters and estimates are imported from
the modules that hold them.
"""

from limbeck.limits.tables.counts import PairCounts as PairCounts
from limbeck.limits.tables.learners import (
    fit_censored as fit_censored,
    fit_hard_labels as fit_hard_labels,
    fit_naive_probabilities as fit_naive_probabilities,
    fit_sampled_probabilities as fit_sampled_probabilities,
    fit_soft_labels as fit_soft_labels,
)
from limbeck.limits.tables.risk import risk_of as risk_of
from limbeck.limits.tables.table import Table as Table


__all__ = [
    "PairCounts",
    "Table",
    "fit_censored",
    "fit_hard_labels",
    "fit_naive_probabilities",
    "fit_sampled_probabilities",
    "fit_soft_labels",
    "risk_of",
]
