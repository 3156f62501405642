"""Small graphs of operators as OSNets use them, each with the result of ONNX's reference evaluator.

ONNX's node tests reduce, gather, divide and normalise over other axes than networks of images do, and join no
operators.
Of operators in onnxruntime's own domain the result is onnxruntime's, with its optimiser off.
"""

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

MICROSOFT = "com.microsoft"
SHAPE = (2, 3, 4, 5)
PLANE = np.array([2, 3], np.int64)
RNG = np.random.default_rng(7)
IMAGE = RNG.normal(0.3, 1, SHAPE).astype(np.float32)
ROWS = RNG.normal(0.3, 1, (2, 3)).astype(np.float32)
# Whole multiples of a step of 1/16, so that quantising takes nothing from them.
STEP = 1 / 16
STEPS = (RNG.integers(-100, 100, SHAPE) * STEP).astype(np.float32)
STEP_ROWS = (RNG.integers(-100, 100, (2, 3)) * STEP).astype(np.float32)
# From 0 to 255 steps, which makes 1/16 the step of DynamicQuantizeLinear.
BYTES = (np.r_[0, 255, RNG.integers(0, 256, 118)].reshape(SHAPE) * STEP).astype(np.float32)
BYTE_ROWS = (np.array([[0, 255, 31], [200, 90, 7]]) * STEP).astype(np.float32)


def node(op, inputs, outputs, domain="", **attributes):
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(op, names, outputs.split(), domain=domain, **attributes)


def chain(name, opset, nodes, constants=None, x=IMAGE, rounding=0):
    """From `x` to `y`."""
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    initializers = [numpy_helper.from_array(np.asarray(value), key) for key, value in (constants or {}).items()]
    used = {n.domain for n in nodes} - {""}

    def model_of(result):
        inputs = [helper.make_tensor_value_info("x", kind, x.shape)]
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, result)]
        graph = helper.make_graph(nodes, "chain", inputs, outputs, initializers)
        opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in sorted(used))]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="")

    model = model_of(None)
    if used:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    else:
        session = ReferenceEvaluator(model)
    (y,) = session.run(None, {"x": x})
    model = model_of(y.shape)
    checker.check_model(model)
    return name, model, {"x": x}, y, rounding


def vector(*shape):
    return RNG.uniform(0.5, 1.5, shape).astype(np.float32)


def whole(*values):
    return np.array(values, np.int64)


AFFINE = {"weight": vector(3, 1, 1), "bias": vector(3, 1, 1), "epsilon": np.float32(1e-3)}
POOL = node("GlobalAveragePool", "x", "a")
FLAT = [POOL, node("Flatten", "a", "f", axis=1)]
LINEAR = {"weight": vector(3, 4), "bias": vector(4)}
PRODUCT = [node("MatMul", "f weight", "g"), node("Add", "g bias", "y")]


def moments(axes=None):
    """The mean of x and the square root of its variance, over axes that are an attribute or else the input `axes`."""
    own = {"axes": axes, "keepdims": 1} if axes else {"keepdims": 1}
    given = "" if axes else " axes"
    return [
        node("ReduceMean", "a" + given, "mean", **own),
        node("Sub", "a mean", "centred"),
        node("Mul", "centred centred", "squares") if axes else node("Pow", "centred two", "squares"),
        node("ReduceMean", "squares" + given, "variance", **own),
        node("Add", "variance epsilon", "stabilised"),
        node("Sqrt", "stabilised", "deviation"),
    ]


SCALED = [node("Mul", "normalised weight", "scaled"), node("Add", "scaled bias", "y")]
QUOTIENT = [node("Div", "centred deviation", "normalised"), *SCALED]


