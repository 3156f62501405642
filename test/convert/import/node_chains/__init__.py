"""Small graphs of operators as OSNets use them, each with the result of ONNX's reference evaluator.

ONNX's node tests reduce, gather, divide and normalise over other axes than networks of images do, and join no
operators.
"""

from . import branches, departures, floats, integers


def chains():
    for kind in (floats, integers, departures, branches):
        yield from kind.chains()
