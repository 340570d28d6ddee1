"""The probe on PyTorch: derivatives, passes, what it leaves behind, and TensorFlow's numbers.

Keras keeps one backend a process. Tests marked `on_torch` run where that is PyTorch; elsewhere one
test runs them all in a process of their own.
"""

import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from auditor.errors import ProbeFailed
from auditor.measurement import ProbeResult
from auditor.probe.backends import ForwardPass, PassInputs, load_backend
from auditor.probe.codec import decode_report
from auditor.probe.settings import ProbeSettings
from auditor.probe.worker import probe_file

pytestmark = [
    pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed"),
    pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer"),
]
ON_TORCH = keras.backend.backend() == "torch"
on_torch = pytest.mark.skipif(not ON_TORCH, reason="runs in a process on PyTorch")


def on_tensorflow(test: Any) -> Any:
    """A test that compares with TensorFlow in this process; the other process takes its time."""
    elsewhere = keras.backend.backend() != "tensorflow"
    return pytest.mark.slow(pytest.mark.skipif(elsewhere, reason="runs on TensorFlow")(test))


#: Layers in training mode with the shapes of their inputs.
LAYERS: dict[str, tuple[Callable[[], Any], tuple[tuple[int, ...], ...]]] = {
    "Dense": (lambda: layers.Dense(5, activation="gelu"), ((3, 4),)),
    "EinsumDense": (lambda: layers.EinsumDense("abc,cd->abd", (None, 5)), ((3, 4, 6),)),
    "Conv1D": (lambda: layers.Conv1D(3, 3, padding="causal", dilation_rate=2), ((2, 8, 4),)),
    "Conv2D": (lambda: layers.Conv2D(4, 3, strides=2, padding="same", groups=2), ((2, 7, 6, 4),)),
    "Conv3D": (lambda: layers.Conv3D(3, 2), ((2, 3, 4, 3, 2),)),
    "Conv2DTranspose": (lambda: layers.Conv2DTranspose(3, 3, strides=2), ((2, 4, 4, 2),)),
    "DepthwiseConv2D": (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), ((2, 5, 5, 3),)),
    "SeparableConv2D": (lambda: layers.SeparableConv2D(3, 3), ((2, 5, 5, 3),)),
    "MaxPooling2D": (lambda: layers.MaxPooling2D(2, padding="same"), ((2, 5, 5, 3),)),
    "AveragePooling2D": (
        lambda: layers.AveragePooling2D(3, strides=2, padding="same"),
        ((2, 5, 5, 3),),
    ),
    "GlobalMaxPooling1D": (lambda: layers.GlobalMaxPooling1D(), ((2, 5, 3),)),
    "AdaptiveMaxPooling2D": (lambda: layers.AdaptiveMaxPooling2D(2), ((2, 5, 5, 3),)),
    "BatchNormalization": (lambda: layers.BatchNormalization(), ((4, 5, 3),)),
    "LayerNormalization": (lambda: layers.LayerNormalization(), ((3, 6),)),
    "GroupNormalization": (lambda: layers.GroupNormalization(2), ((2, 3, 3, 4),)),
    "SpectralNormalization": (
        lambda: layers.SpectralNormalization(layers.Dense(3)),
        ((2, 4),),
    ),
    "MultiHeadAttention": (lambda: layers.MultiHeadAttention(2, 3), ((2, 5, 4), (2, 6, 4))),
    "GroupQueryAttention": (lambda: layers.GroupQueryAttention(4, 4, 2), ((2, 5, 8), (2, 5, 8))),
    "Attention": (lambda: layers.Attention(use_scale=True), ((2, 5, 4), (2, 6, 4))),
    "LSTM": (lambda: layers.LSTM(4, return_sequences=True), ((2, 5, 3),)),
    "GRU": (lambda: layers.GRU(4), ((2, 5, 3),)),
    "SimpleRNN": (lambda: layers.SimpleRNN(4), ((2, 5, 3),)),
    "Bidirectional": (
        lambda: layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
        ((2, 4, 3),),
    ),
    "ConvLSTM2D": (lambda: layers.ConvLSTM2D(2, 2), ((2, 3, 4, 4, 2),)),
    "Softmax": (lambda: layers.Softmax(), ((3, 6),)),
    "PReLU": (lambda: layers.PReLU(), ((3, 6),)),
    "Dropout": (lambda: layers.Dropout(0.5, seed=1), ((9, 4),)),
    "UpSampling2D": (lambda: layers.UpSampling2D(2, interpolation="bilinear"), ((2, 3, 4, 2),)),
    "RepeatVector": (lambda: layers.RepeatVector(3), ((2, 4),)),
    "Cropping2D": (lambda: layers.Cropping2D(1), ((2, 5, 4, 2),)),
    "ZeroPadding2D": (lambda: layers.ZeroPadding2D(1), ((2, 3, 4, 2),)),
    "Dot": (lambda: layers.Dot(1), ((2, 4), (2, 4))),
    "Multiply": (lambda: layers.Multiply(), ((2, 4), (2, 4))),
}
#: Those that Keras computes in double precision throughout on PyTorch. In others it takes means,
#: or the common type of two tensors, in single precision whatever their policy.
DOUBLE = (
    "EinsumDense",
    "Conv1D",
    "Conv2D",
    "Conv3D",
    "Conv2DTranspose",
    "SeparableConv2D",
    "MaxPooling2D",
    "AveragePooling2D",
    "LSTM",
    "GRU",
    "Bidirectional",
    "ConvLSTM2D",
    "Softmax",
    "UpSampling2D",
)
#: No other processes, and no traces in the folder.
PLAINLY = ("-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=--import-mode=importlib")


