"""Gradient accumulation and numerical precision: kept where declared, advised where measured."""

from __future__ import annotations

from collections.abc import Mapping

from auditor.plan.advice import Advice
from auditor.plan.case import Case, is_positive
from auditor.plan.settings import Setting


def accumulation(case: Case) -> Advice:
    """The declared accumulation; none is advised, because no noise scale was measured."""
    steps = case.declared.number("gradient_accumulation_steps") if case.declared else None
    if steps is not None and is_positive(steps) and steps >= 2:
        return Advice(
            settings=(
                Setting(
                    name="gradient_accumulation_steps",
                    value=int(steps),
                    current=int(steps),
                    reason="the declared accumulation is kept",
                    formula="as declared",
                ),
            )
        )
    return Advice(notes=("accumulation: not advised: the gradient's noise scale was not measured",))


def precision(case: Case) -> Advice:
    """bfloat16 in place of float16 that no loss scaling protects."""
    halves = [call for call in case.graph.layers() if call.dtype == "float16" and call.parameters]
    raw = case.graph.compile.raw.get("optimizer") if case.graph.compile else None
    wrapped = isinstance(raw, Mapping) and raw.get("class_name") == "LossScaleOptimizer"
    scaled = wrapped or (
        case.declared is not None and is_positive(case.declared.number("loss_scale_factor"))
    )
    mixed = any("mixed_float16" in str(call.config.get("dtype")) for call in case.graph.calls)
    if (not halves and not mixed) or scaled or case.graph.format == "onnx":
        return Advice()
    return Advice(
        settings=(
            Setting(
                name="dtype_policy",
                value="mixed_bfloat16",
                because=case.because("GEB610", "GEB801"),
                reason="gradients below 6e-8 vanish in float16, and no loss scaling is declared; "
                "bfloat16 has float32's range",
                formula="smallest float16 is 2⁻²⁴ (Micikevicius 2018, §3.2)",
                current="mixed_float16" if mixed else "float16",
            ),
        ),
        notes=(
            "precision: compute in mixed_bfloat16 (keras.config.set_dtype_policy before the model "
            "is built), or keep mixed_float16 and let compile wrap the optimizer in "
            "LossScaleOptimizer",
        ),
    )
