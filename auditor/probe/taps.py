"""Taps: seeing every layer call of a model while a probe runs, and only then.

Layers go through `keras.layers.Layer.__call__`; the `keras.ops` nodes of a functional graph go
through `keras.Operation.__call__`. Both are wrapped while at least one probe is active, in any
thread; only calls of the thread that activated taps are seen.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import keras

#: Told of one call: its id, the layer or operation, what it returned. What it returns in turn
#: goes on through the model in place of the outputs.
OnOutput = Callable[[str, Any, Any], Any]
#: Told of one call before it runs: its id, the layer or operation, its arguments.
OnInputs = Callable[[str, Any, tuple[Any, ...], Mapping[str, Any]], None]


class Taps:
    """Sees the layer calls of `model` in the thread that enters this context.

    A call is seen when every call around it is a container: the model itself, or a nested
    Sequential or functional model. What happens inside any other layer (wrappers, recurrent
    cells, attention, custom layers) is that layer's own business. Ids are those of
    `auditor.graph.layer_graph.LayerCall`: the path of names through nested models, with "#2",
    "#3", … for a name's later calls within one call of the model around it.
    """

    def __init__(
        self, model: Any, on_output: OnOutput, *, on_inputs: OnInputs | None = None
    ) -> None:
        self._model = model
        self._on_output = on_output
        self._on_inputs = on_inputs
        self._containers: list[_Container] = []
        self._in_layer = False
        self._around: Taps | None = None
        #: Id of the call that raised, when one did.
        self.failed_in: str | None = None

    def __enter__(self) -> Self:
        self._around = _active.taps
        _active.taps = self
        _wrap()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _active.taps = self._around
        _unwrap()

    def see(
        self,
        call: Callable[..., Any],
        operation: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Run one call, and tell of it if it is one to be seen."""
        if self._in_layer or _is_symbolic(args, kwargs):
            return call(operation, *args, **kwargs)
        if not self._containers:
            if operation is not self._model:
                return call(operation, *args, **kwargs)
            return self._run_container(_Container(prefix=""), call, operation, args, kwargs)
        call_id = self._containers[-1].number(operation.name)
        if _is_container(operation):
            container = _Container(prefix=f"{call_id}/")
            return self._run_container(container, call, operation, args, kwargs)
        if self._on_inputs is not None:
            self._on_inputs(call_id, operation, args, kwargs)
        self._in_layer = True
        try:
            outputs = call(operation, *args, **kwargs)
        except BaseException:
            self.failed_in = self.failed_in or call_id
            raise
        finally:
            self._in_layer = False
        return self._on_output(call_id, operation, outputs)

    def _run_container(
        self,
        container: _Container,
        call: Callable[..., Any],
        operation: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        self._containers.append(container)
        try:
            return call(operation, *args, **kwargs)
        finally:
            self._containers.pop()


class _Container:
    """One call of a model that holds layers: numbers the calls inside it, name by name."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._calls: dict[str, int] = {}

    def number(self, name: str) -> str:
        """The id of the next call of this name."""
        count = self._calls[name] = self._calls.get(name, 0) + 1
        return f"{self._prefix}{name}" if count == 1 else f"{self._prefix}{name}#{count}"


def _is_container(operation: Any) -> bool:
    functional = isinstance(operation, keras.Model) and isinstance(operation, keras.Function)
    return functional or isinstance(operation, keras.Sequential)


def _is_symbolic(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call only builds a graph, as inside a model that is called for the first time."""
    return any(isinstance(leaf, keras.KerasTensor) for leaf in keras.tree.flatten((args, kwargs)))


class _Active(threading.local):
    """The taps of the current thread."""

    taps: Taps | None = None


class _Wrapped:
    """How many taps are active in all threads, and the methods that stand aside meanwhile."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.originals: dict[Any, Callable[..., Any]] = {}


# Methods of classes are process-wide, so what replaces them has to be known process-wide too.
_active = _Active()
_wrapped = _Wrapped()


def _wrap() -> None:
    with _wrapped.lock:
        _wrapped.users += 1
        if _wrapped.users > 1:
            return
        for owner in (keras.layers.Layer, keras.Operation):
            _wrapped.originals[owner] = owner.__call__
            owner.__call__ = _tapped(owner.__call__, of_layers=owner is keras.layers.Layer)


def _unwrap() -> None:
    with _wrapped.lock:
        _wrapped.users -= 1
        if _wrapped.users:
            return
        for owner, original in _wrapped.originals.items():
            owner.__call__ = original
        _wrapped.originals.clear()


def _tapped(original: Callable[..., Any], *, of_layers: bool) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        taps = _active.taps
        # A layer's call passes here twice, the second time as an Operation: see it once.
        if taps is None or isinstance(operation, keras.layers.Layer) is not of_layers:
            return original(operation, *args, **kwargs)
        return taps.see(original, operation, args, kwargs)

    return call
