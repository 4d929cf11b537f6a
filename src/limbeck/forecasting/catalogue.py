"""What a forecast can be made from: every figure's name, unit, meaning and cost group."""

from __future__ import annotations

from typing import Literal, NamedTuple


Group = Literal[
    "set-up",
    "scores",
    "bits",
    "untrained",
    "cells",
    "k-means",
    "renyi",
    "gradients",
    "smoothing",
    "pilot",
]


class Predictor(NamedTuple):
    """One figure that is known before the distillation.

    Attributes:
        group: What has to be done for it; figures of a group come together.
        unit: "bits", "points" (hundredths of accuracy), "fraction", "log2" or "".
        text: What it is, in a few words.
    """

    group: Group
    unit: str
    text: str


#: "Short control" is the student after the first tenth of its training without a teacher.
PREDICTORS: dict[str, Predictor] = {
    "classes": Predictor("set-up", "log2", "number of classes"),
    "labels_per_class": Predictor("set-up", "log2", "labelled training rows per class"),
    "unlabelled_share": Predictor("set-up", "fraction", "training rows without a label"),
    "steps": Predictor("set-up", "log2", "optimiser steps"),
    "teacher_accuracy": Predictor("scores", "points", "the teacher's accuracy"),
    "early_accuracy": Predictor("scores", "points", "the short control's accuracy"),
    "accuracy_gap": Predictor("scores", "points", "teacher's accuracy less the short control's"),
    "teacher_cross_entropy": Predictor("scores", "bits", "the teacher's cross-entropy"),
    "cross_entropy_gap": Predictor(
        "scores", "bits", "the short control's cross-entropy less the teacher's"
    ),
    "agreement": Predictor("scores", "fraction", "rows where both name the same class"),
    "corrects": Predictor("scores", "points", "rows where only the teacher is right"),
    "teacher_entropy": Predictor("scores", "bits", "mean entropy of the teacher's probabilities"),
    "distillable": Predictor("bits", "bits", "distillable bits, over the short control"),
    "distillable_above_null": Predictor(
        "bits", "bits", "distillable bits above what shuffled labels give"
    ),
    "distilled": Predictor("bits", "bits", "redundant bits, with the short control"),
    "unique_student": Predictor("bits", "bits", "bits that only the short control has"),
    "synergistic": Predictor("bits", "bits", "bits that only both together have"),
    "teacher_knows": Predictor("bits", "bits", "information of the teacher's features"),
    "student_knows": Predictor("bits", "bits", "information of the short control's features"),
    "probed_cross_entropy_gap": Predictor(
        "bits", "bits", "cross-entropy difference of recalibrated probes"
    ),
    "cka": Predictor("bits", "", "linear CKA of the two layers"),
    "distillable_untrained": Predictor("untrained", "bits", "distillable bits, untrained student"),
    "distillable_cells": Predictor("cells", "bits", "distillable bits by posterior cells"),
    "distillable_kmeans": Predictor("k-means", "bits", "distillable bits by PCA and k-means"),
    "renyi": Predictor("renyi", "bits", "matrix-based Renyi information between the layers"),
    "variance_reduction": Predictor(
        "gradients", "fraction", "gradient noise and bias that the advised weight takes away"
    ),
    "gradient_correlation": Predictor(
        "gradients", "", "correlation of the labels' and the teacher's stochastic gradients"
    ),
    "smoothing_accuracy": Predictor(
        "smoothing", "points", "gain of label smoothing in a run of a twentieth"
    ),
    "smoothing_cross_entropy": Predictor(
        "smoothing", "bits", "gain of label smoothing in a run of a twentieth"
    ),
    "pilot_accuracy": Predictor("pilot", "points", "gain of a pilot of a twentieth of the run"),
    "pilot_cross_entropy": Predictor("pilot", "bits", "gain of a pilot of a twentieth of the run"),
}
GROUPS: tuple[Group, ...] = tuple(dict.fromkeys(one.group for one in PREDICTORS.values()))
