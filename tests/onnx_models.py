"""A concise way to build ONNX models, and the models that tests of the ONNX reader share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Dims = Sequence[int | str | None]


def value(name: str, dims: Dims | None, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, dims)


@dataclass
class Maker:
    """Gathers nodes and initializers; `node` and `weight` give the name of what they add."""

    seed: int = 0
    opset: int = 17
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)
    functions: list[onnx.FunctionProto] = field(default_factory=list)
    domains: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def weight(self, name: str, *shape: int, dtype: str = "float32") -> str:
        """A float tensor drawn with variance 1 / fan-in of a (in, out) kernel."""
        scale = 1 / np.sqrt(shape[0]) if shape else 1.0
        return self.tensor(name, (self.random.standard_normal(shape) * scale).astype(dtype))

    def tensor(self, name: str, values: Any, dtype: str | None = None) -> str:
        self.tensors.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def constant(self, values: Any, dtype: str = "float32") -> str:
        tensor = numpy_helper.from_array(np.asarray(values, dtype))
        return self.node("Constant", value=tensor)

    def node(
        self,
        op_type: str,
        *inputs: str,
        name: str = "",
        outputs: Sequence[str] | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> str:
        names = outputs or [f"{op_type.lower()}_{len(self.nodes)}"]
        made = helper.make_node(op_type, inputs, names, name=name, domain=domain, **attributes)
        self.nodes.append(made)
        return names[0]

    def model(
        self,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[str | onnx.ValueInfoProto],
        *,
        value_info: Sequence[onnx.ValueInfoProto] = (),
        name: str = "test",
    ) -> onnx.ModelProto:
        declared = [value(o, None) if isinstance(o, str) else o for o in outputs]
        graph = helper.make_graph(
            self.nodes, name, inputs, declared, self.tensors, value_info=value_info
        )
        opsets = [helper.make_opsetid("", self.opset)]
        opsets += [helper.make_opsetid(domain, 1) for domain in self.domains]
        return helper.make_model(
            graph,
            functions=self.functions,
            opset_imports=opsets,
            ir_version=10,
            producer_name="maker",
            producer_version="1.0",
        )


def dense(maker: Maker, x: str, name: str, n_in: int, n_out: int) -> str:
    """A dense layer as TorchScript writes it for more than two axes: MatMul and Add."""
    kernel = maker.weight(f"{name}.weight", n_in, n_out)
    bias = maker.tensor(f"{name}.bias", np.zeros(n_out), "float32")
    product = maker.node("MatMul", x, kernel, name=f"/{name}/MatMul")
    return maker.node("Add", product, bias, name=f"/{name}/Add")


def mlp() -> onnx.ModelProto:
    """4 → 8 relu → 3 softmax, batch named "n"."""
    maker = Maker()
    h = maker.node("Relu", dense(maker, "x", "fc1", 4, 8), name="/act1/Relu")
    y = maker.node("Softmax", dense(maker, h, "fc2", 8, 3), name="/Softmax", axis=-1)
    return maker.model([value("x", ["n", 4])], [value(y, ["n", 3])])


def cnn() -> onnx.ModelProto:
    """Conv, batch normalization, relu, depthwise conv, max pool, flatten, Gemm."""
    maker = Maker()
    x = maker.node("Conv", "x", maker.weight("conv.weight", 8, 3, 3, 3), name="/conv/Conv",
                   pads=[1, 1, 1, 1], kernel_shape=[3, 3])  # fmt: skip
    statistics = [
        maker.tensor("bn.weight", np.ones(8), "float32"),
        maker.tensor("bn.bias", np.zeros(8), "float32"),
        maker.tensor("bn.running_mean", np.zeros(8), "float32"),
        maker.tensor("bn.running_var", np.ones(8), "float32"),
    ]
    x = maker.node("BatchNormalization", x, *statistics, name="/bn/BatchNormalization")
    x = maker.node("Relu", x, name="/relu/Relu")
    kernels = maker.weight("dw.weight", 8, 1, 3, 3), maker.weight("dw.bias", 8)
    x = maker.node("Conv", x, *kernels, name="/dw/Conv", group=8, strides=[2, 2])
    x = maker.node("MaxPool", x, name="/pool/MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    x = maker.node("Flatten", x, name="/Flatten")
    kernels = maker.weight("fc.weight", 10, 72), maker.weight("fc.bias", 10)
    y = maker.node("Gemm", x, *kernels, name="/fc/Gemm", transB=1)
    return maker.model([value("x", ["n", 3, 15, 15])], [y])


def layer_norm(maker: Maker, x: str, name: str, width: int) -> str:
    """Layer normalization as TorchScript writes it below opset 17."""

    def node(op_type: str, *inputs: str) -> str:
        return maker.node(op_type, *inputs, name=f"/{name}/{op_type}_{len(maker.nodes)}")

    def mean(of: str) -> str:
        return maker.node(
            "ReduceMean", of, name=f"/{name}/ReduceMean_{len(maker.nodes)}", axes=[-1]
        )

    centred = node("Sub", x, mean(x))
    variance = mean(node("Pow", centred, maker.constant(2.0)))
    deviation = node("Sqrt", node("Add", variance, maker.constant(1e-5)))
    gamma = maker.tensor(f"{name}.weight", np.ones(width), "float32")
    beta = maker.tensor(f"{name}.bias", np.zeros(width), "float32")
    return node("Add", node("Mul", node("Div", centred, deviation), gamma), beta)


def gelu(maker: Maker, x: str) -> str:
    """GELU as TorchScript writes it below opset 20."""
    error = maker.node("Erf", maker.node("Div", x, maker.constant(2**0.5)))
    product = maker.node("Mul", x, maker.node("Add", error, maker.constant(1.0)))
    return maker.node("Mul", product, maker.constant(0.5))


def transformer_block(width: int = 8) -> onnx.ModelProto:
    """Pre-norm: x + attention(norm(x)), then + mlp(norm(·)), one head, sequence of 5."""
    maker = Maker(opset=16)
    h = layer_norm(maker, "x", "norm1", width)
    query, key, values = (dense(maker, h, f"attn/{n}", width, width) for n in ("q", "k", "v"))
    turned = maker.node("Transpose", key, name="/attn/Transpose", perm=[0, 2, 1])
    scores = maker.node("MatMul", query, turned, name="/attn/MatMul")
    scores = maker.node("Div", scores, maker.constant(width**0.5), name="/attn/Div")
    share = maker.node("Softmax", scores, name="/attn/Softmax", axis=-1)
    mixed = maker.node("MatMul", share, values, name="/attn/MatMul_1")
    x = maker.node("Add", "x", dense(maker, mixed, "attn/out", width, width), name="/Add")
    h = layer_norm(maker, x, "norm2", width)
    h = gelu(maker, dense(maker, h, "mlp/up", width, 4 * width))
    h = dense(maker, h, "mlp/down", 4 * width, width)
    y = maker.node("Add", x, h, name="/Add_1")
    return maker.model([value("x", ["n", 5, width])], [y])


def lstm() -> onnx.ModelProto:
    """Bidirectional LSTM of 3 → 2 × 4, last state, dense."""
    maker = Maker()
    kernels = (
        maker.weight("W", 2, 16, 3),
        maker.weight("R", 2, 16, 4),
        maker.weight("B", 2, 32),
    )
    maker.node("LSTM", "x", *kernels, name="/lstm/LSTM", outputs=["all", "last", "cell"],
               hidden_size=4, direction="bidirectional")  # fmt: skip
    h = maker.node("Transpose", "last", name="/Transpose", perm=[1, 0, 2])
    h = maker.node("Reshape", h, maker.constant([0, -1], "int64"), name="/Reshape")
    return maker.model([value("x", [7, "n", 3])], [dense(maker, h, "fc", 8, 1)])