@pytest.mark.slow
def test_what_holds_on_torch():
    if ON_TORCH:
        pytest.skip("the others run here by themselves")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", __file__, "-q", *PLAINLY],
        env={**os.environ, "KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "passed" in run.stdout


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def backend():
    return load_backend("torch")


def layer_call(name: str, dtype: str) -> tuple[Any, Any, list[np.ndarray]]:
    """A layer's call as a function of its inputs, always with the same state."""
    make, shapes = LAYERS[name]
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        layer = make()
    finally:
        keras.config.set_dtype_policy(policy)
    rng = np.random.default_rng(1)
    x = [rng.normal(size=shape).astype(dtype) for shape in shapes]
    spread = isinstance(layer, layers.MultiHeadAttention | layers.GroupQueryAttention)

    def run(inputs):
        given = list(inputs) if spread or len(inputs) == 1 else [list(inputs)]
        return layer(*given, training=True)

    run(x)
    state = [(v, ops.convert_to_numpy(v.value)) for v in layer.non_trainable_variables]

    def call(inputs):
        for variable, value in state:
            variable.assign(value)
        return tuple(keras.tree.flatten(run(inputs)))

    return layer, call, x


def dot(a, b) -> float:
    return float(sum((p.double() * q.double()).sum() for p, q in zip(a, b, strict=True)))


@on_torch
@pytest.mark.parametrize(
    ("name", "dtype", "tolerance"),
    [(name, "float32", 1e-5) for name in LAYERS] + [(name, "float64", 1e-10) for name in DOUBLE],
)
def test_products_are_those_of_the_jacobian_and_adjoint(torch, backend, name, dtype, tolerance):
    layer, call, x = layer_call(name, dtype)
    rng = np.random.default_rng(2)
    inputs = tuple(torch.from_numpy(array) for array in x)
    shapes = [tuple(output.shape) for output in call(inputs)]
    v = tuple(torch.from_numpy(rng.normal(size=a.shape).astype(dtype)) for a in x)
    u = tuple(torch.from_numpy(rng.normal(size=shape).astype(dtype)) for shape in shapes)
    pushed = backend.jit(lambda p, t: backend.jvp(call, p, t), layer.variables)(inputs, v)
    pulled = backend.jit(lambda p, t: backend.vjp(call, p, t), layer.variables)(inputs, u)
    assert not any(tensor.requires_grad for tensor in (*pushed, *pulled))
    scale = math.sqrt(dot(u, u) * dot(pushed, pushed))
    assert scale > 0
    assert abs(dot(u, pushed) - dot(pulled, v)) <= tolerance * scale

    jacobian = torch.autograd.functional.jacobian(lambda *p: call(p)[0], inputs)
    expected = sum(
        torch.tensordot(block, tangent, dims=tangent.dim())
        for block, tangent in zip(jacobian, v, strict=True)
    )
    # The blocks come from other kernels than the products: a few more roundings lie between.
    error = float(torch.linalg.norm(pushed[0] - expected) / torch.linalg.norm(expected))
    assert error <= 10 * tolerance


@on_torch
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [None, "bool", "float"])
def test_fused_attention_has_a_product(torch, backend, causal, masked):
    if causal and masked:
        pytest.skip("PyTorch takes one of the two")
    rng = np.random.default_rng(0)
    qkv = tuple(torch.from_numpy(rng.normal(size=(2, 4, 5, 8))) for _ in range(3))
    keep = torch.from_numpy(rng.uniform(size=(5, 5)) < 0.7) | torch.eye(5, dtype=torch.bool)
    mask = {None: None, "bool": keep, "float": torch.where(keep, 0.3, -2.0).double()}[masked]

    def call(inputs):
        attention = torch.nn.functional.scaled_dot_product_attention
        return (attention(*inputs, attn_mask=mask, is_causal=causal),)

    v, u = qkv[::-1], call(qkv)
    products = backend.jit(lambda: (backend.jvp(call, qkv, v), backend.vjp(call, qkv, u)), [])
    pushed, pulled = products()
    scale = math.sqrt(dot(u, u) * dot(pushed, pushed))
    assert abs(dot(u, pushed) - dot(pulled, v)) <= 1e-12 * scale


