"""What is like a layer of an OSNet and is none."""

import numpy as np

from .chain import RNG, ROWS, chain, vector, whole


def chains():
    layer = "a = GlobalAveragePool (x) y = LayerNormalization <axis = 2> (a, weight)"
    yield chain("LayerNormalization of single pixels", layer, 17, weight=vector(1, 1))
    yield chain("Gather of rows", "y = Gather <axis = 2> (x, order)", order=whole(2, 1, 0))
    yield chain("Gather of a channel twice", "y = Gather <axis = 1> (x, order)", order=whole(0, 0, 1))
    cropped = "y = Slice (x, starts, ends, axes)"
    yield chain("Slice of some rows", cropped, starts=whole(1), ends=whole(3), axes=whole(2))
    halved = "y = Slice (x, starts, ends, axes, steps)"
    backwards = {"starts": whole(-1), "ends": whole(-(2**31)), "axes": whole(1), "steps": whole(-2)}
    yield chain("Slice of every other channel", halved, **backwards)
    # Numbers that are computed in ways that no exporter has.
    six = "six = Add (three, three)"
    computed = {"zero": np.float32(0), "three": np.float32(3)}
    yield chain("Clip from 0 to a computed 6", f"{six} y = Clip (x, zero, six)", **computed)
    layer = "a = GlobalAveragePool (x) bias = Add (half, half) y = LayerNormalization <axis = 1> (a, weight, bias)"
    yield chain("LayerNormalization with a computed bias", layer, 17, weight=vector(3, 1, 1), half=vector(3, 1, 1))
    steps = "steps = Add (one, one) y = Slice (x, starts, ends, axes, steps)"
    to_the_end = {"starts": whole(0), "ends": whole(2**31), "axes": whole(2), "one": whole(1)}
    yield chain("Slice by computed steps", steps, **to_the_end)
    zero = "zero = Sub (four, one) weight = DequantizeLinear (w, step, zero) y = MatMul (x, weight)"
    points = {"four": np.int8(4), "one": np.int8(1), "step": np.float32(1 / 64)}
    matrix = RNG.integers(-99, 99, (3, 4)).astype(np.int8)
    yield chain("DequantizeLinear from a computed zero", zero, 21, ROWS, w=matrix, **points)
    yield chain("Cast to whole numbers and back", "a = Cast <to = 6> (x) y = Cast <to = 1> (a)")
    yield chain("Reshape of rows to other rows", "y = Reshape (x, shape)", x=ROWS, shape=whole(3, 2))
    yield chain("Clip from 0 to 6", "y = Clip (x, zero, six)", zero=np.float32(0), six=np.float32(6))
    columns = "a = GlobalAveragePool (x) f = Flatten (a) y = Reshape (f, shape)"
    yield chain("Reshape of rows to a column", columns, shape=whole(0, 1, 3, 1))
    trained = "y = BatchNormalization <training_mode = 1> (x, weight, bias, mean, variance)"
    statistics = {"weight": vector(3), "bias": vector(3), "mean": vector(3), "variance": vector(3)}
    yield chain("BatchNormalization in training", trained, 15, **statistics)
    kernel = {"weight": vector(2, 3, 3, 3)}
    for auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        conv = f'y = Conv <auto_pad = "{auto_pad}", strides = [2, 2]> (x, weight)'
        yield chain(f"Conv with {auto_pad} of an odd row", conv, **kernel)
    conv = 'y = Conv <auto_pad = "SAME_UPPER", strides = [2, 2]> (x, weight)'
    yield chain("Conv in steps with SAME_UPPER of any image", conv, dynamic=True, **kernel)
    pads = whole(0, 0, 1, 1, 0, 0, 1, 1)
    yield chain("Pad by reflection", 'a = Pad <mode = "reflect"> (x, pads) y = Conv (a, weight)', pads=pads, **kernel)
    one = {"one": np.float32(1)}
    yield chain("Pad with one", "a = Pad (x, pads, one) y = Conv (a, weight)", pads=pads, **kernel, **one)
    square = RNG.normal(0, 1, (1, 3, 3, 3)).astype(np.float32)
    yield chain("Add over other axes", "a = Transpose <perm = [0, 2, 3, 1]> (x) y = Add (x, a)", x=square)
    yield chain("Transpose of rows", "y = Transpose (x)", x=ROWS)
    norm = "n = ReduceL2 <axes = [0], keepdims = 1> (x) y = Div (x, n)"
    yield chain("ReduceL2 over the batch", norm, x=ROWS)
    norm = "n = ReduceL2 <axes = [1], keepdims = 1> (x) d = Mul (n, two) y = Div (x, d)"
    yield chain("ReduceL2 times two", norm, x=ROWS, two=np.float32(2))
    norm = "n = ReduceL2 <axes = [1], keepdims = 1> (x) e = Mul (n, two) d = Add (e, small) y = Div (x, d)"
    yield chain("ReduceL2 times two and more", norm, x=ROWS, two=np.float32(2), small=np.float32(1e-6))
    norm = "q = Mul (x, x) s = ReduceSum <keepdims = 1> (q, axes) n = Pow (s, power) y = Div (x, n)"
    yield chain("A cube root of a sum of squares", norm, x=ROWS, axes=whole(1), power=np.float32(1 / 3))
    for activation, parameters in {"Tanh": "", "Clip": ", activation_params = [0.0, 6.0]"}.items():
        conv = f'y = com.microsoft.FusedConv <activation = "{activation}"{parameters}> (x, weight)'
        yield chain(f"FusedConv with {activation}{' from 0 to 6' if parameters else ''}", conv, **kernel)
    for name, floor in {"no more than": "Clip (n, , one)", "no less than": "Max (n, one)"}.items():
        norm = f"n = ReduceL2 <axes = [1], keepdims = 1> (x) d = {floor} y = Div (x, d)"
        yield chain(f"A length of {name} one", norm, x=ROWS, **one)
    epsilon = {"epsilon": np.float32(1e-3)}

    def norm(axes, factors):
        return f"""m = ReduceMean <axes = {axes}> (x) c = Sub (x, m) q = Mul ({factors})
            v = ReduceMean <axes = {axes}> (q) e = Add (v, epsilon) d = Sqrt (e) y = Div (c, d)"""

    yield chain("A norm over the batch", norm([0, 2, 3], "c, c"), **epsilon)
    yield chain("A norm by the mean square", norm([2, 3], "x, x"), **epsilon)
    yield chain("A norm by a mean product", norm([2, 3], "c, x"), **epsilon)
