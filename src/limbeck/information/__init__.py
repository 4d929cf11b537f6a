"""How much information teacher and student hold about the targets, in bits.

What is estimated from samples is imported from its module (``limbeck.information.estimate``): it
needs scikit-learn and torch, tables need numpy alone.
"""

from limbeck.information.broja import broja_pid as broja_pid
from limbeck.information.certificate import Certificate as Certificate
from limbeck.information.gaussian import gaussian_pid as gaussian_pid
from limbeck.information.intersection import intersection_information as intersection_information
from limbeck.information.pid import PID as PID


__all__ = ["PID", "Certificate", "broja_pid", "gaussian_pid", "intersection_information"]