@on_torch
# PyTorch compiles some of its formulas with it when forward mode is first asked for.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_forward_mode_steps_in_where_a_backward_pass_has_no_derivative(torch, backend):
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            ctx.save_for_forward(x)
            return x**3

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, u):
            return 3 * ctx.saved_tensors[0] ** 2 * u

        @staticmethod
        def jvp(ctx, v):
            return 3 * ctx.saved_tensors[0] ** 2 * v

    class Closed(Cube):
        @staticmethod
        def backward(ctx, u):
            raise NotImplementedError("no derivative")

        @staticmethod
        def jvp(ctx, v):
            raise NotImplementedError("no derivative")

    x, v = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])
    # PyTorch itself would leave the cube out of the sum, and say nothing.
    (pushed,) = backend.jvp(lambda p: (p[0] + Cube.apply(p[0]),), (x,), (v,))
    assert pushed.tolist() == [2.0, 39.0]
    for product in (backend.jvp, backend.vjp):
        with pytest.raises(NotImplementedError, match="no derivative"):
            product(lambda p: (Closed.apply(p[0]),), (x,), (v,))


@on_torch
def test_what_nothing_depends_on_is_zero(torch, backend):
    x, y = torch.tensor([1.0, 2.0]), torch.tensor([3.0])

    def call(p):
        return (p[0] * 2, torch.ones(3))

    pulled = backend.vjp(call, (x, y), (torch.ones(2), torch.ones(3)))
    assert [tensor.tolist() for tensor in pulled] == [[2.0, 2.0], [0.0]]
    pushed = backend.jvp(call, (x, y), (torch.ones(2), torch.ones(1)))
    assert [tensor.tolist() for tensor in pushed] == [[2.0, 2.0], [0.0, 0.0, 0.0]]


@on_torch
def test_a_function_that_overwrites_its_input_leaves_the_primals(torch, backend):
    x, v = torch.tensor([-1.0, 2.0]), torch.tensor([5.0, 7.0])
    for product in (backend.jvp, backend.vjp):
        (found,) = product(lambda p: (torch.relu_(p[0]) * 3,), (x,), (v,))
        assert found.tolist() == [0.0, 21.0]
        assert x.tolist() == [-1.0, 2.0]


