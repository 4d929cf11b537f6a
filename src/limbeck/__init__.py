"""limbeck measures, performs, weighs and plans knowledge distillation.

Names are imported when they are first used, so that ``import limbeck`` is cheap and one loss can be
used in an environment that somebody else froze.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from limbeck import losses as losses
    from limbeck.data import Data as Data
    from limbeck.estimates import Estimate as Estimate
    from limbeck.forecasting.forecast import forecast as forecast
    from limbeck.forecasting.result import Forecast as Forecast
    from limbeck.information import (
        PID as PID,
        broja_pid as broja_pid,
        gaussian_pid as gaussian_pid,
        intersection_information as intersection_information,
    )
    from limbeck.information.estimate import (
        estimate_pid as estimate_pid,
        pid_from_posteriors as pid_from_posteriors,
    )
    from limbeck.information.pid_estimate import PIDEstimate as PIDEstimate
    from limbeck.limits.auditing.audit import audit as audit
    from limbeck.limits.auditing.result import Audit as Audit
    from limbeck.limits.distance.certificate import Certificate as Certificate
    from limbeck.limits.distance.comparison import StudentComparison as StudentComparison
    from limbeck.limits.planning.plan import plan as plan
    from limbeck.limits.planning.result import Plan as Plan
    from limbeck.losses import (
        AdaptiveControlVariate as AdaptiveControlVariate,
        LazyLogits as LazyLogits,
        activation_boundary_loss as activation_boundary_loss,
        attention_transfer_loss as attention_transfer_loss,
        censored_loss as censored_loss,
        class_attention_loss as class_attention_loss,
        control_variate_loss as control_variate_loss,
        correlation_congruence_loss as correlation_congruence_loss,
        correlation_loss as correlation_loss,
        crd_loss as crd_loss,
        cross_entropy as cross_entropy,
        ctkd_loss as ctkd_loss,
        dist_loss as dist_loss,
        dkd_loss as dkd_loss,
        eakd_loss as eakd_loss,
        factor_transfer_loss as factor_transfer_loss,
        fsp_loss as fsp_loss,
        full_kl_loss as full_kl_loss,
        gram_mahalanobis_loss as gram_mahalanobis_loss,
        hierarchical_context_loss as hierarchical_context_loss,
        hint_loss as hint_loss,
        itrd_loss as itrd_loss,
        jsd_loss as jsd_loss,
        k3_loss as k3_loss,
        kd_loss as kd_loss,
        luminet_loss as luminet_loss,
        match_loss as match_loss,
        mlkd_loss as mlkd_loss,
        mutual_information_loss as mutual_information_loss,
        n_to_one_loss as n_to_one_loss,
        naive_probability_loss as naive_probability_loss,
        nst_loss as nst_loss,
        ofd_loss as ofd_loss,
        pkt_loss as pkt_loss,
        rid_loss as rid_loss,
        rkd_loss as rkd_loss,
        rld_loss as rld_loss,
        sampled_counts_loss as sampled_counts_loss,
        sel_loss as sel_loss,
        similarity_loss as similarity_loss,
        skew_kl_loss as skew_kl_loss,
        token_kd_loss as token_kd_loss,
        token_sampled_loss as token_sampled_loss,
        token_top_k_loss as token_top_k_loss,
        top_k_loss as top_k_loss,
        ttm_loss as ttm_loss,
        vid_loss as vid_loss,
        wkd_feature_loss as wkd_feature_loss,
        wkd_logit_loss as wkd_logit_loss,
        wttm_loss as wttm_loss,
    )
    from limbeck.record import RunRecord as RunRecord
    from limbeck.records import (
        TeacherRecord as TeacherRecord,
        read_records as read_records,
        write_records as write_records,
    )
    from limbeck.store.reader import TeacherStore as TeacherStore
    from limbeck.training.caching import cache as cache
    from limbeck.training.certify import certify as certify
    from limbeck.training.comparing import compare_students as compare_students
    from limbeck.training.distil import Result as Result, distill as distill
    from limbeck.training.measure import measure as measure
    from limbeck.training.measurement import Measurement as Measurement
    from limbeck.training.saving import load as load
    from limbeck.types import Answers as Answers, Batch as Batch, Outputs as Outputs
    from limbeck.weighting.controlling.adaptive import AdaptiveWeight as AdaptiveWeight
    from limbeck.weighting.controlling.meter import WeightMeter as WeightMeter
    from limbeck.weighting.measuring.gradient_moments import GradientMoments as GradientMoments
    from limbeck.weighting.measuring.moments import gradient_moments as gradient_moments
    from limbeck.weighting.measuring.moments_of_teachers import (
        TeachersMoments as TeachersMoments,
        moments_of_teachers as moments_of_teachers,
    )
    from limbeck.weighting.reporting.advice import (
        WeightAdvice as WeightAdvice,
        recommend_weight as recommend_weight,
    )
    from limbeck.weighting.reporting.variance_report import (
        VarianceReport as VarianceReport,
        variance_report as variance_report,
    )

_HOME = {
    "losses": "limbeck.losses",
    "Data": "limbeck.data",
    "Estimate": "limbeck.estimates",
    "forecast": "limbeck.forecasting.forecast",
    "Forecast": "limbeck.forecasting.result",
    "PID": "limbeck.information",
    "PIDEstimate": "limbeck.information.pid_estimate",
    "broja_pid": "limbeck.information",
    "estimate_pid": "limbeck.information.estimate",
    "gaussian_pid": "limbeck.information",
    "intersection_information": "limbeck.information",
    "pid_from_posteriors": "limbeck.information.estimate",
    "AdaptiveControlVariate": "limbeck.losses",
    "LazyLogits": "limbeck.losses",
    "activation_boundary_loss": "limbeck.losses",
    "attention_transfer_loss": "limbeck.losses",
    "censored_loss": "limbeck.losses",
    "class_attention_loss": "limbeck.losses",
    "control_variate_loss": "limbeck.losses",
    "correlation_congruence_loss": "limbeck.losses",
    "correlation_loss": "limbeck.losses",
    "crd_loss": "limbeck.losses",
    "audit": "limbeck.limits.auditing.audit",
    "Audit": "limbeck.limits.auditing.result",
    "cross_entropy": "limbeck.losses",
    "ctkd_loss": "limbeck.losses",
    "dist_loss": "limbeck.losses",
    "dkd_loss": "limbeck.losses",
    "eakd_loss": "limbeck.losses",
    "factor_transfer_loss": "limbeck.losses",
    "fsp_loss": "limbeck.losses",
    "full_kl_loss": "limbeck.losses",
    "gram_mahalanobis_loss": "limbeck.losses",
    "hierarchical_context_loss": "limbeck.losses",
    "hint_loss": "limbeck.losses",
    "itrd_loss": "limbeck.losses",
    "jsd_loss": "limbeck.losses",
    "k3_loss": "limbeck.losses",
    "kd_loss": "limbeck.losses",
    "luminet_loss": "limbeck.losses",
    "match_loss": "limbeck.losses",
    "mlkd_loss": "limbeck.losses",
    "mutual_information_loss": "limbeck.losses",
    "n_to_one_loss": "limbeck.losses",
    "naive_probability_loss": "limbeck.losses",
    "nst_loss": "limbeck.losses",
    "ofd_loss": "limbeck.losses",
    "pkt_loss": "limbeck.losses",
    "rid_loss": "limbeck.losses",
    "rkd_loss": "limbeck.losses",
    "rld_loss": "limbeck.losses",
    "sampled_counts_loss": "limbeck.losses",
    "sel_loss": "limbeck.losses",
    "similarity_loss": "limbeck.losses",
    "skew_kl_loss": "limbeck.losses",
    "token_kd_loss": "limbeck.losses",
    "token_sampled_loss": "limbeck.losses",
    "token_top_k_loss": "limbeck.losses",
    "top_k_loss": "limbeck.losses",
    "ttm_loss": "limbeck.losses",
    "vid_loss": "limbeck.losses",
    "wkd_feature_loss": "limbeck.losses",
    "wkd_logit_loss": "limbeck.losses",
    "wttm_loss": "limbeck.losses",
    "RunRecord": "limbeck.record",
    "TeacherRecord": "limbeck.records",
    "read_records": "limbeck.records",
    "write_records": "limbeck.records",
    "Certificate": "limbeck.limits.distance.certificate",
    "StudentComparison": "limbeck.limits.distance.comparison",
    "Plan": "limbeck.limits.planning.result",
    "plan": "limbeck.limits.planning.plan",
    "TeacherStore": "limbeck.store.reader",
    "cache": "limbeck.training.caching",
    "certify": "limbeck.training.certify",
    "compare_students": "limbeck.training.comparing",
    "Result": "limbeck.training.distil",
    "distill": "limbeck.training.distil",
    "Measurement": "limbeck.training.measurement",
    "load": "limbeck.training.saving",
    "measure": "limbeck.training.measure",
    "Answers": "limbeck.types",
    "Batch": "limbeck.types",
    "Outputs": "limbeck.types",
    "AdaptiveWeight": "limbeck.weighting.controlling.adaptive",
    "WeightMeter": "limbeck.weighting.controlling.meter",
    "GradientMoments": "limbeck.weighting.measuring.gradient_moments",
    "WeightAdvice": "limbeck.weighting.reporting.advice",
    "gradient_moments": "limbeck.weighting.measuring.moments",
    "TeachersMoments": "limbeck.weighting.measuring.moments_of_teachers",
    "moments_of_teachers": "limbeck.weighting.measuring.moments_of_teachers",
    "recommend_weight": "limbeck.weighting.reporting.advice",
    "VarianceReport": "limbeck.weighting.reporting.variance_report",
    "variance_report": "limbeck.weighting.reporting.variance_report",
}

try:
    __version__ = version("limbeck")
except PackageNotFoundError:  # a source tree on the path, not installed
    __version__ = "0+source"

__all__ = ["__version__", *_HOME]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'limbeck' has no attribute {name!r}")
    module = import_module(_HOME[name])
    return module if _HOME[name] == f"limbeck.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return __all__
