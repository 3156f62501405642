"""Quantised networks, by ONNX's operators and by onnxruntime's; and onnxruntime's fused ones."""

import numpy as np

from .chain import IMAGE, RNG, ROWS, chain, vector

# Whole multiples of a step of 1/16, so that quantising takes nothing from them.
STEP = 1 / 16
STEPS = (RNG.integers(-100, 100, IMAGE.shape) * STEP).astype(np.float32)
STEP_ROWS = (RNG.integers(-100, 100, (2, 3)) * STEP).astype(np.float32)
# From 0 to 255 steps, which makes 1/16 the step of DynamicQuantizeLinear.
BYTES = (np.r_[0, 255, RNG.integers(0, 256, 118)].reshape(IMAGE.shape) * STEP).astype(np.float32)
BYTE_ROWS = (np.array([[0, 255, 31], [200, 90, 7]]) * STEP).astype(np.float32)

INTO = {"step": np.float32(STEP), "zero": np.uint8(128)}
QUARTER = {"quarter": np.float32(1 / 4)}
KERNEL = {
    "w": RNG.integers(-12, 13, (2, 3, 3, 3)).astype(np.int8),
    "ws": np.array([1 / 32, 1 / 64], np.float32),
    "wz": np.zeros(2, np.int8),
}
SHIFT = {"shift": RNG.integers(-999, 999, 2).astype(np.int32)}
MATRIX = {"w": RNG.integers(-99, 99, (3, 4)).astype(np.int8), "ws": np.float32(1 / 64), "wz": np.int8(3)}
LEAST = {"least": np.uint8(0)}


def standard():
    quantised = "q = QuantizeLinear (x, step, zero)"
    out = "y = DequantizeLinear (r, quarter, zero)"

    def conv(zero):
        return f"r = QLinearConv <pads = [1, 1, 1, 1]> (q, step, zero, w, ws, wz, quarter, {zero}, shift)"

    given = {**INTO, **KERNEL, **SHIFT, **QUARTER}
    yield chain("QLinearConv", f"{quantised} {conv('zero')} {out}", 21, STEPS, 1 / 8, **given)
    # From 0 upwards: a ReLU that quantisers leave to the type.
    above = "y = DequantizeLinear (r, quarter, least)"
    yield chain("QLinearConv above zero", f"{quantised} {conv('least')} {above}", 21, STEPS, 1 / 8, **given, **LEAST)
    pool = "y = MaxPool <kernel_shape = [2, 2]> (r)"
    yield chain("QLinearConv and MaxPool of integers", f"{quantised} {conv('zero')} {pool}", 21, STEPS, 0.5, **given)
    weight = "d = DequantizeLinear (q, step, zero) weight = DequantizeLinear <axis = -4> (w, ws, wz)"
    given = {**INTO, **KERNEL}
    around = f"{quantised} {weight} y = Conv (d, weight)"
    yield chain("QuantizeLinear and DequantizeLinear around Conv", around, 21, STEPS, **given)
    ends = "r = QuantizeLinear (c, quarter) y = DequantizeLinear (r, quarter)"
    around = f"{quantised} {weight} c = Conv (d, weight) {ends}"
    yield chain("QuantizeLinear above zero", around, 21, STEPS, 1 / 8, **given, **QUARTER)
    positive = "a = Relu (x) b = MaxPool <kernel_shape = [2, 2]> (a) c = Add (b, b)"
    yield chain("QuantizeLinear above zero of what is", f"{positive} {ends}", 21, STEPS, 1 / 8, **QUARTER)
    columns = "weight = DequantizeLinear <axis = -1> (w, ws, wz) y = MatMul (x, weight)"
    steps = {"ws": np.float32([2, 1, 3, 1]) / 128, "wz": np.zeros(4, np.int8)}
    yield chain("DequantizeLinear of columns", columns, 21, ROWS, **{**MATRIX, **steps})
    product = "r = QLinearMatMul (q, step, zero, w, ws, wz, quarter, zero)"
    given = {**INTO, **MATRIX, **QUARTER}
    yield chain("QLinearMatMul", f"{quantised} {product} {out}", 21, STEP_ROWS, 1 / 8, **given)
    dynamic = "q, s, z = DynamicQuantizeLinear (x)"
    ends = "f = Cast <to = 1> (i) t = Mul (s, ws) y = Mul (f, t)"
    given = {"w": KERNEL["w"], "ws": np.float32(1 / 32)}
    yield chain(
        "DynamicQuantizeLinear and ConvInteger", f"{dynamic} i = ConvInteger (q, w, z) {ends}", 21, BYTES, **given
    )
    product = f"{dynamic} i = MatMulInteger (q, w, z, wz) {ends}"
    yield chain("DynamicQuantizeLinear and MatMulInteger", product, 21, BYTE_ROWS, **MATRIX)
    columns = {"ws": np.float32([2, 1, 3, 1]) / 128, "wz": np.array([3, 0, 7, 1], MATRIX["wz"].dtype)}
    yield chain("MatMulInteger with zeros by column", product, 21, BYTE_ROWS, **{**MATRIX, **columns})