@on_torch
def test_products_of_products_are_second_derivatives(torch, backend):
    x, v = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])

    def gradient(p):
        return backend.vjp(lambda q: ((q[0] ** 3).sum() * q[0][0],), p, (torch.tensor(1.0),))

    expected = torch.autograd.functional.hessian(lambda q: (q**3).sum() * q[0], x) @ v
    (curved,) = backend.jit(lambda p, t: backend.jvp(gradient, p, t), [])((x,), (v,))
    assert curved.tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    assert not curved.requires_grad


class Weighted:
    """y = w·x, of which training minimizes the sum; it has one variable that nothing uses."""

    def __init__(self, w: float) -> None:
        self.variables = [keras.Variable([w, w]), keras.Variable([1.0])]
        self.state = ()

    def forward(self, x, y, watch):
        h = watch(watch(x[0]) * self.variables[0])
        return ForwardPass(objective=ops.sum(h), outputs=(h,), watched=(h,))

    def reduce(self, forward, gradients, variable_gradients, sample_norms):
        assert not gradients[0].requires_grad
        return {"h": gradients[1], "norms": sample_norms(forward.watched[0])}


@on_torch
def test_a_pass_differentiates_what_it_is_asked_to(backend):
    run = backend.compile(Weighted(2.0))
    x, u = np.array([[1.0, 3.0]], "float32"), np.array([[10.0, 20.0]], "float32")
    step = run(PassInputs(x=[x], y=[], cotangents=[0 * u], scale=4.0))
    assert step.values["h"].tolist() == [[4.0, 4.0]]
    assert step.values["norms"].dtype == np.float64
    assert step.gradients[0].tolist() == [4.0, 12.0]
    assert step.gradients[1] is None
    pulled = run(PassInputs(x=[x], y=[], cotangents=[u], loss_share=0.0, scale=0.5))
    assert pulled.values["h"].tolist() == [[5.0, 10.0]]
    assert pulled.gradients[0].tolist() == [5.0, 30.0]


@on_torch
def test_values_that_are_not_finite_pass_through(backend):
    run = backend.compile(Weighted(math.inf))
    result = run(PassInputs(x=[np.ones((1, 2), "float32")], y=[], cotangents=[np.zeros((1, 2))]))
    assert result.values["norms"].tolist() == [math.inf]
    # The seeds are finite, and the output's own value does not meet them.
    assert result.gradients[0].tolist() == [1.0, 1.0]


@on_torch
def test_layers_that_overwrite_their_input_are_told_apart(torch, probe, sequential):
    def build(relu):
        keras.utils.set_random_seed(4)
        return sequential(
            keras.Input((6,)),
            layers.Rescaling(2.0, name="scaled"),
            relu(),
            layers.Dense(5, name="hidden"),
            relu(),
            layers.Dense(1, name="out"),
        )

    overwriting = build(lambda: layers.TorchModuleWrapper(torch.nn.ReLU(inplace=True)))
    result, expected = probe(overwriting), probe(build(layers.ReLU))
    for name in ("scaled", "hidden", "out"):
        found, there = result.calls[name], expected.calls[name]
        for measure in ("mean", "rms", "zero_share", "gradient_norm"):
            assert getattr(found, measure) == pytest.approx(getattr(there, measure), rel=1e-6)
    assert result.calls["scaled"].zero_share < 0.1


def everything(torch: Any, model: keras.Model) -> dict[str, object]:
    values = [*model.variables, *model.optimizer.variables]
    modules = [m for layer in model._flatten_layers() for m in layer.modules()]
    return {
        "values": [ops.convert_to_numpy(v.value).tobytes() for v in values],
        "gradients": [v.value.grad for v in model.variables],
        "needs": [v.value.requires_grad for v in model.variables],
        "buffers": [b.clone().numpy().tobytes() for m in modules for b in m.buffers()],
        "modes": [m.training for m in modules],
        "generator": torch.get_rng_state().numpy().tobytes(),
        "recording": torch.is_grad_enabled(),
        "optimizer": id(model.optimizer),
    }


