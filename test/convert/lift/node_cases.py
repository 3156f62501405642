"""Writes fixtures/onnx-node-cases.json.gz: the ONNX project's own node tests for operators that an OSNet is made of.

Needs the `onnx` package; `npm test` does not. Run from the repository: python test/convert/lift/node_cases.py
Kept are cases of one node on small float32 tensors of two to four axes; numbers are base64 of little-endian bytes.
"""

import base64
import gzip
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

OPERATORS = [
    "Add", "AveragePool", "BatchNormalization", "Clip", "Conv", "Flatten", "Gemm", "GlobalAveragePool",
    "GlobalMaxPool", "Identity", "InstanceNormalization", "MatMul", "MaxPool", "Mul", "Relu", "Sigmoid", "Sum",
]  # fmt: skip
LARGEST = 2048
DTYPES = {"float32": "<f4", "int64": "<i8"}


def tensor(array):
    array = np.asarray(array)
    dtype = str(array.dtype)
    if dtype not in DTYPES or array.size > LARGEST:
        return None
    data = base64.b64encode(array.astype(DTYPES[dtype]).tobytes()).decode()
    return {"dtype": dtype, "shape": list(array.shape), "data": data}


def attribute(proto):
    value = helper.get_attribute_value(proto)
    kinds = {"INT": "int", "INTS": "ints", "FLOAT": "float", "FLOATS": "floats", "STRING": "string"}
    kind = kinds[onnx.AttributeProto.AttributeType.Name(proto.type)]
    return {"type": kind, "value": value.decode() if kind == "string" else list(value) if kind[-1] == "s" else value}


def case(test):
    graph = test.model.graph
    if len(graph.node) != 1 or test.name.endswith("_expanded"):
        return None
    node = graph.node[0]
    if node.op_type not in OPERATORS or node.domain:
        return None
    inputs, outputs = test.data_sets[0]
    arrays = [numpy_helper.to_array(x) if isinstance(x, onnx.TensorProto) else np.asarray(x) for x in inputs]
    result = np.asarray(outputs[0])
    if arrays[0].dtype != np.float32 or arrays[0].ndim not in (2, 3, 4) or result.ndim not in (2, 3, 4):
        return None
    shape = arrays[0].shape
    if test.name.endswith("_bcast") and len(arrays) == 2 and node.op_type != "MatMul":
        return None  # an activation that is spread over another one of more axes
    if len(shape) == 4 and shape[3] == 3 and shape[1] != 3:
        return None  # an image of three columns, which is taken for one of three colours in NHWC
    tensors = [tensor(array) for array in arrays]
    expected = tensor(result)
    if None in tensors or expected is None:
        return None
    names = [value.name for value in graph.input]
    return {
        "name": test.name,
        "opset": max(o.version for o in test.model.opset_import if o.domain == ""),
        "opType": node.op_type,
        "inputs": [names.index(name) if name else None for name in node.input],
        "attributes": {a.name: attribute(a) for a in node.attribute},
        "tensors": tensors,
        "expected": expected,
    }


def main():
    cases = sorted((c for c in map(case, collect_testcases()) if c), key=lambda c: c["name"])
    document = {"source": f"onnx {onnx.__version__}, onnx.backend.test.case.node", "cases": cases}
    path = Path(__file__).parents[3] / "fixtures" / "onnx-node-cases.json.gz"
    path.write_bytes(gzip.compress(json.dumps(document, separators=(",", ":")).encode(), mtime=0))
    print(f"{len(cases)} cases, {path.stat().st_size} bytes")


main()
