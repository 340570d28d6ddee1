"""Results made by hand, one for each face a report has."""

from __future__ import annotations

import math
from dataclasses import replace

import measures_by_hand as by_hand
import numpy as np

from auditor.finding import Bound, Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph.compile_settings import CompileSettings, LossSettings, OptimizerSettings
from auditor.graph.forecast import CallForecast, Forecast
from auditor.graph.layer_graph import Edge, InputSpec, LayerCall, LayerGraph, Shape
from auditor.graph.operators import Op
from auditor.graph.paths import kernel_depth
from auditor.graph.weight import Weight
from auditor.measurement import (
    CallMeasurement,
    Distribution,
    ProbeResult,
    RateTrial,
    RescaledTrial,
    StageGrowth,
)
from auditor.plan.settings import Plan, Setting
from auditor.result import AuditResult, ModelInfo, Verdict

VERSION = "0.1.0"
KINDS = {
    Op.INPUT: "InputLayer",
    Op.DENSE: "Dense",
    Op.CONV: "Conv2D",
    Op.CONV_TRANSPOSE: "Conv2DTranspose",
    Op.BATCH_NORM: "BatchNormalization",
    Op.ACTIVATION: "Activation",
    Op.ADD: "Add",
    Op.CONCATENATE: "Concatenate",
    Op.DROPOUT: "Dropout",
    Op.MAX_POOL: "MaxPooling2D",
    Op.GLOBAL_AVERAGE_POOL: "GlobalAveragePooling2D",
    Op.FLATTEN: "Flatten",
    Op.PAD: "ZeroPadding2D",
    Op.LAYER_NORM: "LayerNormalization",
    Op.ATTENTION: "MultiHeadAttention",
    Op.OPAQUE: "Lambda",
}


class Builder:
    """A layer graph, call after call."""

    def __init__(self) -> None:
        self.calls: list[LayerCall] = []
        self.edges: list[Edge] = []

    def add(
        self,
        call_id: str,
        op: Op,
        *sources: str,
        shape: Shape = (None, 8),
        activation: str | None = None,
        parameters: int = 0,
        kind: str = "",
        note: str = "",
    ) -> str:
        shapes = {call.id: call.out_shape for call in self.calls}
        weights = (_kernel(call_id, parameters, shape),) if parameters else ()
        self.calls.append(
            LayerCall(
                id=call_id,
                name=call_id.split("/")[-1].split("#")[0],
                layer="/".join(part.split("#")[0] for part in call_id.split("/")),
                kind=kind or KINDS.get(op, op.value),
                op=op,
                activation=activation,
                in_shapes=tuple(shapes[source] for source in sources),
                out_shapes=(shape,),
                weights=weights,
                note=note,
            )
        )
        self.edges.extend(
            Edge(source=source, target=call_id, target_slot=slot)
            for slot, source in enumerate(sources)
        )
        return call_id

    def graph(
        self,
        *,
        name: str = "model",
        kind: str = "keras",
        writer: str = "keras 3.15.1",
        compiled: bool = True,
        notes: tuple[str, ...] = (),
    ) -> LayerGraph:
        return LayerGraph(
            name=name,
            format=kind,
            writer=writer,
            calls=tuple(self.calls),
            edges=tuple(self.edges),
            inputs=tuple(
                InputSpec(name=call.name, call=call.id, shape=call.out_shape, dtype="float32")
                for call in self.calls
                if call.op is Op.INPUT
            ),
            outputs=((self.calls[-1].id, 0),) if self.calls else (),
            compile=CompileSettings(
                optimizer=OptimizerSettings(name="adam", learning_rate=0.001),
                losses=(LossSettings(name="categorical_crossentropy"),),
            )
            if compiled
            else None,
            notes=notes,
        )


