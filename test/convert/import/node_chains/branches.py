"""What torch 2.1 writes: `If`s that the rank decides, norms over reshaped images, and lengths of absolute values."""

import numpy as np

from .chain import ROWS, chain, vector, whole


def branch(name, result, body):
    return f"{name} = branch () => (float {result}) {{ {body} }}"


def chains():
    rank = "s = Shape (x) r = Size (s) same = Equal (r, four) other = Not (same)"
    images = f"""a = If (other) <{branch("then_branch", "b", "b = Squeeze (x)")},
        {branch("else_branch", "c", "c = Identity (x)")}>"""
    transposed = branch("then_branch", "d", "d = ConvTranspose (a, weight)")
    conv = f"y = If (no) <{transposed}, {branch('else_branch', 'e', 'e = Conv (a, weight)')}>"
    constants = {"four": whole(4)[0], "no": np.array(False), "weight": vector(3, 3, 2, 2)}
    yield chain("Conv of images that have a batch", f"{rank} {images} {conv}", 18, **constants)
    moments = "BatchNormalization <training_mode = 1, epsilon = 0.001> (one, weights, biases, old, old)"
    norm = f"""weights = Tile (weight, two) biases = Tile (bias, two) one = Reshape (x, merged)
        n, mean, variance = {moments} y = Reshape (n, apart)"""
    affine = {"weight": vector(3), "bias": vector(3), "old": np.ones(6, np.float32)}
    shapes = {"two": whole(2), "merged": whole(1, 6, 4, 5), "apart": whole(2, 3, 4, 5)}
    yield chain("InstanceNormalization as a batch norm of one image", norm, 18, **affine, **shapes)
    addend = "scaled = Mul (nought, alpha) a = Add (x, scaled) y = Relu (a)"
    yield chain("Add of alpha times a number", addend, nought=np.float32(0), alpha=np.float32(1))
    powers = "m = Abs (x) q = Pow (m, two) s = ReduceSum <keepdims = 1> (q, axes) n = Pow (s, half)"
    division = "f = Clip (n, floor) t = Shape (x) d = Expand (f, t) y = Div (x, d)"
    constants = {"two": np.float32(2), "half": np.float32(0.5), "axes": whole(1), "floor": np.float32(1e-12)}
    yield chain("A division by torch.linalg.vector_norm", f"{powers} {division}", x=ROWS, **constants)
