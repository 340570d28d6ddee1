"""The probe on PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import torch
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode

from auditor.errors import ProbeFailed
from auditor.probe.backends import (
    Backend,
    CompiledPass,
    ForwardPass,
    Function,
    OptimizerStep,
    PassInputs,
    PassResult,
    Program,
    Share,
    Shares,
    Tensor,
)
from auditor.probe.state import SEED_STATE


class Torch:
    """PyTorch, eagerly: what is differentiated is recorded anew in every pass.

    A graph is recorded only where this class asks for one, whatever surrounds it.
    """

    name = "torch"

    def device(self) -> str:
        """The device passes run on."""
        device = _device()
        if device.type == "cpu":
            return "CPU"
        if device.type == "cuda":
            return f"GPU: {torch.cuda.get_device_name(device)}"
        return f"GPU: {device.type.upper()}"

    @contextmanager
    def on_device(self, asked: str) -> Iterator[None]:
        """Run on the asked device: auto, cpu or gpu. Raises `ProbeFailed` if there is none."""
        if asked == "gpu" and not torch.cuda.is_available():
            raise ProbeFailed("PyTorch sees no GPU here; use --device cpu or auto")
        names = {"cpu": "cpu", "gpu": "gpu:0"}
        place = keras.device(names[asked]) if asked in names else nullcontext()
        # Optimizers and statistics work on weights, which would drag a graph along.
        with place, torch.no_grad(), _own_random_state(()):
            yield

    def compile(self, program: Program) -> CompiledPass:
        """The pass, which looks at its first batch whether layers change what they are given."""
        _check_device(program)
        eager = _EagerPass(program)

        def run(inputs: PassInputs) -> PassResult:
            with _own_random_state(program.state):
                return eager.run(inputs)

        return run

    def optimizer_step(self, optimizer: Any) -> OptimizerStep:
        """Keras' own step."""
        step: OptimizerStep = optimizer.apply
        return step

    def jit(self, function: Callable[..., Any], variables: Sequence[Any]) -> Callable[..., Any]:
        """The function itself, NumPy arrays among its arguments converted."""

        def run(*args: Any) -> Any:
            with torch.no_grad(), _own_random_state(variables):
                return function(*keras.tree.map_structure(_tensor, args))

        return run

    def jit_each(
        self, functions: Sequence[Callable[..., Share]], variables: Sequence[Any]
    ) -> Callable[[Sequence[Sequence[Any]]], Shares]:
        """The functions themselves, one after the other."""

        def all_of_them(arguments: Sequence[Sequence[Any]]) -> list[Share]:
            return [f(*given) for f, given in zip(functions, arguments, strict=True)]

        run_all = self.jit(all_of_them, variables)

        def run(arguments: Sequence[Sequence[Any]]) -> Shares:
            made = run_all([tuple(given) for given in arguments])
            figures = [keras.ops.convert_to_numpy(numbers) for _, numbers in made]
            return [kept for kept, _ in made], [found.astype(np.float64) for found in figures]

        return run

    def once(self, function: Callable[..., Any], variables: Sequence[Any]) -> Callable[..., Any]:
        """As `jit`."""
        return self.jit(function, variables)

    def vjp(
        self, function: Function, primals: tuple[Tensor, ...], cotangents: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """Jᵀ u by one reverse pass."""
        # Within another derivative, this one has to be part of what is differentiated.
        nested = torch.is_grad_enabled()
        with torch.enable_grad():
            sources, outputs = _recorded(function, primals, nested=nested)
            return _pulled_back(outputs, sources, cotangents, nested=nested)

    def jvp(
        self, function: Function, primals: tuple[Tensor, ...], tangents: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """J v by two reverse passes: Jᵀ u is linear in u, and its own transpose at v is J v.

        It is the transpose of what `vjp` computes by construction; forward mode goes through
        `torch.no_grad` blocks of a layer that no reverse pass sees. It does step in where a
        backward pass has no derivative of its own.
        """
        nested = torch.is_grad_enabled()
        with torch.enable_grad(), _Differentiable():
            try:
                return _transposed_twice(function, primals, tangents, nested=nested)
            except RuntimeError as reverse:  # NotImplementedError is one
                try:
                    return _pushed_forward(function, primals, tangents)
                except RuntimeError:
                    raise reverse from None


@dataclass(kw_only=True)
class _Watched:
    """Tensors a pass is differentiated for, each as it was when it arose.

    Layers such as `torch.nn.ReLU(inplace=True)` overwrite what they are given. With `keeping`
    the pass goes on with a copy of each tensor, so that both values are there to tell of.
    """

    keeping: bool
    edges: list[GradientEdge] = field(default_factory=list)
    _tensors: list[tuple[Tensor, int]] = field(default_factory=list)
    _originals: list[Tensor] = field(default_factory=list)

    def watch(self, tensor: Tensor) -> Tensor:
        """The tensor, or one of the same value that can be differentiated for."""
        if self.keeping:
            self._originals.append(tensor.detach())
        if not tensor.requires_grad:
            # No weight in front of it is trained. A leaf must not be overwritten, its copy may.
            tensor = tensor.detach().requires_grad_().clone()
        elif self.keeping:
            tensor = tensor.clone()
        self.edges.append(get_gradient_edge(tensor))
        self._tensors.append((tensor, _version(tensor)))
        return tensor

    @property
    def overwritten(self) -> bool:
        """Whether one of the tensors is no longer what it was."""
        return any(_version(tensor) != version for tensor, version in self._tensors)

    def put_back(self) -> None:
        """The values at the time, back into the tensors; their graph has to be done with."""
        for (tensor, version), original in zip(self._tensors, self._originals, strict=True):
            if _version(tensor) != version:
                tensor.detach().copy_(original)


class _EagerPass:
    """One program, pass by pass."""

    def __init__(self, program: Program) -> None:
        self._program = program
        #: Whether layers overwrite their inputs; None before the first pass.
        self._overwrites: bool | None = None

    def run(self, inputs: PassInputs) -> PassResult:
        """Forward, backward and the reduction to small values."""
        if self._overwrites is None:
            state = [(variable, variable.value.clone()) for variable in self._program.state]
            result = self._attempt(inputs, keeping=False)
            self._overwrites = result is None
            if result is not None:
                return result
            for variable, value in state:
                variable.assign(value)
        result = self._attempt(inputs, keeping=self._overwrites)
        if result is None:
            raise ProbeFailed("a layer overwrites what it is given in some passes and not in all")
        return result

    def _attempt(self, inputs: PassInputs, *, keeping: bool) -> PassResult | None:
        """None where a tensor was overwritten that should have been kept."""
        program = self._program
        watched = _Watched(keeping=keeping)
        with torch.enable_grad():
            forward = program.forward(
                [_tensor(array) for array in inputs.x],
                [_tensor(array) for array in inputs.y],
                watched.watch,
            )
        if watched.overwritten and not keeping:
            return None
        gradients = _gradients(program, forward, watched.edges, inputs)
        with torch.no_grad():
            if keeping:
                watched.put_back()
            split = len(watched.edges)
            values = program.reduce(forward, gradients[:split], gradients[split:], _sample_norms)
            return PassResult(
                values={name: keras.ops.convert_to_numpy(value) for name, value in values.items()},
                gradients=tuple(gradients[split:]),
            )


class _Differentiable(TorchFunctionMode):
    """Fused operations whose backward pass has no derivative give way to plain ones.

    For this thread alone, where the switches of PyTorch would be flipped for all.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one function of PyTorch, or what stands in for it."""
        kwargs = kwargs or {}
        if func is torch.nn.functional.scaled_dot_product_attention:
            return _attention(*args, **kwargs)
        if getattr(func, "__name__", "") in ("lstm", "gru") and _on_gpu(args):
            # Keras takes its own steps through time where cuDNN's cannot be had.
            raise NotImplementedError("cuDNN's recurrent layers have no second derivative")
        return func(*args, **kwargs)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(q kᵀ · scale + mask) v, by the definition in PyTorch's documentation."""
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = (tensor.repeat_interleave(groups, -3) for tensor in (key, value))
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    logits = query @ key.transpose(-2, -1) * scale
    if is_causal:
        attn_mask = torch.ones_like(logits, dtype=torch.bool).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        logits = logits.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        logits = logits + attn_mask
    shares = torch.softmax(logits, dim=-1)
    return torch.nn.functional.dropout(shares, dropout_p) @ value


def _gradients(
    program: Program, forward: ForwardPass, watched: Sequence[GradientEdge], inputs: PassInputs
) -> list[Tensor | None]:
    """The gradients for `watched`, then for the program's variables; None where there is none."""
    variables = [variable.value for variable in program.variables]
    objective = forward.objective.float()
    share = inputs.loss_share * inputs.scale
    # The cotangents enter as seeds of the reverse pass, not as a product in the sum: there an
    # output that is not finite would make it NaN even with cotangents of zero.
    seeded = [
        (objective, torch.full_like(objective, share)),
        *(
            (output, (inputs.scale * _tensor(cotangent).float()).to(output.dtype))
            for output, cotangent in zip(forward.outputs, inputs.cotangents, strict=True)
        ),
    ]
    seeded = [(target, seed) for target, seed in seeded if target.requires_grad]
    # Whoever wraps a parameter may have frozen it behind Keras' back.
    sources = [*watched, *(value for value in variables if value.requires_grad)]
    if not seeded or not sources:
        return [None] * (len(watched) + len(variables))
    targets, seeds = zip(*seeded, strict=True)
    found = iter(torch.autograd.grad(targets, sources, seeds, allow_unused=True))
    of_watched = [next(found) for _ in watched]
    return of_watched + [next(found) if value.requires_grad else None for value in variables]


def _recorded(
    function: Function, primals: tuple[Tensor, ...], *, nested: bool
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The function's outputs with their graph, and what they are to be differentiated for."""
    sources = tuple(_source(primal, nested=nested) for primal in primals)
    try:
        return sources, tuple(function(sources))
    except RuntimeError:
        # A leaf must not be overwritten, its copy may.
        return sources, tuple(function(tuple(source.clone() for source in sources)))


def _source(primal: Tensor, *, nested: bool) -> Tensor:
    source = primal.view_as(primal) if nested else primal.detach()
    return source if source.requires_grad else source.requires_grad_()


def _pulled_back(
    outputs: Sequence[Tensor],
    sources: Sequence[Tensor],
    cotangents: Sequence[Tensor],
    *,
    nested: bool,
) -> tuple[Tensor, ...]:
    """Jᵀ u from a recorded graph; `nested` records this step as well."""
    pairs = [
        (output, cotangent)
        for output, cotangent in zip(outputs, cotangents, strict=True)
        if output.requires_grad
    ]
    if not pairs or not sources:
        return tuple(torch.zeros_like(source) for source in sources)
    targets, seeds = zip(*pairs, strict=True)
    return torch.autograd.grad(
        targets,
        tuple(sources),
        seeds,
        create_graph=nested,
        allow_unused=True,
        materialize_grads=True,
    )


def _transposed_twice(
    function: Function, primals: tuple[Tensor, ...], tangents: tuple[Tensor, ...], *, nested: bool
) -> tuple[Tensor, ...]:
    sources, outputs = _recorded(function, primals, nested=nested)
    seeds = tuple(torch.zeros_like(output, requires_grad=True) for output in outputs)
    pulled = _pulled_back(outputs, sources, seeds, nested=True)
    if _ends_early(pulled):
        raise RuntimeError("a function of the layer is differentiable once, and not twice")
    return _pulled_back(pulled, seeds, tangents, nested=nested)


def _ends_early(tensors: Sequence[Tensor]) -> bool:
    """Whether the graph of the tensors is cut by `once_differentiable`.

    PyTorch puts a node there that raises when a gradient gets to it, but leaves it without the
    edge by which one would: the part behind it would silently count as zero.
    """
    ahead = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]
    seen = set(ahead)
    while ahead:
        node = ahead.pop()
        if node.name() == "torch::autograd::Error":
            return True
        found = {parent for parent, _ in node.next_functions if parent is not None} - seen
        seen |= found
        ahead.extend(found)
    return False


def _pushed_forward(
    function: Function, primals: tuple[Tensor, ...], tangents: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """J v by forward mode."""
    forward_ad: Any = torch.autograd.forward_ad
    with forward_ad.dual_level():
        # Copies: overwriting a dual tensor would overwrite the primal behind it.
        duals = tuple(
            forward_ad.make_dual(primal.clone(), tangent)
            for primal, tangent in zip(primals, tangents, strict=True)
        )
        found = [forward_ad.unpack_dual(output) for output in function(duals)]
        return tuple(
            torch.zeros_like(dual.primal) if dual.tangent is None else dual.tangent
            for dual in found
        )


@contextmanager
def _own_random_state(variables: Sequence[Any]) -> Iterator[None]:
    """PyTorch's own generators seeded by Keras', and put back afterwards.

    Modules of PyTorch within a model draw from them, where Keras' layers have their own.
    """
    seeds = [variable for variable in variables if variable.name == SEED_STATE]
    device = _device()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(keras.ops.convert_to_numpy(seeds[-1]).flat[0]) if seeds else 0)
        yield


def _check_device(program: Program) -> None:
    """Raise `ProbeFailed` where the weights are not on the device that passes run on."""
    asked = _device()
    places = {variable.value.device.type for variable in (*program.variables, *program.state)}
    if places - {asked.type}:
        raise ProbeFailed(
            f"the model's weights are on {', '.join(sorted(places))} and the probe is to run on "
            f"{asked.type}; PyTorch does not move them, so audit the file or use --device auto"
        )


def _device() -> torch.device:
    """Where Keras puts tensors."""
    from keras.src.backend.torch.core import get_device

    return torch.device(get_device())


def _version(tensor: Tensor) -> int:
    """How often the tensor has been overwritten; PyTorch's notes on autograd document it."""
    return int(tensor._version)  # noqa: SLF001


def _on_gpu(args: tuple[Any, ...]) -> bool:
    return any(isinstance(arg, torch.Tensor) and arg.is_cuda for arg in args)


def _tensor(leaf: Any) -> Any:
    """NumPy's arrays as tensors, anything else as it is."""
    return keras.ops.convert_to_tensor(leaf) if isinstance(leaf, np.ndarray) else leaf


def _sample_norms(tensor: Tensor) -> Tensor:
    """‖·‖₂ along the last axis of a matrix `(rows, values)`, in double precision.

    The squares of finite half, bfloat16 and single precision values do not overflow there, so a
    norm is finite exactly when all its values are.
    """
    return torch.linalg.vector_norm(tensor, dim=-1, dtype=torch.float64)


def make() -> Backend:
    """The backend."""
    return Torch()
