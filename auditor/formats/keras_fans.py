"""Fan-in, fan-out and unit axes of kernels in Keras' layouts."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Fans:
    """Connections into and out of a unit, receptive field included, and the axes of the units."""

    fan_in: int | None = None
    fan_out: int | None = None
    unit_axes: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FanRule:
    """How a kernel's axes count as fans.

    `kind` is one of: none; dense, (in, out); conv, (…, in/groups, out); conv-transpose,
    (…, out, in), where an output meets one kernel tap in `strides` (the product of the strides);
    depthwise, (…, in, multiplier); local, (position, taps·in, out); embedding, (tokens, width), of
    which one row is taken; axes, with `inward` and `outward` axes as given.
    """

    kind: str = "none"
    groups: int = 1
    strides: int = 1
    inward: tuple[int, ...] = ()
    outward: tuple[int, ...] = ()

    def fans(self, shape: tuple[int, ...]) -> Fans:
        """Fans of a kernel of this shape; empty where the shape does not suit the rule."""
        rank = len(shape)
        if self.kind == "axes":
            if any(axis >= rank for axis in (*self.inward, *self.outward)):
                return Fans()
            return Fans(
                fan_in=math.prod(shape[axis] for axis in self.inward),
                fan_out=math.prod(shape[axis] for axis in self.outward),
                unit_axes=self.outward,
            )
        if self.kind == "none" or rank < 2:
            return Fans()
        taps, inward, outward = math.prod(shape[:-2]), shape[-2], shape[-1]
        if self.kind == "dense":
            return Fans(fan_in=inward, fan_out=outward, unit_axes=(rank - 1,))
        if self.kind == "conv":
            return Fans(
                fan_in=taps * inward,
                fan_out=taps * outward // self.groups,
                unit_axes=(rank - 1,),
            )
        if self.kind == "conv-transpose":
            return Fans(
                fan_in=max(round(taps * outward / self.strides), 1),
                fan_out=taps * inward,
                unit_axes=(rank - 2,),
            )
        if self.kind == "depthwise":
            return Fans(fan_in=taps, fan_out=taps * outward, unit_axes=(rank - 2, rank - 1))
        if self.kind == "local" and rank == 3:
            return Fans(fan_in=inward, fan_out=outward, unit_axes=(0, 2))
        if self.kind == "embedding":
            return Fans(fan_in=1, fan_out=outward, unit_axes=(rank - 1,))
        return Fans()


def einsum_axes(equation: str) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The kernel's inward and outward axes in "inputs,kernel->outputs".

    Inward are the axes that are summed over, outward those that the inputs do not have. None when
    the equation is not of that form.
    """
    left, arrow, output = equation.replace(" ", "").partition("->")
    operands = left.split(",")
    if not arrow or len(operands) != 2:
        return None
    inputs, kernel = operands[0].replace("...", ""), operands[1]
    inward = tuple(axis for axis, label in enumerate(kernel) if label not in output)
    outward = tuple(axis for axis, label in enumerate(kernel) if label not in inputs)
    return (inward, outward) if inward and outward else None
