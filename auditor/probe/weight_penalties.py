"""The gradients of the L1 and L2 penalties on weights, and of the loss without them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from auditor.probe.state import copied
from auditor.probe.trial import Gradients

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class PenaltyShare:
    """‖∂R/∂w‖ of the penalties R on a layer's weights, and ‖∂(L − R)/∂w‖ of what is left."""

    penalty: float
    rest: float


class WeightPenalties:
    """What of each weight's gradient is its regularizer's, over the batches of a probe.

    The gradient of l1·Σ|w| + l2·Σw² is l1·sign w + 2·l2·w, with 0 at 0 as every framework has it.
    It is taken from the whole gradient, entry by entry: no angle between the two is assumed. In
    single precision the rest is known to 1e-7 of the penalty's gradient.
    """

    def __init__(self, variables: Sequence[Any]) -> None:
        self._places = {id(variable): place for place, variable in enumerate(variables)}
        self._variables = tuple(variables)
        self._penalized = [
            place for place, v in enumerate(variables) if getattr(v, "regularizer", None)
        ]
        self._penalties = np.zeros(len(self._variables))
        self._rests: list[Array] = []

    def add(self, found: Gradients, norms: Array) -> None:
        """One batch: the objective's gradient for each variable, and its norms `(variables,)`.

        Both are multiplied by the scale of `found`.
        """
        if not self._penalized:
            return
        rests = np.asarray(norms, np.float64) / found.scale
        with np.errstate(all="ignore"):  # weights and gradients may be anything
            for place in self._penalized:
                own, whole = penalty_gradient(self._variables[place]), found.gradients[place]
                if own is None or whole is None:
                    self._penalties[place] = rests[place] = math.nan
                    continue
                self._penalties[place] = np.linalg.norm(own)
                rests[place] = np.linalg.norm(_numbers(whole) / found.scale - own)
        self._rests.append(rests)

    def of(self, owned: Sequence[Any]) -> PenaltyShare | None:
        """The share over these variables; the rest is the median over batches.

        None where none of them has a penalty, and where one has a penalty of another kind.
        """
        places = [self._places[id(v)] for v in owned if id(v) in self._places]
        if not self._rests or not set(places) & set(self._penalized):
            return None
        penalty = float(np.linalg.norm(self._penalties[places]))
        if math.isnan(penalty):
            return None
        rests = np.linalg.norm(np.array(self._rests)[:, places], axis=1)
        return PenaltyShare(penalty=penalty, rest=float(np.median(rests)))


def penalty_gradient(variable: Any) -> Array | None:
    """l1·sign w + 2·l2·w for a variable with Keras' own L1, L2 or both, in the shape of w.

    None for regularizers of other kinds.
    """
    regularizer = variable.regularizer
    kinds = (keras.regularizers.L1, keras.regularizers.L2, keras.regularizers.L1L2)
    if type(regularizer) not in kinds:  # a subclass may do anything
        return None
    w = copied(variable).astype(np.float64)
    l1, l2 = (float(getattr(regularizer, name, 0.0)) for name in ("l1", "l2"))
    return np.asarray(l1 * np.sign(w) + 2.0 * l2 * w)


def _numbers(tensor: Any) -> Array:
    return np.asarray(keras.ops.convert_to_numpy(tensor)).astype(np.float64)
