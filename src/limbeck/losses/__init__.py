"""Distillation losses: for each method a pure function on tensors and a thin module around it.

Nothing here needs more than torch and jaxtyping. :data:`LOSSES` maps the short names that recipes
use to the modules; each of them can be built without arguments.
"""

from torch import nn

from limbeck.labels import cross_entropy as cross_entropy
from limbeck.losses.ab import AB as AB, activation_boundary_loss as activation_boundary_loss
from limbeck.losses.attention import AT as AT, attention_transfer_loss as attention_transfer_loss
from limbeck.losses.catkd import CATKD as CATKD, class_attention_loss as class_attention_loss
from limbeck.losses.cc import (
    CC as CC,
    correlation_congruence_loss as correlation_congruence_loss,
)
from limbeck.losses.censored import Censored as Censored, censored_loss as censored_loss
from limbeck.losses.control_variate import (
    AdaptiveControlVariate as AdaptiveControlVariate,
    ControlVariate as ControlVariate,
    control_variate_loss as control_variate_loss,
)
from limbeck.losses.crd import CRD as CRD, crd_loss as crd_loss
from limbeck.losses.ctkd import CTKD as CTKD, ctkd_loss as ctkd_loss
from limbeck.losses.dist import DIST as DIST, dist_loss as dist_loss
from limbeck.losses.dkd import DKD as DKD, dkd_loss as dkd_loss
from limbeck.losses.eakd import EAKD as EAKD, eakd_loss as eakd_loss
from limbeck.losses.features import pooled as pooled
from limbeck.losses.fitnet import FitNet as FitNet, hint_loss as hint_loss
from limbeck.losses.fsp import FSP as FSP, fsp_loss as fsp_loss, fsp_matrix as fsp_matrix
from limbeck.losses.ft import FT as FT, factor_transfer_loss as factor_transfer_loss
from limbeck.losses.full_kl import full_kl_loss as full_kl_loss
from limbeck.losses.itrd import (
    ITRD as ITRD,
    correlation_loss as correlation_loss,
    itrd_loss as itrd_loss,
    mutual_information_loss as mutual_information_loss,
)
from limbeck.losses.jsd import JSD as JSD, jsd_loss as jsd_loss
from limbeck.losses.k3 import K3 as K3, k3_loss as k3_loss
from limbeck.losses.kd import KD as KD, kd_loss as kd_loss
from limbeck.losses.luminet import LumiNet as LumiNet, luminet_loss as luminet_loss
from limbeck.losses.match import Match as Match, match_loss as match_loss
from limbeck.losses.mlkd import MLKD as MLKD, mlkd_loss as mlkd_loss
from limbeck.losses.naive_probability import (
    NaiveProbability as NaiveProbability,
    naive_probability_loss as naive_probability_loss,
)
from limbeck.losses.norm import NORM as NORM, n_to_one_loss as n_to_one_loss
from limbeck.losses.nst import NST as NST, nst_loss as nst_loss
from limbeck.losses.ofd import (
    OFD as OFD,
    batch_norm_margin as batch_norm_margin,
    ofd_loss as ofd_loss,
)
from limbeck.losses.pkt import PKT as PKT, pkt_loss as pkt_loss
from limbeck.losses.reviewkd import (
    ReviewKD as ReviewKD,
    hierarchical_context_loss as hierarchical_context_loss,
)
from limbeck.losses.rid import RID as RID, rid_loss as rid_loss
from limbeck.losses.rkd import RKD as RKD, rkd_loss as rkd_loss
from limbeck.losses.rld import RLD as RLD, rld_loss as rld_loss
from limbeck.losses.sampled_counts import (
    SampledCounts as SampledCounts,
    sampled_counts_loss as sampled_counts_loss,
)
from limbeck.losses.sampled_labels import SampledLabels as SampledLabels
from limbeck.losses.sel import SEL as SEL, sel_loss as sel_loss
from limbeck.losses.similarity import SP as SP, similarity_loss as similarity_loss
from limbeck.losses.simkd import SimKD as SimKD
from limbeck.losses.skd import SKD as SKD, gram_mahalanobis_loss as gram_mahalanobis_loss
from limbeck.losses.skew_kl import SkewKL as SkewKL, skew_kl_loss as skew_kl_loss
from limbeck.losses.standardised import Standardised as Standardised, standardised as standardised
from limbeck.losses.ted import TED as TED
from limbeck.losses.token_kd import token_kd_loss as token_kd_loss
from limbeck.losses.token_sampled import token_sampled_loss as token_sampled_loss
from limbeck.losses.token_sampled_term import TokenSampled as TokenSampled
from limbeck.losses.token_terms import TokenKD as TokenKD, TokenTopK as TokenTopK
from limbeck.losses.token_top_k import token_top_k_loss as token_top_k_loss
from limbeck.losses.tokens import LazyLogits as LazyLogits
from limbeck.losses.top_k import TopK as TopK, top_k_loss as top_k_loss
from limbeck.losses.ttm import (
    TTM as TTM,
    WTTM as WTTM,
    ttm_loss as ttm_loss,
    wttm_loss as wttm_loss,
)
from limbeck.losses.vid import VID as VID, vid_loss as vid_loss
from limbeck.losses.weighted_sum import WeightedSum as WeightedSum
from limbeck.losses.wkd_feature import WKDF as WKDF, wkd_feature_loss as wkd_feature_loss
from limbeck.losses.wkd_logit import WKDL as WKDL, wkd_logit_loss as wkd_logit_loss


LOSSES: dict[str, type[nn.Module]] = {
    "ab": AB,
    "at": AT,
    "catkd": CATKD,
    "cc": CC,
    "censored": Censored,
    "control_variate": ControlVariate,
    "crd": CRD,
    "ctkd": CTKD,
    "dist": DIST,
    "dkd": DKD,
    "eakd": EAKD,
    "fitnet": FitNet,
    "fsp": FSP,
    "ft": FT,
    "itrd": ITRD,
    "jsd": JSD,
    "k3": K3,
    "kd": KD,
    "lskd": Standardised,
    "luminet": LumiNet,
    "match": Match,
    "mlkd": MLKD,
    "naive_probability": NaiveProbability,
    "norm": NORM,
    "nst": NST,
    "ofd": OFD,
    "pkt": PKT,
    "reviewkd": ReviewKD,
    "rid": RID,
    "rkd": RKD,
    "rld": RLD,
    "sampled_counts": SampledCounts,
    "sampled_labels": SampledLabels,
    "sel": SEL,
    "simkd": SimKD,
    "skd": SKD,
    "skew_kl": SkewKL,
    "sp": SP,
    "ted": TED,
    "token_kd": TokenKD,
    "token_sampled": TokenSampled,
    "token_top_k": TokenTopK,
    "top_k": TopK,
    "ttm": TTM,
    "vid": VID,
    "wkdf": WKDF,
    "wkdl": WKDL,
    "wttm": WTTM,
}
