"""Layers of OSNets as exporters write them."""

import numpy as np

from .chain import IMAGE, RNG, ROWS, chain, vector, whole

PLANE = whole(2, 3)
ZERO = np.float32(0)
NHWC = np.ascontiguousarray(IMAGE.transpose(0, 2, 3, 1))


def pools():
    yield chain("ReduceMean over the plane, axes as an attribute", "y = ReduceMean <axes = [2, 3], keepdims = 1> (x)")
    yield chain(
        "ReduceMean over the plane, axes as an input", "y = ReduceMean <keepdims = 1> (x, axes)", 18, axes=PLANE
    )
    yield chain("ReduceMean to rows, axes from the end", "y = ReduceMean <axes = [-1, -2], keepdims = 0> (x)", 11)
    yield chain("ReduceMax over the plane", "y = ReduceMax (x, axes)", 18, axes=PLANE)
    rest = "rough = ReduceMean <axes = [2, 3]> (x) rest = Sub (x, rough) more = ReduceMean <axes = [2, 3]> (rest)"
    yield chain("ReduceMean of what a ReduceMean leaves", f"{rest} y = Add (rough, more)")
    rows_first = "a = ReduceMean <axes = [2]> (x) y = ReduceMean <axes = [3]> (a)"
    yield chain("ReduceMean of rows, then of columns", rows_first)
    other = "a = ReduceMean <axes = [2, 3]> (x) r = Relu (x) b = ReduceMean <axes = [2, 3]> (r) y = Add (a, b)"
    yield chain("ReduceMean and one of something else", other)
    window = "ceil_mode = 0, kernel_shape = [2, 2], pads = [0, 0, 0, 0], strides = [2, 2]"
    yield chain("AveragePool", f"y = AveragePool <{window}> (x)")
    yield chain("AveragePool of the whole plane", "y = AveragePool <kernel_shape = [4, 5]> (x)")
    columns = "a = AveragePool <kernel_shape = [1, 5]> (x)"
    yield chain("AveragePool of columns, then of rows", f"{columns} y = AveragePool <kernel_shape = [4, 1]> (a)")
    pairs = "a = AveragePool <kernel_shape = [1, 2]> (x)"
    yield chain("AveragePool of pairs, then of the plane", f"{pairs} y = AveragePool <kernel_shape = [4, 4]> (a)")
    window = "ceil_mode = 0, kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]"
    yield chain("MaxPool", f"y = MaxPool <{window}> (x)")
    yield chain("MaxPool of the whole plane", "y = MaxPool <kernel_shape = [4, 5]> (x)")


