"""Writes fixtures/onnx-node-cases.json.gz: the ONNX project's own node tests for operators that an OSNet is made of.

Needs the `onnx` and `onnxruntime` packages; `npm test` does not. Run from the repository, it also enters the fixture in
fixtures/manifest.json: python test/convert/import/node_cases.py

Kept are tests of one node on small tensors, as models: on activations, where every other input is an initializer as in
an OSNet, and on constants alone. What the node tests have no case of, as networks of images reduce, divide and
normalise, is in node_chains/. Numbers and models are base64 of little-endian bytes and of protobuf.
"""

import base64
import gzip
import hashlib
import json
from pathlib import Path

import node_chains
import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

ON_ACTIVATIONS = [
    "Add", "AveragePool", "BatchNormalization", "Clip", "Conv", "Div", "Dropout", "Flatten", "Gather", "GatherND",
    "Gemm", "GlobalAveragePool", "GlobalMaxPool", "Identity", "InstanceNormalization", "LayerNormalization",
    "LpNormalization", "MatMul", "Max", "MaxPool", "Mul", "Pad", "ReduceMax", "ReduceMean", "Relu", "Sigmoid",
    "Sub", "Sum",
]  # fmt: skip
ON_CONSTANTS = [
    "Cast", "CastLike", "Concat", "Constant", "ConstantOfShape", "DequantizeLinear", "Equal", "Expand", "Identity",
    "Not", "Reshape", "Shape", "Size", "Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze",
]  # fmt: skip
JOINS = ["Add", "Div", "Max", "Mul", "Sub", "Sum"]
LARGEST = 2048
FIXTURES = Path(__file__).parents[3] / "fixtures"
DTYPES = {
    "bool": "?", "float16": "<f2", "float32": "<f4", "float64": "<f8", "int16": "<i2", "int32": "<i4", "int64": "<i8",
    "int8": "i1", "uint8": "u1",
}  # fmt: skip


def stored(array):
    data = base64.b64encode(array.astype(DTYPES[str(array.dtype)]).tobytes()).decode()
    return {"dtype": str(array.dtype), "shape": list(array.shape), "data": data}


def record(name, model, feeds, expected, rounding=0):
    """`rounding` is how far integers in between may put the result from the one of real numbers."""
    return {
        "name": name,
        "model": base64.b64encode(model.SerializeToString()).decode(),
        "feeds": {key: stored(value) for key, value in feeds.items()},
        "expected": stored(expected),
        **({"rounding": rounding} if rounding else {}),
    }


def arrays(values):
    return [numpy_helper.to_array(x) if isinstance(x, onnx.TensorProto) else np.asarray(x) for x in values]


def is_small(*values):
    return all(str(x.dtype) in DTYPES and x.size <= LARGEST for x in values)


def is_activation(name, x, y):
    if x.dtype != np.float32 or x.ndim not in (2, 3, 4) or y.ndim not in (2, 3, 4):
        return False
    # An image of three columns is taken for one of three colours in NHWC.
    return x.ndim != 4 or x.shape[3] != 3 or x.shape[1] == 3


def with_constants(test, inputs, live):
    """The test's model with all inputs but the live ones as initializers, and what those are fed."""
    model = onnx.ModelProto()
    model.CopyFrom(test.model)
    values = list(model.graph.input)
    del model.graph.input[:]
    feeds = {}
    for value, array in zip(values, inputs, strict=True):
        if value.name in live:
            model.graph.input.append(value)
            feeds[value.name] = array
        else:
            model.graph.initializer.append(numpy_helper.from_array(array, value.name))
    return model, feeds


def cases(test):
    graph = test.model.graph
    if len(graph.node) != 1 or test.name.endswith("_expanded") or graph.node[0].domain:
        return
    (node,) = graph.node
    if node.op_type not in ON_ACTIVATIONS + ON_CONSTANTS:
        return
    inputs, outputs = map(arrays, test.data_sets[0])
    result = outputs[0]
    if not is_small(*inputs, result) or not all(value.type.HasField("tensor_type") for value in graph.input):
        return
    if node.op_type in ON_ACTIVATIONS and is_activation(test.name, inputs[0], result):
        alike = node.op_type in JOINS and all(x.shape == inputs[0].shape for x in inputs)
        live = list(node.input) if alike else node.input[:1]
        yield record(test.name, *with_constants(test, inputs, live), result)
    if node.op_type in ON_CONSTANTS:
        # A constant keeps its own bits: only casts that give the same numbers are of interest.
        is_cast = node.op_type in ("Cast", "CastLike")
        if not is_cast or np.array_equal(inputs[0], result.astype(np.float64), equal_nan=True):
            yield record(f"{test.name} of constants", *with_constants(test, inputs, []), result)


def enter(file, holds, made_by):
    """Says in the manifest what the fixture is."""
    path = FIXTURES / "manifest.json"
    manifest = json.loads(path.read_text())
    sha256 = hashlib.sha256((FIXTURES / file).read_bytes()).hexdigest()
    entry = {"file": file, "holds": holds, "madeBy": made_by, "sha256": sha256}
    manifest["files"] = [entry if old["file"] == file else old for old in manifest["files"]]
    path.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def main():
    tests = sorted(collect_testcases(), key=lambda test: test.name)
    found = [case for test in tests for case in cases(test)]
    chains = [record(*chain) for chain in node_chains.chains()]
    text = json.dumps({"cases": found + chains}, separators=(",", ":"))
    file = "onnx-node-cases.json.gz"
    (FIXTURES / file).write_bytes(gzip.compress(text.encode(), mtime=0))
    enter(
        file,
        f"{len(found)} of the ONNX project's node tests, and {len(chains)} chains of operators as OSNets use them: "
        "models, inputs and results",
        f"test/convert/import/node_cases.py from the onnx package {onnx.__version__}, its reference evaluator, and "
        f"onnxruntime {onnxruntime.__version__} for its own operators",
    )


main()
