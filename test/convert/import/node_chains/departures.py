"""What is like a layer of an OSNet and is none."""

import numpy as np

from .chain import RNG, ROWS, chain, vector, whole

ZERO, ONE, SIX = np.float32(0), np.float32(1), np.float32(6)
KERNEL = {"weight": vector(2, 3, 3, 3)}
STATISTICS = {"weight": vector(3), "mean": vector(3), "variance": vector(3)}
POOL = "a = GlobalAveragePool (x)"
EPSILON = {"epsilon": np.float32(1e-3)}


def axes():
    layer = f"{POOL} y = LayerNormalization <axis = 2> (a, weight)"
    yield chain("LayerNormalization of single pixels", layer, 17, weight=vector(1, 1))
    yield chain("Gather of rows", "y = Gather <axis = 2> (x, order)", order=whole(2, 1, 0))
    yield chain("Gather of a channel twice", "y = Gather <axis = 1> (x, order)", order=whole(0, 0, 1))
    rows = "a = Transpose <perm = [2, 1, 0, 3]> (x) b = GatherND (a, order) y = Transpose <perm = [2, 1, 0, 3]> (b)"
    yield chain("GatherND of rows", rows, order=whole(2, 1, 0).reshape(3, 1))
    pairs = "a = Transpose <perm = [1, 0, 2, 3]> (x) b = GatherND (a, order) y = Transpose (b)"
    yield chain("GatherND of pairs", pairs, order=np.array([[2, 0], [1, 1], [0, 0]], np.int64))
    for name, (axis, start, end, step) in {
        "all rows but the first": (2, 1, 2**31, 1),
        "all rows but the last": (2, 0, -1, 1),
        "every other row": (2, 0, 2**31, 2),
        "every other channel": (1, -1, -(2**31), -2),
    }.items():
        bounds = {"starts": whole(start), "ends": whole(end), "axes": whole(axis), "steps": whole(step)}
        yield chain(f"Slice of {name}", "y = Slice (x, starts, ends, axes, steps)", **bounds)
    square = RNG.normal(0, 1, (1, 3, 3, 3)).astype(np.float32)
    yield chain("Add over other axes", "a = Transpose <perm = [0, 2, 3, 1]> (x) y = Add (x, a)", x=square)
    yield chain("Transpose of rows", "y = Transpose (x)", x=ROWS)
    yield chain("Reshape of rows to other rows", "y = Reshape (x, shape)", x=ROWS, shape=whole(3, 2))
    columns = f"{POOL} f = Flatten (a) y = Reshape (f, shape)"
    yield chain("Reshape of rows to a column", columns, shape=whole(0, 1, 3, 1))


def computed():
    """Numbers that are computed in ways that no exporter has, so that they are not known."""
    clip = "six = Add (three, three) y = Clip (x, zero, six)"
    yield chain("Clip from 0 to a computed 6", clip, zero=ZERO, three=SIX / 2)
    steps = "steps = Add (one, one) y = Slice (x, starts, ends, axes, steps)"
    bounds = {"starts": whole(0), "ends": whole(2**31), "axes": whole(2), "one": whole(1)}
    yield chain("Slice by computed steps", steps, **bounds)
    weight = "zero = Sub (four, one) weight = DequantizeLinear (w, step, zero) y = MatMul (x, weight)"
    points = {"four": np.int8(4), "one": np.int8(1), "step": np.float32(1 / 64)}
    matrix = RNG.integers(-99, 99, (3, 4)).astype(np.int8)
    yield chain("DequantizeLinear from a computed zero", weight, 21, ROWS, w=matrix, **points)


def activations():
    yield chain("Max with one", "y = Max (x, one)", one=ONE)
    yield chain("Max with zero and one", "y = Max (x, zero, one)", zero=ZERO, one=ONE)
    yield chain("Clip from 0 to 6", "y = Clip (x, zero, six)", zero=ZERO, six=SIX)
    yield chain("Cast to whole numbers and back", "a = Cast <to = 6> (x) y = Cast <to = 1> (a)")
    for activation, parameters in {"Tanh": "", "Clip": ", activation_params = [0.0, 6.0]"}.items():
        conv = f'y = com.microsoft.FusedConv <activation = "{activation}"{parameters}> (x, weight)'
        yield chain(f"FusedConv with {activation}{' from 0 to 6' if parameters else ''}", conv, **KERNEL)


