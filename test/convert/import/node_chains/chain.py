"""A chain: a small graph of operators from `x` to `y`, and what `y` is."""

import numpy as np
import onnxruntime
from onnx import checker, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

RNG = np.random.default_rng(7)
IMAGE = RNG.normal(0.3, 1, (2, 3, 4, 5)).astype(np.float32)
ROWS = RNG.normal(0.3, 1, (2, 3)).astype(np.float32)


def vector(*shape):
    return RNG.uniform(0.5, 1.5, shape).astype(np.float32)


def whole(*values):
    return np.array(values, np.int64)


def chain(name, body, opset=13, x=IMAGE, rounding=0, dynamic=False, **constants):
    """
    `body` is the nodes in ONNX's own syntax, which read `x` and the constants. Of a `dynamic` graph the sizes of `x`
    are not declared. `rounding` is how far integers in between put `y` from the result of real numbers, in steps of
    `y` where that is integers too.
    """
    nodes = parser.parse_graph(f"chain (float x) => (float y) {{ {body} }}").node
    domains = sorted({node.domain for node in nodes} - {""})
    initializers = [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()]

    def model_of(dtype, sizes):
        inputs = [None, x.shape[1], None, None] if dynamic else x.shape
        graph = helper.make_graph(
            nodes,
            "chain",
            [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), inputs)],
            [helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(dtype), sizes)],
            initializers,
        )
        opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="")

    # Its type makes no difference to the reference evaluator.
    y = evaluate(model_of(np.dtype(np.float32), None), x, domains)
    model = model_of(y.dtype, y.shape)
    checker.check_model(model)
    return name, model, {"x": x}, y, rounding


def evaluate(model, x, domains):
    """ONNX's reference evaluator; onnxruntime, with its optimiser off, for operators of its own."""
    if domains:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    else:
        session = ReferenceEvaluator(model)
    return session.run(None, {"x": x})[0]
