"""What a probe measured: frozen values, written by `auditor.probe`, read by rules and plan."""

from auditor.measurement.call import (
    AttentionMeasurement,
    CallMeasurement,
    JacobianMeasurement,
    TimeGrowth,
)
from auditor.measurement.estimate import Distribution, Estimate
from auditor.measurement.probe_result import (
    BlockProfile,
    ProbeResult,
    RateTrial,
    Sharpness,
    StageGrowth,
    falls,
)

__all__ = [
    "AttentionMeasurement",
    "BlockProfile",
    "CallMeasurement",
    "Distribution",
    "Estimate",
    "JacobianMeasurement",
    "ProbeResult",
    "RateTrial",
    "Sharpness",
    "StageGrowth",
    "TimeGrowth",
    "falls",
]
