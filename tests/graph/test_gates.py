"""Which layers gate a signal, by what follows their kernel."""

from builders import GraphBuilder

from auditor.graph.gates import gates
from auditor.graph.operators import Op


def product(build: GraphBuilder, *factors: str):
    return build.graph(build.dense(build.add(Op.MULTIPLY, *factors), 1))


def test_a_gate_is_the_factor_between_nothing_and_one() -> None:
    build = GraphBuilder()
    x = build.input((8,))
    gate, signal = build.dense(x, 8, "sigmoid"), build.dense(x, 8, "relu")
    assert gates(product(build, gate, signal)) == {gate}


def test_an_activation_of_its_own_and_a_normalization_are_looked_through() -> None:
    build = GraphBuilder()
    x = build.input((8,))
    kernel = build.dense(x, 8)
    normalized = build.add(Op.LAYER_NORM, kernel, kind="LayerNormalization")
    gate = build.add(Op.ACTIVATION, normalized, activation="sigmoid", kind="Activation")
    assert gates(product(build, gate, x)) == {kernel}


def test_two_gates_have_no_signal_and_a_kernel_before_another_activation_is_none() -> None:
    build = GraphBuilder()
    x = build.input((8,))
    assert not gates(product(build, build.dense(x, 8, "sigmoid"), build.dense(x, 8, "sigmoid")))
    build = GraphBuilder()
    x = build.input((8,))
    tanh = build.add(Op.ACTIVATION, build.dense(x, 8), activation="tanh", kind="Activation")
    gate = build.add(Op.ACTIVATION, tanh, activation="sigmoid", kind="Activation")
    assert not gates(product(build, gate, build.dense(x, 8)))


def test_what_gates_itself_is_an_activation() -> None:
    build = GraphBuilder()
    x = build.dense(build.input((8,)), 8)
    assert not gates(product(build, x, build.activation(x, "sigmoid")))


def test_a_sum_gates_nothing() -> None:
    build = GraphBuilder()
    x = build.input((8,))
    both = build.add(Op.ADD, build.dense(x, 8, "sigmoid"), build.dense(x, 8))
    assert not gates(build.graph(build.dense(both, 1)))