def norms():
    affine = {"weight": vector(3, 1, 1), "bias": vector(3, 1, 1)}
    given = {**affine, "epsilon": np.float32(1e-3)}
    pool, copy = "a = GlobalAveragePool (x)", "a = Identity (x)"

    def moments(square, axes="<axes = [2, 3], keepdims = 1> (", then=")"):
        return f"""mean = ReduceMean {axes}a{then} centred = Sub (a, mean) squares = {square}
            variance = ReduceMean {axes}squares{then} stable = Add (variance, epsilon) deviation = Sqrt (stable)"""

    product, power = "Mul (centred, centred)", "Pow (centred, two)"
    affinely = "scaled = Mul (normed, weight) y = Add (scaled, bias)"
    quotient = f"normed = Div (centred, deviation) {affinely}"
    layer = "y = LayerNormalization <axis = 1, epsilon = 0.001> (a, weight, bias)"
    yield chain("LayerNormalization of a pooled map", f"{pool} {layer}", 17, **affine)
    over_layer = moments(product, "<axes = [1, 2, 3], keepdims = 1> (")
    yield chain("LayerNormalization spelled out", f"{pool} {over_layer} {quotient}", 11, **given)
    over_input = moments(power, "<keepdims = 1> (", ", axes)")
    spelled = f"{copy} {over_input} {quotient}"
    yield chain("InstanceNormalization spelled out", spelled, 18, axes=PLANE, two=np.float32(2), **given)
    constants = "two = Constant <value_int = 2> () axes = Constant <value_ints = [2, 3]> ()"
    constants += " epsilon = Constant <value_float = 0.001> () flat = Constant <value_floats = [0.5, 1.5, 2.0]> ()"
    constants += " shape = Constant <value_ints = [3, 1, 1]> () weight = Reshape (flat, shape)"
    yield chain("InstanceNormalization of Constant nodes", f"{constants} {spelled}", 18, bias=affine["bias"])
    inverse = f"{copy} {moments(product)} inverse = Reciprocal (deviation)"
    yield chain("InstanceNormalization by Reciprocal", f"{inverse} normed = Mul (centred, inverse) {affinely}", **given)
    factor = f"{inverse} factor = Mul (inverse, weight)"
    yield chain(
        "InstanceNormalization by a factor", f"{factor} scaled = Mul (factor, centred) y = Add (scaled, bias)", **given
    )
    moved = "offset = Mul (mean, factor) shift = Sub (bias, offset) scaled = Mul (a, factor) y = Add (scaled, shift)"
    yield chain("InstanceNormalization as TensorFlow writes it", f"{factor} {moved}", **given)
    plain = "normed = InstanceNormalization <epsilon = 0.001> (x, ones, zeros) weight = Unsqueeze (gamma, axes)"
    units = {"gamma": vector(3), "axes": whole(1, 2), "ones": np.ones(3, np.float32), "zeros": np.zeros(3, np.float32)}
    yield chain("InstanceNormalization scaled afterwards", f"{plain} {affinely}", **units, bias=affine["bias"])
    twice = "a = InstanceNormalization <epsilon = 0.001> (x, gamma, beta) b = Mul (a, weight) y = Add (b, bias)"
    yield chain("InstanceNormalization with weights, Mul and Add", twice, gamma=vector(3), beta=vector(3), **affine)
    yield chain(
        "InstanceNormalization with weights, and Mul",
        "a = InstanceNormalization (x, gamma, zeros) y = Mul (a, weight)",
        **{"gamma": vector(3), "zeros": units["zeros"], "weight": affine["weight"]},
    )
    small = (IMAGE * 0.01).astype(np.float32)
    yield chain(
        "InstanceNormalization of small numbers",
        "y = InstanceNormalization (x, ones, zeros)",
        x=small,
        ones=units["ones"],
        zeros=units["zeros"],
    )
    yield chain(
        "LayerNormalization of small numbers",
        f"{pool} y = LayerNormalization <axis = 1> (a, weight)",
        17,
        x=small,
        weight=affine["weight"],
    )
    last = "a = ReduceMean <axes = [1, 2], keepdims = 1> (x) y = LayerNormalization <epsilon = 0.001> (a, gamma)"
    by_channel = "y = GroupNormalization <num_groups = 3, epsilon = 0.001> (x, gamma, beta)"
    yield chain("GroupNormalization by channel", by_channel, 21, gamma=vector(3), beta=vector(3))
    yield chain("LayerNormalization of NHWC", last, 17, x=NHWC, gamma=vector(3))
    yield chain("Mul and Add as a batch norm", "a = Mul (x, weight) y = Add (a, bias)", **affine)


def computed():
    """Weights that are computed of others, which runtimes fold before they run."""
    half = {"half": vector(3, 1, 1)}
    layer = "a = GlobalAveragePool (x) bias = Add (half, half) y = LayerNormalization <axis = 1> (a, weight, bias)"
    yield chain("LayerNormalization with a computed bias", layer, 17, weight=vector(3, 1, 1), **half)
    statistics = {"weight": vector(3), "mean": vector(3), "variance": vector(3)}
    norm = "bias = Add (half, half) y = BatchNormalization (x, weight, bias, mean, variance)"
    yield chain("BatchNormalization with a computed bias", norm, 15, half=vector(3), **statistics)
    folded = """e = Add (variance, epsilon) d = Sqrt (e) q = Div (weight, d) s = Unsqueeze (q, axes) k = Mul (kernel, s)
        n = Neg (mean) p = Mul (n, q) r = Reciprocal (two) h = Sub (p, r) y = Conv (x, k, h)"""
    kernel = {"kernel": vector(3, 3, 2, 2), "axes": whole(1, 2, 3), "two": np.float32(2)}
    yield chain("Conv with a batch norm that is folded by operators", folded, epsilon=np.float32(1e-3), **kernel, **statistics)