def pools():
    yield chain(
        "ReduceMean over the plane, axes as an attribute", 13, [node("ReduceMean", "x", "y", axes=[2, 3], keepdims=1)]
    )
    yield chain(
        "ReduceMean over the plane, axes as an input",
        18,
        [node("ReduceMean", "x axes", "y", keepdims=1)],
        {"axes": PLANE},
    )
    yield chain("ReduceMean to rows, axes from the end", 11, [node("ReduceMean", "x", "y", axes=[-1, -2], keepdims=0)])
    yield chain("ReduceMax over the plane, axes as an input", 18, [node("ReduceMax", "x axes", "y")], {"axes": PLANE})
    rest = [
        node("Sub", "x rough", "rest"),
        node("ReduceMean", "rest", "more", axes=[2, 3]),
        node("Add", "rough more", "y"),
    ]
    yield chain("ReduceMean of what a ReduceMean leaves", 13, [node("ReduceMean", "x", "rough", axes=[2, 3]), *rest])
    yield chain(
        "AveragePool",
        13,
        [node("AveragePool", "x", "y", ceil_mode=0, kernel_shape=[2, 2], pads=[0] * 4, strides=[2, 2])],
    )
    yield chain("AveragePool of the whole plane", 13, [node("AveragePool", "x", "y", kernel_shape=[4, 5])])
    yield chain(
        "MaxPool", 13, [node("MaxPool", "x", "y", ceil_mode=0, kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2])]
    )


def norms():
    layer = node("LayerNormalization", "a weight bias", "y", axis=1, epsilon=1e-3)
    yield chain(
        "LayerNormalization of a pooled map", 17, [POOL, layer], {key: AFFINE[key] for key in ("weight", "bias")}
    )
    yield chain("LayerNormalization spelled out", 11, [POOL, *moments([1, 2, 3]), *QUOTIENT], AFFINE)
    copied = node("Identity", "x", "a")
    given = {**AFFINE, "axes": PLANE, "two": np.float32(2)}
    yield chain("InstanceNormalization spelled out, axes as an input", 18, [copied, *moments(), *QUOTIENT], given)
    inverse = node("Reciprocal", "deviation", "inverse")
    product = [*moments([2, 3]), inverse, node("Mul", "centred inverse", "normalised"), *SCALED]
    yield chain("InstanceNormalization by Reciprocal", 13, [copied, *product], AFFINE)
    moved = [
        node("Mul", "inverse weight", "factor"),
        node("Mul", "mean factor", "offset"),
        node("Sub", "bias offset", "shift"),
        node("Mul", "a factor", "scaled"),
        node("Add", "scaled shift", "y"),
    ]
    yield chain(
        "InstanceNormalization as TensorFlow writes it", 13, [copied, *moments([2, 3]), inverse, *moved], AFFINE
    )
    ends = [
        node("Unsqueeze", "gamma axes", "weight"),
        node("InstanceNormalization", "x ones zeros", "normalised", epsilon=1e-3),
        *SCALED,
    ]
    gamma = {"gamma": vector(3), "axes": whole(1, 2), "ones": np.ones(3, np.float32), "zeros": np.zeros(3, np.float32)}
    yield chain("InstanceNormalization scaled afterwards", 13, ends, {**gamma, "bias": AFFINE["bias"]})
    yield chain("Mul and Add as a batch norm", 13, [node("Mul", "x weight", "a"), node("Add", "a bias", "y")], AFFINE)


def pixels():
    order = {"order": whole(2, 1, 0)}
    yield chain("Gather of channels", 13, [node("Gather", "x order", "y", axis=1)], order)
    backwards = {"starts": whole(-1), "ends": whole(-(2**31)), "axes": whole(1), "steps": whole(-1)}
    yield chain("Slice backwards through the channels", 13, [node("Slice", "x starts ends axes steps", "y")], backwards)
    normalised = [node("Div", "a white", "b"), node("Sub", "b mean", "c"), node("Div", "c deviation", "y")]
    bytes_ = RNG.integers(0, 256, SHAPE).astype(np.uint8)
    constants = {"white": np.float32(255), "mean": vector(3, 1, 1), "deviation": vector(3, 1, 1)}
    cast = node("Cast", "x", "a", to=TensorProto.FLOAT)
    yield chain("Cast, Div and Sub of pixels", 13, [cast, *normalised], constants, bytes_)
    turned = [node("Transpose", "x", "a", perm=[0, 3, 1, 2]), node("Relu", "a", "b"), node("Conv", "b weight", "y")]
    yield chain("Transpose from NHWC", 13, turned, {"weight": vector(4, 3, 1, 1)}, IMAGE.transpose(0, 2, 3, 1).copy())