def fused():
    kernel = {"weight": vector(3, 3, 1, 1), "bias": vector(3)}
    for activation, parameters in {"Relu": "", "Clip": ", activation_params = [0.0, 3.4028235e38]"}.items():
        conv = f'com.microsoft.FusedConv <activation = "{activation}"{parameters}> (x, weight, bias, z)'
        yield chain(f"FusedConv with {activation}", f"z = Sigmoid (x) y = {conv}", **kernel)
    linear = {"weight": vector(3, 4), "bias": vector(4)}
    gemm = 'y = com.microsoft.FusedGemm <activation = "Sigmoid", transB = 0> (x, weight, bias)'
    yield chain("FusedGemm", gemm, x=ROWS, **linear)
    yield chain("FusedMatMul", "y = com.microsoft.FusedMatMul <transB = 1> (x, weight)", x=ROWS, weight=vector(4, 3))


def microsoft():
    quantised = "q = com.microsoft.QuantizeLinear (x, step, zero)"
    out = "y = com.microsoft.DequantizeLinear (r, eighth, zero)"
    given = {**INTO, "eighth": np.float32(1 / 8)}
    added = """z = Sigmoid (x) s = com.microsoft.QuantizeLinear (z, fraction, zero)
        r = com.microsoft.QLinearAdd (q, step, zero, s, fraction, zero, eighth, zero)"""
    fraction = {"fraction": np.float32(1 / 128)}
    # Half a step of the sum, and half a step of its second term.
    rounding = 1 / 16 + 1 / 256
    yield chain("QLinearAdd", f"{quantised} {added} {out}", x=STEPS, rounding=rounding, **given, **fraction)
    added = "r = com.microsoft.QLinearAdd (q, step, zero, shift, fraction, zero, eighth, zero)"
    shift = {"shift": np.array([100, 200, 250], np.uint8).reshape(1, 3, 1, 1), **fraction}
    yield chain("QLinearAdd of a constant", f"{quantised} {added} {out}", x=STEPS, rounding=1 / 16, **given, **shift)
    window = "kernel_shape = [2, 2], strides = [2, 2]"
    pooled = f"r = com.microsoft.QLinearAveragePool <{window}> (q, step, zero, eighth, zero)"
    yield chain("QLinearAveragePool", f"{quantised} {pooled} {out}", x=STEPS, rounding=1 / 16, **given)
    gate = """p = com.microsoft.QLinearGlobalAveragePool <channels_last = 0> (q, step, zero, mean, zero)
        s = com.microsoft.QLinearSigmoid (p, mean, zero, fraction, zero)
        r = com.microsoft.QLinearMul (q, step, zero, s, fraction, zero, eighth, zero)"""
    # Half a step of the mean by the sigmoid's slope, and half of its own, times the map; half a step of the product.
    rounding = float((1 / 64 / 2 / 4 + 1 / 256) * np.abs(STEPS).max() + 1 / 16)
    given = {**given, **fraction, "mean": np.float32(1 / 64)}
    yield chain("A gate of integers", f"{quantised} {gate} {out}", x=STEPS, rounding=rounding, **given)


def products():
    quantised = "q = com.microsoft.QuantizeLinear (x, step, zero)"
    shift = {"shift": RNG.integers(-999, 999, 4).astype(np.int32)}
    product = "y = com.microsoft.QGemm (q, step, zero, w, ws, wz, shift)"
    yield chain("QGemm to floats", f"{quantised} {product}", x=STEP_ROWS, **INTO, **MATRIX, **shift)
    product = """r = com.microsoft.QGemm <transB = 1> (q, step, zero, w, ws, wz, shift, quarter, zero)
        y = com.microsoft.DequantizeLinear (r, quarter, zero)"""
    turned = {
        "w": np.ascontiguousarray(MATRIX["w"].T),
        "ws": np.float32([2, 1, 3, 1]) / 128,
        "wz": np.zeros(4, np.int8),
    }
    given = {**INTO, **QUARTER, **turned, **shift}
    yield chain("QGemm to integers", f"{quantised} {product}", x=STEP_ROWS, rounding=1 / 8, **given)
    given = {**MATRIX, "bias": vector(4)}
    product = "y = com.microsoft.DynamicQuantizeMatMul (x, w, ws, wz, bias)"
    yield chain("DynamicQuantizeMatMul", product, x=BYTE_ROWS, **given)
    product = "q, s, z = DynamicQuantizeLinear (x) y = com.microsoft.MatMulIntegerToFloat (q, w, s, ws, z, wz, bias)"
    yield chain("MatMulIntegerToFloat", product, x=BYTE_ROWS, **given)


def chains():
    for kind in (standard, fused, microsoft, products):
        yield from kind()