def pixels():
    yield chain("Gather of channels", "y = Gather <axis = 1> (x, order)", order=whole(2, 1, 0))
    first = "a = Transpose <perm = [1, 0, 2, 3]> (x) b = GatherND (a, order)"
    places = {"order": whole(2, 1, 0).reshape(3, 1)}
    yield chain("GatherND of channels", f"{first} y = Transpose <perm = [1, 0, 2, 3]> (b)", **places)
    last = "a = Gather <axis = 3> (x, order) b = Transpose <perm = [0, 3, 1, 2]> (a) y = Conv (b, weight)"
    kernel = {"weight": vector(4, 3, 1, 1)}
    yield chain("Gather of channels that come last", last, x=NHWC, order=whole(2, 1, 0), **kernel)
    backwards = {"starts": whole(-1), "ends": whole(-(2**31)), "steps": whole(-1)}
    reverse = "y = Slice (x, starts, ends, axes, steps)"
    yield chain("Slice backwards through the channels", reverse, **backwards, axes=whole(1))
    backwards = {"starts": whole(0, 2), "ends": whole(2**31, -4), "steps": whole(1, -1)}
    yield chain("Slice backwards, axes from the end", reverse, **backwards, axes=whole(-1, -3))
    everything = "a = Slice (x, starts, ends, axes) y = Relu (a)"
    yield chain("Slice of everything", everything, starts=whole(0), ends=whole(2**63 - 1), axes=whole(2))
    normalised = "a = Cast <to = 1> (x) b = Div (a, white) c = Sub (b, mean) y = Div (c, deviation)"
    image = RNG.integers(0, 256, IMAGE.shape).astype(np.uint8)
    statistics = {"white": np.float32(255), "mean": vector(3, 1, 1), "deviation": vector(3, 1, 1)}
    yield chain("Cast, Div and Sub of pixels", normalised, x=image, **statistics)
    forward = "a = Transpose <perm = [0, 3, 1, 2]> (x) b = Relu (a) y = Conv (b, weight)"
    yield chain("Transpose from NHWC", forward, x=NHWC, **kernel)


def windows():
    # As torch writes paddings: of the last axis first, before and after, and zeros for all other axes.
    pads = """rest = ConstantOfShape <value = int64[1] {0}> (four) backwards = Concat <axis = 0> (ones, rest)
        table = Reshape (backwards, pairs) turned = Slice (table, end, start, first, end)
        columns = Transpose <perm = [1, 0]> (turned) list = Reshape (columns, end) pads = Cast <to = 7> (list)"""
    listed = {"four": whole(4), "ones": whole(1, 1, 1, 1), "pairs": whole(-1, 2)}
    listed |= {"end": whole(-1), "start": whole(-(2**63) + 1), "first": whole(0)}
    pool = "a = Pad (x, pads, lowest) y = MaxPool <kernel_shape = [3, 3], strides = [2, 2]> (a)"
    yield chain("Pad by computed numbers before MaxPool", f"{pads} {pool}", **listed, lowest=np.float32(-np.inf))
    kernel = {"weight": vector(2, 3, 3, 3)}
    around = whole(0, 0, 1, 1, 0, 0, 1, 1)
    pool = "a = Relu (x) b = Pad (a, pads) y = MaxPool <kernel_shape = [3, 3], strides = [2, 2]> (b)"
    yield chain("Pad with zeros before MaxPool of a ReLU", pool, pads=around)
    yield chain("Pad by nothing", "a = Pad (x, pads) y = Relu (a)", pads=around * 0)
    yield chain("Pad before Conv", "a = Pad (x, pads) y = Conv (a, weight)", pads=around, **kernel)
    biased = "a = Conv (x, weight, bias) y = Add (a, shift)"
    yield chain("Conv with a bias, and Add", biased, bias=vector(2), shift=vector(2, 1, 1), **kernel)
    yield chain("Conv with VALID", 'y = Conv <auto_pad = "VALID"> (x, weight)', **kernel)
    same = 'y = Conv <auto_pad = "SAME_UPPER"> (x, weight)'
    yield chain("Conv with SAME_UPPER of any image", same, dynamic=True, **kernel)
    attributes = "dilations = [1, 1], group = 3, kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]"
    each = f"y = Conv <{attributes}> (x, weight, bias)"
    yield chain("Conv of each channel", each, weight=vector(3, 1, 3, 3), bias=vector(3))
    bias = "bias = Expand (half, shape) y = Conv (x, weight, bias)"
    yield chain("Expand as a bias", bias, half=np.float32(0.5), shape=whole(2), **kernel)
    yield chain("Max with zero", "y = Max (x, zero)", zero=ZERO)
    yield chain("Sum of three", "a = Relu (x) b = Sigmoid (x) y = Sum (x, a, b)")
    yield chain(
        "Sum of one, Mul by one and Dropout", "a = Sum (x) b = Mul (a, one) c = Dropout (b) y = Relu (c)", one=ZERO + 1
    )