def windows():
    # As torch writes paddings: of the last axis first, before and after, and zeros for all other axes.
    pads = [
        node("ConstantOfShape", "four", "rest", value=numpy_helper.from_array(whole(0))),
        node("Concat", "ones rest", "backwards", axis=0),
        node("Reshape", "backwards pairs", "table"),
        node("Slice", "table end start first end", "turned"),
        node("Transpose", "turned", "columns", perm=[1, 0]),
        node("Reshape", "columns end", "list"),
        node("Cast", "list", "pads", to=TensorProto.INT64),
    ]
    first = {"four": whole(4), "ones": whole(1, 1, 1, 1), "pairs": whole(-1, 2)}
    first |= {"end": whole(-1), "start": whole(-(2**63) + 1), "first": whole(0)}
    pool = node("MaxPool", "a", "y", kernel_shape=[3, 3], strides=[2, 2])
    lowest = {"lowest": np.float32(-np.inf)}
    yield chain(
        "Pad by computed numbers before MaxPool",
        13,
        [*pads, node("Pad", "x pads lowest", "a"), pool],
        {**first, **lowest},
    )
    conv = [node("Pad", "x pads", "a"), node("Conv", "a weight", "y")]
    yield chain("Pad before Conv", 13, conv, {"pads": whole(0, 0, 1, 1, 0, 0, 1, 1), "weight": vector(2, 3, 3, 3)})
    attributes = {"dilations": [1, 1], "group": 3, "kernel_shape": [3, 3], "pads": [1] * 4, "strides": [2, 2]}
    each = {"weight": vector(3, 1, 3, 3), "bias": vector(3)}
    yield chain("Conv of each channel", 13, [node("Conv", "x weight bias", "y", **attributes)], each)
    zeros = [node("Expand", "zero shape", "bias"), node("Conv", "x weight bias", "y")]
    yield chain(
        "Expand as a bias", 13, zeros, {"zero": np.float32(0.5), "shape": whole(2), "weight": vector(2, 3, 1, 1)}
    )
    yield chain("Max with zero", 13, [node("Max", "x zero", "y")], {"zero": np.float32(0)})
    terms = [node("Relu", "x", "a"), node("Sigmoid", "x", "b"), node("Sum", "x a b", "y")]
    yield chain("Sum of three", 13, terms)
    yield chain("Dropout", 13, [node("Dropout", "x", "a"), node("Relu", "a", "y")])


def rows():
    yield chain("Flatten, MatMul and Add", 13, [*FLAT, *PRODUCT], LINEAR)
    reshaped = [POOL, node("Reshape", "a shape", "f"), *PRODUCT]
    yield chain("Reshape, MatMul and Add", 13, reshaped, {**LINEAR, "shape": whole(0, -1)})
    sizes = [
        node("Shape", "a", "sizes"),
        node("Gather", "sizes first", "batch", axis=0),
        node("Concat", "batch rest", "shape", axis=0),
    ]
    computed = [POOL, *sizes, *reshaped[1:]]
    yield chain("Reshape by a computed shape", 13, computed, {**LINEAR, "first": whole(0), "rest": whole(-1)})
    yield chain(
        "Squeeze, MatMul and Add", 13, [POOL, node("Squeeze", "a axes", "f"), *PRODUCT], {**LINEAR, "axes": PLANE}
    )
    pixel = [*FLAT, PRODUCT[0], node("Unsqueeze", "g axes", "y")]
    yield chain("Unsqueeze after MatMul", 13, pixel, {"weight": LINEAR["weight"], "axes": PLANE})
    gate = [POOL, node("Sigmoid", "a", "gate"), node("Mul", "x gate", "y")]
    yield chain("Mul by a gate", 13, gate)
    floor = {"floor": np.float32(1e-12)}
    yield chain("LpNormalization", 13, [*FLAT, node("LpNormalization", "f", "y", axis=1, p=2)])
    length = [node("ReduceL2", "f", "n", axes=[1], keepdims=1), node("Clip", "n floor", "d"), node("Div", "f d", "y")]
    yield chain("ReduceL2, Clip and Div", 13, [*FLAT, *length], floor)
    length = [node("Mul", "f f", "q"), node("ReduceSum", "q axes", "s", keepdims=1), node("Sqrt", "s", "n")]
    yield chain(
        "Mul, ReduceSum, Sqrt, Max and Div",
        13,
        [*FLAT, *length, node("Max", "n floor", "d"), node("Div", "f d", "y")],
        {**floor, "axes": whole(1)},
    )