@on_torch
def test_a_probe_leaves_no_trace_and_repeats(torch, probe):
    class Rogue(layers.Layer):
        broken = False

        def call(self, x):
            if self.broken:
                raise RuntimeError("out of order")
            return x

    rogue = Rogue(name="rogue")
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(6), torch.nn.Dropout(0.5))
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.TorchModuleWrapper(module, name="module"),
            layers.Dense(5, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(4, trainable=False),
            rogue,
            layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    rng = np.random.default_rng(0)
    model.fit(rng.normal(size=(8, 6)), rng.normal(size=(8, 1)), verbose=0)
    for variable in model.variables:
        variable.value.grad = None
    model(np.zeros((1, 6), "float32"), training=False)
    before = everything(torch, model)
    first = probe(model)
    assert everything(torch, model) == before
    assert first.calls["module"].zero_share > 0.2
    assert len(first.trial_losses) == 5
    torch.manual_seed(9)
    again = probe(model)
    assert replace(again, seconds=first.seconds) == first
    assert probe(model, seed=1).calls["module"] != first.calls["module"]
    torch.set_rng_state(torch.frombuffer(bytearray(before["generator"]), dtype=torch.uint8))
    rogue.broken = True
    with pytest.raises(ProbeFailed, match="raised RuntimeError: out of order"):
        probe(model)
    assert everything(torch, model) == before


@on_torch
def test_no_gpu_is_said(torch, backend, probe, sequential):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ProbeFailed, match="PyTorch sees no GPU here"):
        probe(sequential(keras.Input((2,)), layers.Dense(1)), device="gpu")
    with backend.on_device("cpu"):
        assert backend.device() == "CPU"


def models() -> dict[str, keras.Model]:
    """Models without dropout, whose numbers do not depend on the backend."""
    rng = np.random.default_rng(0)
    cnn = keras.Sequential(
        [
            keras.Input((9, 9, 2)),
            layers.Conv2D(4, 3),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(5, 3, activation="elu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )
    cnn.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    recurrent = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(20, 5, mask_zero=True),
            layers.LSTM(4, return_sequences=True),
            layers.LSTM(4),
            layers.Dense(1, activation="sigmoid", name="head"),
        ]
    )
    recurrent.compile("rmsprop", "binary_crossentropy")
    a, b = keras.Input((5,), name="a"), keras.Input((4,), name="b")
    both = layers.Concatenate()([layers.Dense(6, activation="relu")(a), layers.Dense(6)(b)])
    heads = [layers.Dense(2, name="p")(both), layers.Dense(3, name="q")(ops.tanh(both))]
    several = keras.Model([a, b], heads)
    several.compile("sgd", "mse")
    half = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(12, activation="relu", dtype="mixed_bfloat16"),
            layers.Dense(12, dtype="mixed_bfloat16"),
            layers.Dense(1),
        ]
    )
    half.compile("sgd", "mse")
    broken = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="bad"), layers.Dense(1)])
    broken.compile("sgd", "mse")
    kernel = rng.normal(size=(4, 3))
    kernel[0, 0] = np.nan
    broken.get_layer("bad").kernel.assign(kernel)
    return {
        "cnn": cnn,
        "recurrent": recurrent,
        "several": several,
        "half": half,
        "broken": broken,
    }


SETTINGS = ProbeSettings(backend="torch", batches=1, batch_size=4, seed=3)
SCRIPT = """
import os, sys
REPORTS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
from pathlib import Path
from auditor.probe.codec import ProbeRequest, Report, encode, decode_request
from auditor.probe.worker_main import probe
settings = decode_request(sys.argv[1]).settings
for path in sys.argv[2:]:
    request = ProbeRequest(path=Path(path), settings=settings)
    result = probe(request, progress=lambda phase: None, partial=lambda result: None)
    print(encode(Report(result=result)), file=REPORTS)
"""


