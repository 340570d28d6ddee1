"""A static audit imports no ML framework, though all are installed."""

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

FRAMEWORKS = ("keras", "tensorflow", "jax", "torch")

PROGRAM = """
import sys
from auditor.cli import cli
code = cli.main([*sys.argv[1:]], standalone_mode=False)
seen = {name.partition(".")[0] for name in sys.modules}
print(code, sorted(seen & {"keras", "tensorflow", "jax", "torch"}))
"""


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".onnx"])
def test_no_framework_is_imported(
    suffix: str, example: Callable[..., Path], tmp_path: Path
) -> None:
    assert find_spec("tensorflow"), "the test proves nothing where no framework is installed"
    path = onnx_model(tmp_path) if suffix == ".onnx" else example("healthy_cnn", suffix)
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-c",
            PROGRAM,
            path,
            "--no-probe",
            "-o",
            "text",
            "-o",
            "html=r.html",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["0 []"], done.stdout + done.stderr


def onnx_model(folder: Path) -> Path:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    kernel = np.random.default_rng(0).normal(0, 0.3, (8, 4)).astype("float32")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(kernel, "w")],
    )
    onnx.save(helper.make_model(graph), folder / "m.onnx")
    return folder / "m.onnx"