def quantise(value, at, step, **attributes):
    """Nodes and constants that quantise a value by a step, around `zero`."""
    return [node("QuantizeLinear", f"{value} {at}.step zero", at, **attributes)], {f"{at}.step": np.float32(step)}


ZERO = {"zero": np.uint8(128)}


def integers():
    into, step = quantise("x", "q", STEP)
    out = node("DequantizeLinear", "r r.step zero", "y")
    per_channel = np.array([1 / 32, 1 / 64], np.float32)
    kernel = RNG.integers(-12, 13, (2, 3, 3, 3)).astype(np.int8)
    weight = {"w": kernel, "w.step": per_channel, "w.zero": np.zeros(2, np.int8)}
    shift = {"shift": RNG.integers(-999, 999, 2).astype(np.int32)}
    given = {**ZERO, **step, **weight, **shift, "r.step": np.float32(1 / 4)}
    conv = node("QLinearConv", "q q.step zero w w.step w.zero r.step zero shift", "r", pads=[1] * 4)
    yield chain("QLinearConv", 21, [*into, conv, out], given, STEPS, 1 / 8)
    # From 0 upwards: a ReLU that quantisers leave to the type.
    clipped = node("QLinearConv", "q q.step zero w w.step w.zero r.step least shift", "r", pads=[1] * 4)
    out_of = node("DequantizeLinear", "r r.step least", "y")
    yield chain("QLinearConv above zero", 21, [*into, clipped, out_of], {**given, "least": np.uint8(0)}, STEPS, 1 / 8)
    qdq = [
        *into,
        node("DequantizeLinear", "q q.step zero", "d"),
        node("DequantizeLinear", "w w.step w.zero", "weight", axis=0),
        node("Conv", "d weight", "y"),
    ]
    yield chain("QuantizeLinear and DequantizeLinear around Conv", 21, qdq, {**ZERO, **step, **weight}, STEPS)
    matrix = {"w": RNG.integers(-99, 99, (3, 4)).astype(np.int8), "w.step": np.float32(1 / 64), "w.zero": np.int8(3)}
    product = node("QLinearMatMul", "q q.step zero w w.step w.zero r.step zero", "r")
    given = {**ZERO, **step, **matrix, "r.step": np.float32(1 / 4)}
    yield chain("QLinearMatMul", 21, [*into, product, out], given, STEP_ROWS, 1 / 8)
    dynamic = node("DynamicQuantizeLinear", "x", "q q.step q.zero")
    ends = [
        node("Cast", "i", "i.float", to=TensorProto.FLOAT),
        node("Mul", "q.step w.step", "steps"),
        node("Mul", "i.float steps", "y"),
    ]
    conv = node("ConvInteger", "q w q.zero", "i")
    yield chain(
        "DynamicQuantizeLinear and ConvInteger",
        21,
        [dynamic, conv, *ends],
        {"w": kernel, "w.step": np.float32(1 / 32)},
        BYTES,
    )
    product = node("MatMulInteger", "q w q.zero w.zero", "i")
    yield chain("DynamicQuantizeLinear and MatMulInteger", 21, [dynamic, product, *ends], matrix, BYTE_ROWS)