@pytest.fixture(scope="module")
def saved_models(tmp_path_factory) -> dict[str, Path]:
    keras.utils.set_random_seed(5)
    folder = tmp_path_factory.mktemp("torch")
    paths = {}
    for name, model in models().items():
        paths[name] = folder / f"{name}.keras"
        model.save(paths[name])
    return paths


@pytest.fixture(scope="module")
def on_both(saved_models, probe) -> dict[str, tuple[ProbeResult, ProbeResult]]:
    """What each model gives on TensorFlow, here, and on PyTorch, as its worker has it."""
    from auditor.probe.codec import ProbeRequest, encode

    request = encode(ProbeRequest(path=Path("any"), settings=SETTINGS))
    run = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT, request, *map(str, saved_models.values())],
        env={**os.environ, "KERAS_BACKEND": "torch", "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    torch = [decode_report(line).result for line in run.stdout.splitlines()]
    here = [
        probe(keras.saving.load_model(path), batches=1, batch_size=4, seed=3)
        for path in saved_models.values()
    ]
    return dict(zip(saved_models, zip(here, torch, strict=True), strict=True))


def agree(one: float | None, other: float | None, tolerance: float) -> bool:
    """Whether both measured the same, or neither anything."""
    return one == other or (None not in (one, other) and one == pytest.approx(other, rel=tolerance))


@on_tensorflow
@pytest.mark.parametrize(
    ("name", "tolerance"),
    # Eight bits of mantissa: the order of a sum shows in the second or third digit.
    [("cnn", 1e-3), ("recurrent", 1e-3), ("several", 1e-3), ("half", 2e-2)],
)
def test_numbers_are_those_of_tensorflow(on_both, name, tolerance):
    expected, found = on_both[name]
    assert found.backend == "torch"
    assert found.device == "CPU"
    assert found.incomplete == expected.incomplete == ""
    assert found.loss_at_start == pytest.approx(expected.loss_at_start, rel=tolerance)
    assert found.trial_losses == pytest.approx(expected.trial_losses, rel=tolerance)
    assert found.gradient_norm.p50 == pytest.approx(expected.gradient_norm.p50, rel=tolerance)
    assert agree(found.growth_rate, expected.growth_rate, tolerance)
    assert list(found.calls) == list(expected.calls)
    for call_id, call in found.calls.items():
        there = expected.calls[call_id]
        measures = ["rms", "max_abs", "weight_norm", "weight_gradient_norm", "update_ratio"]
        # Only TensorFlow takes the loss from the logits: behind them a gradient is of another kind.
        measures += [] if call_id == "head" else ["gradient_norm", "gradient_rms"]
        for measure in measures:
            one, other = getattr(call, measure), getattr(there, measure)
            assert agree(one, other, tolerance), (call_id, measure, one, other)


@on_tensorflow
def test_weights_that_are_not_finite_are_measured(on_both):
    _, found = on_both["broken"]
    assert math.isnan(found.loss_at_start)
    assert found.first_nonfinite_forward == "bad"
    assert not found.calls["bad"].finite_backward


@on_tensorflow
def test_the_worker_gives_the_same_to_the_bit(on_both, saved_models):
    phases: list[str] = []
    result = probe_file(saved_models["cnn"], SETTINGS, phases.append)
    assert phases[0] == "starting torch"
    assert replace(result, seconds=0.0) == replace(on_both["cnn"][1], seconds=0.0)


@on_tensorflow
def test_a_file_saved_on_torch_has_an_optimizer_that_steps_here(tmp_path, probe):
    path = tmp_path / "of_torch.keras"
    script = (
        "import keras, sys\n"
        "model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])\n"
        "inner = keras.optimizers.Adam(0.02, clipnorm=1.0)\n"
        "model.compile(keras.optimizers.LossScaleOptimizer(inner), 'mse')\n"
        "model.save(sys.argv[1])\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    subprocess.run([sys.executable, "-P", "-c", script, str(path)], env=environment, check=True)
    result = probe(keras.saving.load_model(path))
    assert len(result.trial_losses) == 5
    assert result.trial_losses[-1] < result.trial_losses[0]
