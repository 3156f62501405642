"""Small graphs of operators as OSNets use them, each with the result of ONNX's reference evaluator.

ONNX's node tests reduce, gather, divide and normalise over other axes than networks of images do, and join no
operators.
"""

from . import departures, floats, integers


def chains():
    for kind in (floats, integers, departures):
        yield from kind.chains()