def microsoft():
    kernel, addend = {"weight": vector(3, 3, 1, 1), "bias": vector(3)}, node("Sigmoid", "x", "z")
    fused = node("FusedConv", "x weight bias z", "y", MICROSOFT, activation="Relu")
    yield chain("FusedConv", 13, [addend, fused], kernel)
    fused = node("FusedGemm", "x weight bias", "y", MICROSOFT, activation="Sigmoid", transB=0)
    yield chain("FusedGemm", 13, [fused], LINEAR, ROWS)
    fused = node("FusedMatMul", "x weight", "y", MICROSOFT, transB=1)
    yield chain("FusedMatMul", 13, [fused], {"weight": vector(4, 3)}, ROWS)

    into, step = quantise("x", "q", STEP, domain=MICROSOFT)
    out = node("DequantizeLinear", "r r.step zero", "y", MICROSOFT)
    given = {**ZERO, **step, "r.step": np.float32(1 / 8)}
    sigmoid, fraction = quantise("z", "s", 1 / 128, domain=MICROSOFT)
    added = node("QLinearAdd", "q q.step zero s s.step zero r.step zero", "r", MICROSOFT)
    # Half a step of the sum, and half a step of its second term.
    yield chain("QLinearAdd", 13, [*into, addend, *sigmoid, added, out], {**given, **fraction}, STEPS, 1 / 16 + 1 / 256)
    pooled = node(
        "QLinearAveragePool", "q q.step zero r.step zero", "r", MICROSOFT, kernel_shape=[2, 2], strides=[2, 2]
    )
    yield chain("QLinearAveragePool", 13, [*into, pooled, out], given, STEPS, 1 / 16)
    gate = [
        node("QLinearGlobalAveragePool", "q q.step zero p.step zero", "p", MICROSOFT, channels_last=0),
        node("QLinearSigmoid", "p p.step zero s.step zero", "s", MICROSOFT),
        node("QLinearMul", "q q.step zero s s.step zero r.step zero", "r", MICROSOFT),
    ]
    # Half a step of the mean by the sigmoid's slope, and half of its own, times the map; half a step of the product.
    rounding = float((1 / 64 / 2 / 4 + 1 / 256) * np.abs(STEPS).max() + 1 / 16)
    yield chain(
        "A gate of integers",
        13,
        [*into, *gate, out],
        {**given, **fraction, "p.step": np.float32(1 / 64)},
        STEPS,
        rounding,
    )

    matrix = {"w": RNG.integers(-99, 99, (3, 4)).astype(np.int8), "w.step": np.float32(1 / 64), "w.zero": np.int8(3)}
    shift = RNG.integers(-999, 999, 4).astype(np.int32)
    product = node("QGemm", "q q.step zero w w.step w.zero shift", "y", MICROSOFT)
    yield chain("QGemm to floats", 13, [*into, product], {**ZERO, **step, **matrix, "shift": shift}, STEP_ROWS)
    product = node("QGemm", "q q.step zero w w.step w.zero shift r.step zero", "r", MICROSOFT)
    given = {**ZERO, **step, **matrix, "shift": shift, "r.step": np.float32(1 / 4)}
    yield chain("QGemm to integers", 13, [*into, product, out], given, STEP_ROWS, 1 / 8)
    bias = {"bias": LINEAR["bias"]}
    product = node("DynamicQuantizeMatMul", "x w w.step w.zero bias", "y", MICROSOFT)
    yield chain("DynamicQuantizeMatMul", 13, [product], {**matrix, **bias}, BYTE_ROWS)
    dynamic = node("DynamicQuantizeLinear", "x", "q q.step q.zero")
    product = node("MatMulIntegerToFloat", "q w q.step w.step q.zero w.zero bias", "y", MICROSOFT)
    yield chain("MatMulIntegerToFloat", 13, [dynamic, product], {**matrix, **bias}, BYTE_ROWS)


def departures():
    """What is like a layer of an OSNet and is none."""
    layer = node("LayerNormalization", "a weight", "y", axis=2)
    yield chain("LayerNormalization of single pixels", 17, [POOL, layer], {"weight": vector(1, 1)})
    yield chain("Gather of rows", 13, [node("Gather", "x order", "y", axis=2)], {"order": whole(2, 1, 0)})
    weight = {"weight": vector(2, 3, 3, 3)}
    for auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        conv = node("Conv", "x weight", "y", auto_pad=auto_pad, strides=[2, 2])
        yield chain(f"Conv with {auto_pad} of an odd row", 13, [conv], weight)


def chains():
    for kind in (pools, norms, pixels, windows, rows, integers, microsoft, departures):
        yield from kind()
