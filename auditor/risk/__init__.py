"""The risk that training as saved fails: a small logistic model, calibrated on outcomes."""

from auditor.risk.assess import assess, rate_too_high
from auditor.risk.risk import Risk

__all__ = ["Risk", "assess", "rate_too_high"]
