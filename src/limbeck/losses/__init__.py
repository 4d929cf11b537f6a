"""Distillation losses: for each method a pure function on tensors and a thin module around it.

Nothing here needs more than torch and jaxtyping. :data:`LOSSES` maps the short names that recipes
use to the modules; each of them can be built without arguments.
"""

from torch import nn

from limbeck.labels import cross_entropy as cross_entropy
from limbeck.losses.features import pooled as pooled
from limbeck.losses.itrd import (
    ITRD as ITRD,
    correlation_loss as correlation_loss,
    itrd_loss as itrd_loss,
    mutual_information_loss as mutual_information_loss,
)
from limbeck.losses.kd import KD as KD, kd_loss as kd_loss
from limbeck.losses.match import Match as Match, match_loss as match_loss
from limbeck.losses.weighted_sum import WeightedSum as WeightedSum


LOSSES: dict[str, type[nn.Module]] = {"itrd": ITRD, "kd": KD, "match": Match}