def rows():
    pool, flat = "a = GlobalAveragePool (x)", "a = GlobalAveragePool (x) f = Flatten <axis = 1> (a)"
    product = "g = MatMul (f, weight) y = Add (g, bias)"
    linear = {"weight": vector(3, 4), "bias": vector(4)}
    yield chain("Flatten, MatMul and Add", f"{flat} {product}", **linear)
    yield chain("Flatten of rows", f"{flat} h = Flatten (f) {product.replace('f,', 'h,')}", **linear)
    reshaped = f"f = Reshape (a, shape) {product}"
    yield chain("Reshape, MatMul and Add", f"{pool} {reshaped}", **linear, shape=whole(0, -1))
    sizes = "sizes = Shape (a) batch = Gather <axis = 0> (sizes, first) shape = Concat <axis = 0> (batch, rest)"
    yield chain("Reshape by a computed shape", f"{pool} {sizes} {reshaped}", **linear, first=whole(0), rest=whole(-1))
    yield chain("Squeeze, MatMul and Add", f"{pool} f = Squeeze (a, axes) {product}", **linear, axes=PLANE)


def gates():
    pool, flat = "a = GlobalAveragePool (x)", "a = GlobalAveragePool (x) f = Flatten (a)"
    yield chain("Mul by a gate", f"{pool} g = Sigmoid (a) y = Mul (x, g)")
    yield chain("Mul of a gate", f"{pool} g = Sigmoid (a) y = Mul (g, x)")
    # A gate as a network of vectors.
    vectors = f"{flat} b = Gemm (f, first, shift) c = Relu (b) d = Gemm (c, second) v = Sigmoid (d)"
    network = {"first": vector(3, 2), "shift": vector(2) - 2, "second": vector(2, 3)}
    for name, back in {
        "Unsqueeze": "g = Unsqueeze (v, axes)",
        "Unsqueeze twice": "w = Unsqueeze (v, axis) g = Unsqueeze (w, axis)",
        "Reshape": "g = Reshape (v, shape)",
    }.items():
        constants = {"axes": PLANE, "axis": whole(-1), "shape": whole(0, -1, 1, 1)}
        used = {key: value for key, value in constants.items() if f" {key})" in back}
        yield chain(f"A gate of vectors by {name}", f"{vectors} {back} y = Mul (x, g)", **network, **used)
    yield chain("A gate of a flattened pool", f"{flat} b = Reshape (f, shape) y = Mul (x, b)", shape=whole(0, -1, 1, 1))
    last = "a = ReduceMean <axes = [1, 2], keepdims = 0> (x) b = Gemm (a, matrix) v = Sigmoid (b)"
    end = "y = Mul (x, g)"
    matrix = {"matrix": vector(3, 3)}
    yield chain(
        "A gate of NHWC by Unsqueeze", f"{last} g = Unsqueeze (v, axes) {end}", x=NHWC, axes=whole(1, 2), **matrix
    )
    yield chain(
        "A gate of NHWC by Reshape", f"{last} g = Reshape (v, shape) {end}", x=NHWC, shape=whole(-1, 1, 1, 3), **matrix
    )
    kept = "a = ReduceMean <axes = [1, 2], keepdims = 1> (x) b = MatMul (a, matrix) g = Sigmoid (b)"
    yield chain("A gate of NHWC by MatMul", f"{kept} {end}", x=NHWC, **matrix)


def lengths():
    floor = {"floor": np.float32(1e-12)}
    yield chain("LpNormalization", "y = LpNormalization (x)", x=ROWS)
    last = "a = ReduceMean <axes = [1, 2], keepdims = 1> (x) y = LpNormalization (a)"
    yield chain("LpNormalization of NHWC", last, x=NHWC)
    norm = "n = ReduceL2 <axes = [1], keepdims = 1> (x) d = Clip (n, floor) y = Div (x, d)"
    yield chain("ReduceL2, Clip and Div", norm, x=ROWS, **floor)
    total = "q = Mul (x, x) s = ReduceSum <keepdims = 1> (q, axes)"
    root = f"{total} n = Sqrt (s) d = Max (n, floor) y = Div (x, d)"
    yield chain("Mul, ReduceSum, Sqrt, Max and Div", root, x=ROWS, **floor, axes=whole(1))
    power = "q = Pow (x, two) s = ReduceSum <keepdims = 1> (q, axes) n = Pow (s, half) y = Div (x, n)"
    yield chain("Pow, ReduceSum, Pow and Div", power, x=ROWS, two=whole(2)[0], half=np.float32(0.5), axes=whole(-1))
    inverse = f"{total} m = Max (s, floor) n = Sqrt (m) d = Reciprocal (n) y = Mul (x, d)"
    yield chain("Mul, ReduceSum, Max, Sqrt, Reciprocal and Mul", inverse, x=ROWS, **floor, axes=whole(1))


def chains():
    for kind in (pools, norms, computed, pixels, windows, rows, gates, lengths):
        yield from kind()