def _kernel(call_id: str, parameters: int, shape: Shape) -> Weight:
    """All values of a layer as one kernel: the bias is one more input to every unit."""
    units = shape[-1] if shape and isinstance(shape[-1], int) else 1
    fans = (parameters // units, units) if parameters % units == 0 else (parameters, 1)
    return Weight(
        name=f"{call_id}/kernel",
        role="kernel",
        shape=fans,
        dtype="float32",
        fan_in=fans[0],
        fan_out=fans[1],
        unit_axes=(1,),
    )


def result(graph: LayerGraph, *, path: str, verdict: Verdict, **rest: object) -> AuditResult:
    return AuditResult(
        version=VERSION,
        model=ModelInfo(
            path=path,
            format=graph.format,
            sha256="3f1c" * 16,
            writer=graph.writer,
            parameters=graph.parameters,
            trainable_parameters=graph.trainable_parameters,
        ),
        verdict=verdict,
        graph=graph,
        **rest,  # type: ignore[arg-type]
    )


def probe(graph: LayerGraph, calls: dict[str, CallMeasurement], **rest: object) -> ProbeResult:
    settings: dict[str, object] = {
        "backend": "tensorflow 2.21.0",
        "device": "CPU",
        "dtype": "float32",
        "seed": 0,
        "batch_size": 16,
        "batches": 3,
        "data": "synthetic",
        "targets": "one-hot, drawn uniformly over 10 classes",
        "loss": "categorical_crossentropy",
        "seconds": 4.183,
        "assumptions": (
            "No data was given: inputs are drawn from a standard normal distribution.",
            "Targets are classes drawn uniformly at random.",
        ),
        "depth": max(kernel_depth(graph).values(), default=0),
        "calls": calls,
    }
    return ProbeResult(**(settings | rest))  # type: ignore[arg-type]


def founding_case() -> AuditResult:
    """The model the project began with: nothing trainable, dropout at the end. No probe."""
    b = Builder()
    x = b.add("input_layer", Op.INPUT, shape=(None, 28, 28, 1))
    x = b.add("flatten", Op.FLATTEN, x, shape=(None, 784))
    x = b.add("activation", Op.ACTIVATION, x, shape=(None, 784), activation="relu")
    x = b.add("re_lu", Op.ACTIVATION, x, shape=(None, 784), activation="relu", kind="ReLU")
    b.add("dropout", Op.DROPOUT, x, shape=(None, 784))
    graph = b.graph(name="founding_case")
    findings = (
        Finding(
            code="GEB101",
            name="missing-output-layer",
            severity=Severity.ERROR,
            confidence=Confidence.HIGH,
            message="The model's output comes out of Dropout `dropout`: nothing trainable forms "
            "the prediction, and its 784 units cannot match the 10 classes of the loss.",
            layers=("dropout",),
            evidence=(
                Evidence(name="output_width", value=784, unit="units", method="read from the file"),
                Evidence(name="expected_width", value=10, unit="units", method="the loss"),
            ),
            remedy="End with a layer that forms the prediction.\n\n```python\nx = layers.Dropout("
            '0.5)(x)\noutputs = layers.Dense(10, activation="softmax")(x)\n'
            "model = keras.Model(inputs, outputs)\n```",
            references=("Goodfellow, Bengio, Courville 2016, Deep Learning, section 6.2.2",),
        ),
        Finding(
            code="GEB102",
            name="no-trainable-parameters",
            severity=Severity.ERROR,
            confidence=Confidence.HIGH,
            message="The model has no trainable parameter: training changes nothing.",
            evidence=(Evidence(name="trainable_parameters", value=0, method="counted"),),
            remedy="Add layers with weights, such as Dense or Conv2D.",
        ),
        Finding(
            code="GEB402",
            name="misplaced-or-excessive-dropout",
            severity=Severity.WARNING,
            confidence=Confidence.HIGH,
            message="Dropout `dropout` acts on the model's output.",
            layers=("dropout",),
            evidence=(Evidence(name="rate", value=0.5, method="read from the file"),),
            remedy="Move it before the last layer, or remove it.",
            references=("Srivastava et al. 2014, JMLR 15",),
        ),
        Finding(
            code="GEB106",
            name="redundant-activation",
            severity=Severity.INFO,
            confidence=Confidence.HIGH,
            message="ReLU of something that is a ReLU's output already changes nothing.",
            layers=("re_lu",),
            remedy="Remove one of the two.",
        ),
    )
    reason = (
        "probe skipped: no backend is installed; get one with pip install 'geb-audit[tensorflow]'"
    )
    return result(
        graph,
        path="examples/founding_case.keras",
        verdict=Verdict.BROKEN,
        findings=findings,
        skipped=(
            Skipped(code="GEB205", reason=reason),
            Skipped(code="GEB206", reason=reason),
            Skipped(code="GEB305", reason="the model has no weights"),
            Skipped(code="GEB501", reason=reason),
            Skipped(code="GEB502", reason=reason),
            Skipped(code="GEB503", reason=reason),
        ),
        probe_skipped=reason,
        plan=Plan(notes=("No setting helps a model without trainable parameters.",)),
    )


def exploding_stack(layers: int = 30, rate: float = 3.62) -> AuditResult:
    """A Dense+ReLU stack whose gradient grows by `rate` a layer, measured."""
    noise = np.random.default_rng(1)
    b = Builder()
    x = b.add("input_layer", Op.INPUT, shape=(None, 256))
    for index in range(layers):
        name = "dense" if index == 0 else f"dense_{index}"
        x = b.add(name, Op.DENSE, x, shape=(None, 256), activation="relu", parameters=65_792)
    b.add("head", Op.DENSE, x, shape=(None, 10), activation="softmax", parameters=2_570)
    graph = b.graph(name="exploding_mlp")
    depth = kernel_depth(graph)
    calls = {
        call.id: CallMeasurement(
            mean=0.4 * rate ** depth[call.id],
            rms=rate ** depth[call.id] * math.exp(noise.normal(0, 0.05)),
            max_abs=6 * rate ** depth[call.id],
            zero_share=0.5 if call.op is Op.DENSE else 0.0,
            dead_share=0.02 if call.op is Op.DENSE else None,
            saturated_share=0.97 if call.id == "head" else None,
            gradient_norm=0.9
            * rate ** (layers + 1 - depth[call.id])
            * math.exp(noise.normal(0, 0.06)),
            gradient_rms=0.06 * rate ** (layers + 1 - depth[call.id]),
            weight_norm=51.2 if call.op is Op.DENSE else None,
            weight_gradient_norm=rate**layers if call.op is Op.DENSE else None,
            update_ratio=4.9e-3 if call.op is Op.DENSE else None,
            gsc=1.1 ** (layers + 1 - depth[call.id]),
            jacobian=by_hand.jacobian(rate * 0.98, peak=rate * 2.3)
            if call.op is Op.DENSE
            else None,
        )
        for call in graph.calls
    }
    exploding = Finding(
        code="GEB501",
        name="exploding-gradient",
        severity=Severity.ERROR,
        confidence=Confidence.HIGH,
        message=f"The gradient grows by a factor of {rate} a layer toward the input, over "
        f"{layers} layers by 10¹⁶ altogether.",
        layers=tuple(call.id for call in graph.calls if call.op is Op.DENSE),
        evidence=(
            Evidence(
                name="growth_rate",
                value=rate,
                unit="a layer",
                stderr=0.0123,
                method="regression of log ‖∂L/∂h‖ on depth",
                products=6,
            ),
            Evidence(name="gradient_ratio", value=5.62e16, method="first over last eighth"),
            Evidence(name="gsc", value=2.2e3, bound=Bound.LOWER, method="Philipp et al. 2018"),
        ),
        remedy="Initialize for the activation: `he_normal` keeps the gradient's scale under "
        'ReLU.\n\n```python\nlayers.Dense(256, activation="relu", '
        'kernel_initializer="he_normal")\n```',
        references=("He et al. 2015, arXiv:1502.01852", "Philipp, Song, Carbonell 2018"),
    )
    scaled = Finding(
        code="GEB302",
        name="mis-scaled-initialization",
        severity=Severity.ERROR,
        confidence=Confidence.HIGH,
        message="RandomNormal(stddev=0.2) with a fan-in of 256 multiplies the variance by 5.12 "
        "a layer under ReLU; 1 keeps it.",
        layers=exploding.layers[:-1],
        evidence=(
            Evidence(name="variance_gain", value=5.12, bound=Bound.NONE, method="σ²·fan_in/2"),
            Evidence(name="scale", value=float("nan"), stderr=0.1, bound=Bound.UPPER),
        ),
        remedy="Use `he_normal`.",
    )
    return result(
        graph,
        path="examples/exploding_mlp.keras",
        verdict=Verdict.EXPLODING,
        findings=(scaled, exploding),
        skipped=(Skipped(code="GEB206", reason="no bounded activation in the model"),),
        forecast=Forecast(
            growth_rate=2.263,
            calls={c.id: CallForecast(gain=2.263, variance=5.12) for c in graph.calls},
            covered=1.0,
        ),
        probe=probe(
            graph,
            calls,
            loss_at_start=14.2,
            loss_expected=math.log(10),
            growth_rate=rate,
            growth_interval=(3.58, 3.66),
            growth_points=30,
            gradient_ratio=rate**26,
            forward_ratio=rate**26,
            gsc=2.2e3,
            gradient_norm=Distribution(
                mean=3.1e17, p10=1.1e17, p50=2.9e17, p90=5.2e17, max=5.2e17, count=3
            ),
            trial_losses=(14.2, 1.2e9, math.inf, math.nan),
            rate_trials=(RateTrial(rate=1e-4, losses=(14.2, 13.9)),),
        ),
        plan=Plan(
            learning_rate=Setting(
                name="learning_rate",
                value=3.1622776601683795e-4,
                low=1e-4,
                high=1e-3,
                current=0.001,
                because=(exploding.fingerprint,),
                reason="The first step at 0.001 raised the loss from 14.2 to 1.2×10⁹.",
                formula="2/λ along the first step, divided by 10 (Cohen et al. 2021)",
            ),
            clip=Setting(
                name="global_clipnorm",
                value=1.0,
                low=0.5,
                high=10.0,
                because=(exploding.fingerprint,),
                reason="Gradient norms reach 5.2×10¹⁷ in 3 batches.",
                formula="10th percentile of the norm after re-initialization (AutoClip 2020)",
            ),
            regularization=(
                Setting(
                    name="weight_decay",
                    value=0.004,
                    low=0.001,
                    high=0.016,
                    reason="Decoupled decay for AdamW, from an averaging time of 10 epochs.",
                    formula="1/(η·τ) (Wang & Aitchison 2024)",
                ),
            ),
            schedule=Setting(
                name="schedule",
                value="CosineDecay",
                reason="A warm-up of 200 steps, then cosine.",
                formula="2/(1−β₂) steps (Ma & Yarats 2021)",
                config={"warmup_steps": 200, "decay_steps": 2000},
            ),
            initialization=(
                Setting(
                    name="kernel_initializer",
                    value="he_normal",
                    current="random_normal(stddev=0.2)",
                    layers=scaled.layers,
                    because=(scaled.fingerprint,),
                    reason="Keeps the variance under ReLU.",
                    formula="σ² = 2/fan_in (He et al. 2015)",
                ),
            ),
            snippet="import keras\n\noptimizer = keras.optimizers.AdamW(\n"
            "    learning_rate=3.16e-4,\n"
            "    weight_decay=0.004,\n    global_clipnorm=1.0,\n)\n"
            'model.compile(optimizer=optimizer, loss="categorical_crossentropy")\n',
        ),
    )


def resnet(blocks: tuple[int, ...] = (3, 4, 6, 3)) -> AuditResult:
    """A bottleneck ResNet of about 180 calls, healthy, measured."""
    noise = np.random.default_rng(2)
    b = Builder()
    size = 96
    x = b.add("input_layer", Op.INPUT, shape=(None, size, size, 3))
    x = b.add("conv1_pad", Op.PAD, x, shape=(None, size + 6, size + 6, 3))
    x = b.add("conv1_conv", Op.CONV, x, shape=(None, 48, 48, 64), parameters=9_472)
    x = b.add("conv1_bn", Op.BATCH_NORM, x, shape=(None, 48, 48, 64), parameters=256)
    x = b.add("conv1_relu", Op.ACTIVATION, x, shape=(None, 48, 48, 64), activation="relu")
    x = b.add("pool1_pad", Op.PAD, x, shape=(None, 50, 50, 64))
    x = b.add("pool1_pool", Op.MAX_POOL, x, shape=(None, 24, 24, 64))
    for stage, repeats in enumerate(blocks):
        side, width = 24 // 2**stage, 64 * 2**stage
        for block in range(repeats):
            prefix = f"conv{stage + 2}_block{block + 1}"
            shape = (None, side, side, width)
            shortcut = y = x
            if block == 0:
                wide = (None, side, side, 4 * width)
                shortcut = b.add(f"{prefix}_0_conv", Op.CONV, x, shape=wide, parameters=16_640)
                shortcut = b.add(f"{prefix}_0_bn", Op.BATCH_NORM, shortcut, shape=wide)
            for index in (1, 2, 3):
                y = b.add(f"{prefix}_{index}_conv", Op.CONV, y, shape=shape, parameters=36_928)
                y = b.add(f"{prefix}_{index}_bn", Op.BATCH_NORM, y, shape=shape, parameters=256)
                if index < 3:
                    y = b.add(
                        f"{prefix}_{index}_relu", Op.ACTIVATION, y, shape=shape, activation="relu"
                    )
            x = b.add(f"{prefix}_add", Op.ADD, shortcut, y, shape=shape)
            x = b.add(f"{prefix}_out", Op.ACTIVATION, x, shape=shape, activation="relu")
    x = b.add("avg_pool", Op.GLOBAL_AVERAGE_POOL, x, shape=(None, 2048))
    b.add("predictions", Op.DENSE, x, shape=(None, 10), activation="softmax", parameters=20_490)
    graph = b.graph(name="resnet50")
    depth = kernel_depth(graph)
    last = max(depth.values())
    calls = {
        call.id: CallMeasurement(
            mean=0.1,
            rms=math.exp(0.02 * depth[call.id] + noise.normal(0, 0.25)),
            zero_share=0.5 if call.op is Op.ACTIVATION else 0.0,
            dead_share=0.031 if call.op is Op.ACTIVATION else None,
            gradient_norm=0.02 * math.exp(0.06 * (last - depth[call.id]) + noise.normal(0, 0.3)),
            gradient_rms=1e-4,
            weight_norm=12.0 if call.parameters else None,
            weight_gradient_norm=0.3 if call.parameters else None,
            update_ratio=3e-3 * math.exp(noise.normal(0, 0.4)) if call.parameters else None,
            gsc=1.02 ** (last - depth[call.id]),
            **_jacobian_of(call, noise),
        )
        for call in graph.calls
    }
    sums = [call.id for call in graph.calls if call.op is Op.ADD]
    return result(
        graph,
        path="resnet50.keras",
        verdict=Verdict.STABLE,
        findings=(
            Finding(
                code="GEB603",
                name="clipping-advised",
                severity=Severity.INFO,
                confidence=Confidence.LOW,
                message="Gradient norms over 3 batches spread by a factor of 6.",
                remedy="Clip by global norm at 1.5.",
            ),
        ),
        probe=probe(
            graph,
            calls,
            loss_at_start=2.41,
            loss_expected=math.log(10),
            growth_rate=1.06,
            growth_interval=(1.05, 1.08),
            growth_points=161,
            gradient_ratio=28.0,
            forward_ratio=2.4,
            gsc=270.0,
            gradient_norm=Distribution(mean=3.2, p10=2.1, p50=3.0, p90=4.6, max=5.0, count=3),
            trial_losses=(2.41, 2.38, 2.31),
            trial_further=(2.3, 2.29),
            trial_long=(2.28, 2.27, 2.27),
            rescaled_trial=RescaledTrial(decades=0.7, kernels=161, losses=(2.6, 2.1, 1.5)),
            stages=tuple(
                StageGrowth(
                    shape=(24 >> stage, 24 >> stage, 64 << stage),
                    calls=tuple(
                        call_id for call_id in sums if call_id.startswith(f"conv{stage + 2}_")
                    ),
                    rate=1.35,
                    interval=(1.28, 1.43) if stage else None,
                    residual=True,
                )
                for stage in range(len(blocks))
            ),
            residual_profile=tuple(
                by_hand.block(
                    call_id,
                    call_id.replace("add", "3_bn") if index else None,
                    1.0 + index % 4,
                    1.0 if index else None,
                )
                for index, call_id in enumerate(sums)
            ),
            sharpness=by_hand.sharpness(38.2, 310.0),
            noise_scale=by_hand.noise_scale(120.0, 31.0, math.inf),
        ),
        plan=Plan(
            learning_rate=Setting(
                name="learning_rate", value=0.001, low=3e-4, high=3e-3, current=0.001
            )
        ),
    )


def _jacobian_of(call: LayerCall, noise: np.random.Generator) -> dict[str, object]:
    if call.op is Op.INPUT:
        return {"jacobian_skipped": "its input is the data"}
    kernel = bool(call.parameters)
    gain = math.exp(noise.normal(0.0, 0.1)) if kernel else 1.0
    return {"jacobian": by_hand.jacobian(gain, 9_216, 9_216, peak=3.1 * gain if kernel else None)}


def sequence_model() -> AuditResult:
    """Recurrent layers and attention; a probe that came to an early end."""
    b = Builder()
    x = b.add("tokens", Op.INPUT, shape=(None, 400))
    x = b.add("embedding", Op.EMBEDDING, x, shape=(None, 400, 64), parameters=640_000)
    x = b.add("lstm", Op.LSTM, x, shape=(None, 400, 64), activation="tanh", parameters=33_024)
    x = b.add("gru", Op.GRU, x, shape=(None, 400, 64), activation="tanh", parameters=24_960)
    x = b.add("mixing", Op.ATTENTION, x, shape=(None, 400, 64), parameters=16_640)
    x = b.add("pool", Op.GLOBAL_AVERAGE_POOL, x, shape=(None, 64))
    b.add("head", Op.DENSE, x, shape=(None, 1), activation="sigmoid", parameters=65)
    graph = b.graph(name="reviews")
    calls = {
        call.id: CallMeasurement(rms=0.3, gradient_norm=0.02 * (index + 1), gsc=3.0)
        for index, call in enumerate(graph.calls)
    }
    measured: dict[str, dict[str, object]] = {
        "tokens": {"jacobian_skipped": "its inputs are whole numbers"},
        "embedding": {"jacobian_skipped": "its inputs are whole numbers"},
        "lstm": {
            "jacobian": by_hand.jacobian(0.21, 25_600, 25_600, peak=1.23),
            "time": by_hand.time_growth(0.93, 0.008, 400, 128),
            "saturated_share": 0.02,
            "saturation": by_hand.distribution(0.31, 40_960),
        },
        "gru": {"jacobian_skipped": "time limit", "time": by_hand.time_growth(1.01, 0.02, 400)},
        "mixing": {
            "jacobian_skipped": "time limit",
            "attention": by_hand.attention(0.42, 0.97, 400),
        },
    }
    return result(
        graph,
        path="reviews.keras",
        verdict=Verdict.STABLE,
        probe=probe(
            graph,
            {i: replace(call, **measured.get(i, {})) for i, call in calls.items()},
            loss_at_start=0.694,
            loss_expected=math.log(2),
            growth_rate=0.98,
            growth_interval=(0.9, 1.07),
            growth_points=4,
            noise_scale=by_hand.noise_scale(48.0, 20.0, 130.0),
            sharpness_skipped="the time limit of 60 s came first",
            incomplete="it reached its time limit of 60 s while measuring Jacobians; "
            "curvature was left undone",
            incomplete_detail="Traceback of a worker",
        ),
    )


def unet() -> AuditResult:
    """A U-Net: nested skip connections that no single call parts."""
    b = Builder()
    x = b.add("image", Op.INPUT, shape=(None, 128, 128, 3))
    skips = []
    for level in range(4):
        for index in (1, 2):
            x = b.add(
                f"down{level}_conv{index}",
                Op.CONV,
                x,
                shape=(None, 128 >> level, 128 >> level, 32 << level),
                activation="relu",
                parameters=9_248,
            )
        skips.append(x)
        x = b.add(f"down{level}_pool", Op.MAX_POOL, x, shape=(None, 64 >> level, 64 >> level, 32))
    x = b.add("bottom", Op.CONV, x, shape=(None, 8, 8, 512), activation="relu", parameters=99_999)
    for level in reversed(range(4)):
        shape = (None, 128 >> level, 128 >> level, 32 << level)
        x = b.add(f"up{level}", Op.CONV_TRANSPOSE, x, shape=shape, parameters=9_248)
        x = b.add(f"join{level}", Op.CONCATENATE, skips[level], x, shape=shape)
        x = b.add(f"up{level}_conv", Op.CONV, x, shape=shape, activation="relu", parameters=9_248)
    b.add("mask", Op.CONV, x, shape=(None, 128, 128, 1), activation="sigmoid", parameters=33)
    graph = b.graph(name="unet")
    depth = kernel_depth(graph)
    calls = {
        call.id: CallMeasurement(
            rms=0.7 * 1.05 ** depth[call.id], gradient_norm=1e-3 * 0.8 ** (16 - depth[call.id])
        )
        for call in graph.calls
    }
    return result(
        graph,
        path="unet.keras",
        verdict=Verdict.STABLE,
        probe=probe(graph, calls, growth_rate=0.93, growth_interval=(0.88, 0.99), growth_points=20),
    )


def onnx_unknown() -> AuditResult:
    """An ONNX file, judged statically: forecast but no probe; one opaque call."""
    b = Builder()
    x = b.add("images", Op.INPUT, shape=("batch", 3, 224, 224))
    x = b.add(
        "/stem/conv/Conv", Op.CONV, x, shape=("batch", 32, 112, 112), parameters=864, kind="Conv"
    )
    x = b.add("/stem/Custom", Op.OPAQUE, x, kind="com.acme::Swirl", note="unknown operator domain")
    left = b.add(
        "/mix/a/Conv", Op.CONV, x, shape=("batch", 32, 112, 112), parameters=9_216, kind="Conv"
    )
    right = b.add(
        "/mix/b/Conv", Op.CONV, x, shape=("batch", 32, 112, 112), parameters=1_024, kind="Conv"
    )
    third = b.add(
        "/mix/c/Conv", Op.CONV, x, shape=("batch", 32, 112, 112), parameters=1_024, kind="Conv"
    )
    x = b.add("/mix/Concat", Op.CONCATENATE, left, right, third, shape=("batch", 96, 112, 112))
    b.add("/head/Gemm", Op.DENSE, x, shape=("batch", 1000), parameters=1_000_000, kind="Gemm")
    graph = b.graph(
        name="torch-jit-export",
        kind="onnx",
        writer="pytorch 2.13.0",
        compiled=False,
        notes=("1 of 8 calls is of an operator that is not understood: com.acme::Swirl",),
    )
    reason = "probe skipped: detector.onnx: com.acme.Swirl /mix/Swirl: it has no form on Keras"
    return result(
        graph,
        path="models/detector.onnx",
        verdict=Verdict.UNKNOWN,
        findings=(
            Finding(
                code="GEB607",
                name="not-compiled",
                severity=Severity.INFO,
                confidence=Confidence.HIGH,
                message="The model was saved without optimizer and loss.",
                remedy="State them with `--loss` and `--optimizer`.",
            ),
        ),
        skipped=(
            Skipped(code="GEB501", reason=reason),
            Skipped(code="GEB601", reason="uncompiled"),
        ),
        forecast=Forecast(
            growth_rate=0.94,
            calls={
                c.id: CallForecast(gain=gain, variance=gain**2)
                for c, gain in zip(graph.calls, (1, 0.7, 1, 0.9, 1.3, 2.4, 1, 0.2), strict=True)
                if c.op is not Op.OPAQUE
            },
            covered=0.75,
        ),
        probe_skipped=reason,
    )


NASTY_NAMES = (
    "[red]\x1b[2J",
    "<script>alert(1)</script>",
    "\u202egnp.exe\u202c",
    "a\nb\tc\rd",
    "quo\"te's &amp; {{ 7*7 }} {% raw %}",
    "\ud800lone",
    "[/bold] [link=http://evil]x[/link]",
    "-->]]></style><img src=x onerror=alert(1)>",
    "ж中🙂\u200b\ufeff",
    "x" * 400,
    "\x9b31m`code`",
)


def nasty_names() -> AuditResult:
    """Names that try to break out of wherever they are written, and numbers that are none."""
    b = Builder()
    x = b.add("in", Op.INPUT)
    for name in NASTY_NAMES:
        x = b.add(name.replace("/", "\u2215"), Op.DENSE, x, parameters=8, kind=f"Dense{name[:9]}")
    graph = b.graph(name="nasty")
    graph = replace(graph, writer="evil \x1b]0;title\x07", notes=("note \x1b[31m <b>",))
    ids = tuple(call.id for call in graph.calls)
    finding = Finding(
        code="GEB503",
        name="non-finite",
        severity=Severity.ERROR,
        confidence=Confidence.HIGH,
        message=f"NaN first arises in {ids[1]} and [bold]{ids[2]}[/bold].",
        layers=(*ids, "no/such/call"),
        evidence=(
            Evidence(name="[red]x", value=math.inf, unit="<b>", stderr=math.nan, method="\x1b[5m"),
            Evidence(name="flag", value=True),
            Evidence(name="word", value="\x07bell"),
        ),
        remedy=f"Look at `{ids[1]}`.\n\n```python\nmodel.get_layer({ids[1]!r})\n```",
        references=("javascript:alert(1)", "<i>Anon</i> 2020"),
    )
    calls = {
        call_id: CallMeasurement(
            mean=math.nan,
            rms=(1.0, math.nan, math.inf, 0.0)[index % 4],
            gradient_norm=(math.nan, 1e-300, 1e300, 0.0, -math.inf)[index % 5],
            dead_share=math.nan,
            update_ratio=math.inf,
            **by_hand.no_numbers((math.nan, math.inf, 0.0, -1.0, 1e300)[index % 5]),
            jacobian_skipped=(None, "\x1b[5mwhy\u202e")[index % 2],
            finite_forward=index % 4 == 0,
            finite_backward=index % 3 == 0,
        )
        for index, call_id in enumerate(ids)
    }
    return result(
        graph,
        path="models/\x1b[2J[red]<x>.keras",
        verdict=Verdict.BROKEN,
        findings=(finding,),
        skipped=(Skipped(code="GEB501", reason="[red]\x1b[0m"),),
        forecast=Forecast(
            growth_rate=math.nan,
            calls={ids[0]: CallForecast(gain=math.inf, variance=math.nan)},
            covered=math.nan,
        ),
        probe=probe(
            graph,
            calls,
            growth_rate=math.nan,
            growth_interval=(-math.inf, math.inf),
            gradient_norm=Distribution(
                mean=math.nan, p10=0.0, p50=math.nan, p90=math.inf, max=math.inf, count=3
            ),
            loss_at_start=math.nan,
            trial_losses=(math.nan,),
            first_nonfinite_forward=ids[1],
            first_nonfinite_backward=ids[-1],
            skipped={ids[3]: "\x1b[1mbecause"},
            rate_trials=(RateTrial(rate=math.nan, losses=(math.nan, math.inf)),),
            stages=(
                StageGrowth(shape=(), calls=(), rate=math.nan, interval=None),
                StageGrowth(
                    shape=(8,), calls=ids, rate=math.inf, interval=(0.0, math.inf), residual=True
                ),
                StageGrowth(shape=(8,), calls=ids[:1], rate=0.0, interval=(-1.0, math.nan)),
            ),
            residual_profile=tuple(
                by_hand.block(call_id, None, value, value)
                for call_id, value in zip(ids, (math.nan, math.inf, 0.0, 1e300, -1.0), strict=False)
            ),
            sharpness=by_hand.sharpness(math.inf, math.nan),
            noise_scale=by_hand.noise_scale(math.inf, -math.inf, math.nan),
            nonfinite_data=("\x1b[2J: 3 of 4 values",),
            incomplete="\x1b[2J[red]the end\nof it",
        ),
        plan=Plan(
            learning_rate=Setting(
                name="learning_rate",
                value=math.nan,
                low=-math.inf,
                high=math.inf,
                reason="[link=x]\x1b[2J",
                layers=ids,
                because=(finding.fingerprint, "0" * 16),
                config={"<k>": "\x1b", "x": math.nan},
            ),
            notes=("[blink]",),
            snippet=f"model.get_layer({ids[2]!r})\n# \x1b[2J",
        ),
    )


def empty_graph() -> AuditResult:
    """A model without a single call."""
    return result(
        LayerGraph(name="", format="keras", writer="", calls=(), edges=(), inputs=(), outputs=()),
        path="empty.keras",
        verdict=Verdict.UNKNOWN,
        probe_skipped="probe skipped: not asked for (--no-probe)",
    )


SAMPLES = {
    "founding_case": founding_case,
    "exploding_stack": exploding_stack,
    "resnet": resnet,
    "sequence_model": sequence_model,
    "unet": unet,
    "onnx_unknown": onnx_unknown,
    "nasty_names": nasty_names,
    "empty_graph": empty_graph,
}
