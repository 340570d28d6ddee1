"""What the probe of an ONNX file costs beside that of the same model from `.keras`.

    python bench/onnx_probe_cost.py                        # makes a pair of files, needs torch
    python bench/onnx_probe_cost.py MODEL.keras MODEL.onnx # or takes one

The pair is a residual network of 61 MiB at 128 pixels, written by Keras, and the same weights
exported by `torch.onnx.export` from Keras on torch with its normalizations left as they are. The
model is not compiled, as an ONNX file never is: a probe tries an optimizer's steps otherwise. Each
is audited with `geb-audit --probe --no-html` in a fresh process, in turns; then each is probed
once more with the time of each phase told. Fails where the ONNX file takes more than 1.5 times as
long.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from processes import Case

#: The bound that is held.
AGAINST_KERAS = 1.5
#: In torch the channels come first, as ONNX has them; kernels are stored alike.
MAKE = """
import sys, warnings
import keras
from keras.src.applications import resnet

def blocks(x):
    for name, filters, stride in (("a", 64, 1), ("b", 128, 2), ("c", 256, 2), ("d", 512, 2)):
        x = resnet.stack_residual_blocks_v1(x, filters, 2, stride1=stride, name=name)
    return x

def made(shape):
    keras.utils.set_random_seed(0)
    return resnet.ResNet(blocks, False, True, name="resnet26", weights=None, input_shape=shape)

model = made((128, 128, 3))
model.save(sys.argv[1])
import torch
weights = model.get_weights()
keras.config.set_image_data_format("channels_first")
model = made((3, 128, 128))
model.set_weights(weights)
model.eval()
warnings.simplefilter("ignore")
torch.onnx.export(
    model,
    (torch.zeros(2, 3, 128, 128),),
    sys.argv[2],
    dynamo=False,
    do_constant_folding=False,
    training=torch.onnx.TrainingMode.PRESERVE,
    input_names=["images"],
    dynamic_axes={"images": {0: "batch"}},
    opset_version=18,
)
"""


def pair(folder: Path) -> tuple[Path, Path]:
    """The model as .keras and .onnx."""
    paths = folder / "resnet26.keras", folder / "resnet26.onnx"
    command = [sys.executable, "-c", MAKE, *map(str, paths)]
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return paths


def walls(paths: tuple[Path, Path], folder: Path, repeats: int) -> tuple[Case, Case]:
    """Audits of both files, in turns."""
    tool = str(Path(sys.executable).with_name("geb-audit"))
    options = ["--probe", "--no-html", "--isolated", "--timeout", "1200"]
    keras_case, onnx_case = (
        Case(name=path.name, command=[tool, str(path), *options], poll_s=0.5) for path in paths
    )
    for _ in range(repeats):
        keras_case.run(folder)
        onnx_case.run(folder)
    return keras_case, onnx_case


def phases(path: Path) -> dict[str, float]:
    """Seconds between what the probe tells of its progress, by phase."""
    from auditor.probe.settings import ProbeSettings
    from auditor.probe.worker import probe_file

    told: list[tuple[float, str]] = [(time.perf_counter(), "starting")]
    settings = ProbeSettings(timeout_s=1200.0)
    probe_file(path, settings, lambda words: told.append((time.perf_counter(), words)))
    told.append((time.perf_counter(), ""))
    spent: dict[str, float] = {}
    for (begun, words), (ended, _) in pairwise(told):
        phase = words.partition(":")[0].partition(",")[0].rstrip("0123456789 of")
        spent[phase] = spent.get(phase, 0.0) + ended - begun
    return spent


def main() -> int:
    """Print both, and 1 where the bound does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--repeats", type=int, default=1)
    chosen = parser.parse_args()
    if len(chosen.files) not in (0, 2):
        parser.error("give a .keras and an .onnx file, or none")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory(prefix="geb-bench-") as name:
        folder = Path(name)
        if chosen.files:
            paths = chosen.files[0].resolve(), chosen.files[1].resolve()
        else:
            paths = pair(folder)
        cases = walls(paths, folder, chosen.repeats)
        spent = [phases(path) for path in paths]
    median = [statistics.median(case.seconds) for case in cases]
    print("geb-audit --probe --no-html, wall time and peak memory")
    for case, seconds in zip(cases, median, strict=True):
        print(
            f"  {case.name:28} {seconds:7.1f} s {case.peak_mib:8.0f} MiB"
            f"   ({', '.join(f'{one:.1f}' for one in case.seconds)})"
        )
    factor = median[1] / median[0]
    print(f"  time {factor:.2f} x (at most {AGAINST_KERAS})")
    print(f"the probe by phase{'':26} {'.keras':>8}   {'.onnx':>8}")
    for phase in dict.fromkeys((*spent[0], *spent[1])):
        times = "   ".join(f"{of.get(phase, 0.0):6.2f} s" for of in spent)
        print(f"  {phase:42} {times}")
    return 0 if factor <= AGAINST_KERAS else 1


if __name__ == "__main__":
    sys.exit(main())
