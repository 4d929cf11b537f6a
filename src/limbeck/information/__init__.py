"""How much information teacher and student hold about the targets, in bits."""

from limbeck.information.broja import broja_pid as broja_pid
from limbeck.information.certificate import Certificate as Certificate
from limbeck.information.pid import PID as PID


__all__ = ["PID", "Certificate", "broja_pid"]