def windows():
    for auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        conv = f'y = Conv <auto_pad = "{auto_pad}", strides = [2, 2]> (x, weight)'
        yield chain(f"Conv with {auto_pad} of an odd row", conv, **KERNEL)
    conv = 'y = Conv <auto_pad = "SAME_UPPER", strides = [2, 2]> (x, weight)'
    yield chain("Conv in steps with SAME_UPPER of any image", conv, dynamic=True, **KERNEL)
    pads = whole(0, 0, 1, 1, 0, 0, 1, 1)
    yield chain("Pad by reflection", 'a = Pad <mode = "reflect"> (x, pads) y = Conv (a, weight)', pads=pads, **KERNEL)
    pool = "a = Pad (x, pads) y = MaxPool <kernel_shape = [3, 3], strides = [2, 2]> (a)"
    yield chain("Pad with zeros before MaxPool", pool, pads=pads)
    yield chain("Pad of the channels", "y = Pad (x, pads)", pads=whole(0, 1, 1, 1, 0, 0, 1, 1))
    yield chain("Pad with one", "a = Pad (x, pads, one) y = Conv (a, weight)", pads=pads, one=ONE, **KERNEL)


def lengths():
    yield chain("ReduceL2 over the batch", "n = ReduceL2 <axes = [0], keepdims = 1> (x) y = Div (x, n)", x=ROWS)
    norm, end = "n = ReduceL2 <axes = [1], keepdims = 1> (x)", "y = Div (x, d)"
    yield chain("ReduceL2 times two", f"{norm} d = Mul (n, two) {end}", x=ROWS, two=ONE + 1)
    more = f"{norm} e = Mul (n, two) d = Add (e, small) {end}"
    yield chain("ReduceL2 times two and more", more, x=ROWS, two=ONE + 1, small=np.float32(1e-6))
    for name, floor in {"no more than": "Clip (n, , one)", "no less than": "Max (n, one)"}.items():
        yield chain(f"A length of {name} one", f"{norm} d = {floor} {end}", x=ROWS, one=ONE)
    for name, square in {
        "another's length": "r = Relu (x) q = Pow (r, power)",
        "a sum of cubes": "q = Pow (x, power)",
    }.items():
        root = f"{square} s = ReduceSum <keepdims = 1> (q, axes) d = Sqrt (s) {end}"
        power = np.float32(3 if "cubes" in name else 2)
        yield chain(f"Div by {name}", root, x=np.abs(ROWS), axes=whole(1), power=power)
    root = "q = Mul (x, x) s = ReduceSum <keepdims = 1> (q, axes) d = Pow (s, power)"
    yield chain("A cube root of a sum of squares", f"{root} {end}", x=ROWS, axes=whole(1), power=np.float32(1 / 3))


def norms():
    mixed = "a = ReduceMax <axes = [2]> (x) y = ReduceMean <axes = [3]> (a)"
    yield chain("ReduceMean of the largest rows", mixed)
    training = "y = BatchNormalization <training_mode = 1> (x, weight, bias, mean, variance)"
    yield chain("BatchNormalization in training", training, 15, bias=vector(3), **STATISTICS)

    def norm(axes, factors, end="Div", mean="ReduceMean"):
        return f"""m = {mean} <axes = {axes}> (x) c = Sub (x, m) q = Mul ({factors})
            v = ReduceMean <axes = {axes}> (q) e = Add (v, epsilon) d = Sqrt (e) y = {end} (c, d)"""

    yield chain("A norm over the batch", norm([0, 2, 3], "c, c"), **EPSILON)
    yield chain("A norm by the mean square", norm([2, 3], "x, x"), **EPSILON)
    yield chain("A norm by a mean product", norm([2, 3], "c, x"), **EPSILON)
    yield chain("A norm from the sum", norm([2, 3], "c, c", mean="ReduceSum"), 11, **EPSILON)
    moved = """i = Reciprocal (d) g = Mul (i, weight) s = Mul (x, g)
            o = Mul (m, i) b = Sub (bias, o) z = Add (s, b)"""
    affine = {"weight": vector(3, 1, 1), "bias": vector(3, 1, 1)}
    yield chain(
        "A norm that moves by another factor",
        f"{norm([2, 3], 'c, c').replace('y = Div (c, d)', moved)} y = Relu (z)",
        **affine,
        **EPSILON,
    )
    yield chain("A norm that multiplies", norm([2, 3], "c, c", "Mul"), **EPSILON)
    group = "y = GroupNormalization <num_groups = 1> (x, gamma, beta)"
    yield chain("GroupNormalization of all channels", group, 21, gamma=vector(3), beta=vector(3))


def chains():
    for kind in (axes, computed, activations, windows, lengths, norms):
        yield from kind()
