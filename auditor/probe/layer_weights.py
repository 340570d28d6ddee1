"""The weights of the layers behind calls: their norms, gradients and first steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from auditor.probe.state import copied
from auditor.probe.statistics import CallSlots
from auditor.probe.tally import LayerWeights
from auditor.probe.trial import Trial
from auditor.probe.weight_penalties import WeightPenalties

Array = np.ndarray[Any, Any]


class WeightsByLayer:
    """Weights of the layers behind calls: norms, gradients and first steps."""

    def __init__(
        self,
        variables: Sequence[Any],
        passes: Sequence[Mapping[str, Array]],
        scale: float,
        trial: Trial | None,
        penalties: WeightPenalties,
    ) -> None:
        self._index = {id(variable): index for index, variable in enumerate(variables)}
        self._norms = np.array([_norm(copied(v)) for v in variables])
        gradients = np.array([values["variable_gradient_norms"] for values in passes])
        self._gradients = gradients / scale
        steps = () if trial is None else trial.steps
        self._steps = np.array([_norm(step) for step in steps])
        self._penalties = penalties

    def of(self, slots: CallSlots) -> LayerWeights | None:
        """What is known of the trainable weights of the call's layer; None if it has none."""
        owned = getattr(slots.operation, "trainable_variables", None) or ()
        rows = [self._index[id(variable)] for variable in owned if id(variable) in self._index]
        if not rows:
            return None
        norm = _norm(self._norms[rows])
        gradients = np.sqrt(np.sum(np.square(self._gradients[:, rows]), axis=1))
        moved = _norm(self._steps[rows]) if self._steps.size else None
        return LayerWeights(
            norm=norm,
            gradient_norm=float(np.median(gradients)),
            update_ratio=None if moved is None or norm == 0.0 else moved / norm,
            penalties=self._penalties.of(owned),
        )


def _norm(values: Array) -> float:
    return math.sqrt(float(np.sum(np.square(values, dtype=np.float64))))
