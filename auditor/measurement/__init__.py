"""What a probe measured: frozen values, written by `auditor.probe`, read by rules and plan."""

from auditor.measurement.call import (
    AttentionMeasurement,
    CallMeasurement,
    JacobianMeasurement,
    TimeGrowth,
)
from auditor.measurement.data_facts import ArrayFacts, DataFacts, FeatureFacts, RowFacts
from auditor.measurement.estimate import Distribution, Estimate
from auditor.measurement.probe_result import (
    FEWEST_NORMALIZED,
    BlockProfile,
    ProbeResult,
    Sharpness,
    StageGrowth,
    few_normalized,
)
from auditor.measurement.trials import (
    LEARNS,
    RateTrial,
    RescaledTrial,
    falls,
    learned_share,
    learns,
    least_loss,
)

__all__ = [
    "FEWEST_NORMALIZED",
    "LEARNS",
    "ArrayFacts",
    "AttentionMeasurement",
    "BlockProfile",
    "CallMeasurement",
    "DataFacts",
    "Distribution",
    "Estimate",
    "FeatureFacts",
    "JacobianMeasurement",
    "ProbeResult",
    "RateTrial",
    "RescaledTrial",
    "RowFacts",
    "Sharpness",
    "StageGrowth",
    "TimeGrowth",
    "falls",
    "few_normalized",
    "learned_share",
    "learns",
    "least_loss",
]
