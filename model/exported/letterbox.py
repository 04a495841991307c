"""The letterbox of `everylabel.model.encoders.pixels` as ONNX operators, exact to the last bit.

A linear head on an embedding sees a difference of 1 in 255 in one pixel of a hundred: with Pillow's own bicubic
resampling, which differs by as much, probabilities of solar cells were off by up to 0.008.
"""

from __future__ import annotations

from everylabel.model.encoders.shrink import PADDING
from everylabel.model.onnx_graph import Graph

_PRECISION = 22
"""Most bits of a weight behind the point."""


def add_letterbox(graph: Graph, pixels: str, size: int) -> str:
    """Fit pictures of one size into squares, shape kept, grey bars beside them.

    PyTorch resizes a picture of bytes along its rows, rounds, and resizes along its columns, with weights rounded to
    16 bits. What has the right size already stays as it is.

    Args:
        graph: the graph to add to.
        pixels: (n, h, w, 3) uint8.
        size: the side of the square.

    Returns:
        (n, size, size, 3) uint8.
    """
    shape = graph.cast(graph.add("Shape", pixels, start=1, end=3), "float64")
    scale = graph.add(
        "Div", graph.constant(float(size), "float64"), graph.add("ReduceMax", shape, keepdims=0)
    )
    fitted = graph.add("Round", graph.add("Mul", shape, scale))
    fitted = graph.add("Max", fitted, graph.constant(1.0, "float64"))
    height, width = (_entry(graph, shape, axis) for axis in (0, 1))
    down, across = (_entry(graph, fitted, axis) for axis in (0, 1))

    colours = graph.cast(graph.add("Transpose", pixels, perm=[0, 3, 1, 2]), "float64")
    weights, one = _weights(graph, width, across, after_axis=1)
    colours = _rounded(graph, graph.add("MatMul", colours, weights), one)
    weights, one = _weights(graph, height, down, after_axis=0)
    colours = _rounded(graph, graph.add("MatMul", weights, colours), one)
    resized = graph.add("Transpose", graph.cast(colours, "uint8"), perm=[0, 2, 3, 1])

    left_over = graph.add("Sub", graph.constant([size, size], "int64"), graph.cast(fitted, "int64"))
    before = graph.add("Div", left_over, graph.constant([2], "int64"))
    after = graph.add("Sub", left_over, before)
    none = graph.constant([0], "int64")
    bars = graph.add("Concat", none, before, none, none, after, none, axis=0)
    return graph.add("Pad", resized, bars, graph.constant(PADDING[0], "uint8"))


def _entry(graph: Graph, pair: str, axis: int) -> str:
    return graph.add("Gather", pair, graph.constant(axis, "int64"), axis=0)


def _weights(graph: Graph, before: str, after: str, *, after_axis: int) -> tuple[str, str]:
    """Return the weights of resampling one axis, whole numbers, and the number that stands for 1.

    They are laid out as their product needs them: ONNX Runtime 1.19 cannot multiply a transposed matrix of doubles.

    Args:
        graph: the graph to add to.
        before: the length of the axis.
        after: the length it is to have.
        after_axis: 0 for (after, before) weights, 1 for (before, after).
    """
    before_axis = graph.constant([1 - after_axis], "int64")
    half, zero, first = (graph.constant(value, "float64") for value in (0.5, 0.0, 1.0))
    scale = graph.add("Div", before, after)
    there = graph.add("Add", graph.add("Range", zero, after, first), half)
    centre = graph.add("Unsqueeze", graph.add("Mul", there, scale), before_axis)
    here = graph.add("Add", graph.add("Range", zero, before, first), half)
    here = graph.add("Unsqueeze", here, graph.constant([after_axis], "int64"))
    narrow = graph.add("Div", first, graph.add("Max", scale, first))
    apart = graph.add("Abs", graph.add("Mul", graph.add("Sub", here, centre), narrow))
    raw = _cubic(graph, apart)
    total = graph.add("ReduceSum", raw, before_axis)
    weights = graph.add("Div", raw, total)
    # As many bits as leave the largest weight within 16.
    room = graph.add("Div", graph.constant(32767.5, "float64"), graph.add("ReduceMax", weights, keepdims=0))
    bits = graph.add("Div", graph.add("Log", room), graph.add("Log", graph.constant(2.0, "float64")))
    bits = graph.add("Sub", graph.add("Ceil", bits), first)
    bits = graph.add("Clip", bits, zero, graph.constant(float(_PRECISION), "float64"))
    one = graph.add("Pow", graph.constant(2.0, "float64"), bits)
    # Half away from zero, as a C program rounds.
    whole = graph.add("Floor", graph.add("Add", graph.add("Mul", graph.add("Abs", weights), one), half))
    return graph.add("Mul", whole, graph.add("Sign", weights)), one


def _cubic(graph: Graph, x: str) -> str:
    """Return Keys' cubic kernel (1981) with a = -0.5 at distances x, 0 from 2 on."""

    def number(value: float) -> str:
        return graph.constant(value, "float64")

    near = graph.add("Sub", graph.add("Mul", x, number(1.5)), number(2.5))
    near = graph.add("Add", graph.add("Mul", graph.add("Mul", near, x), x), number(1.0))
    far = graph.add("Add", graph.add("Mul", graph.add("Sub", x, number(5.0)), x), number(8.0))
    far = graph.add("Mul", graph.add("Sub", graph.add("Mul", far, x), number(4.0)), number(-0.5))
    outside = graph.add("Where", graph.add("Less", x, number(2.0)), far, number(0.0))
    return graph.add("Where", graph.add("Less", x, number(1.0)), near, outside)


def _rounded(graph: Graph, products: str, one: str) -> str:
    """Divide by what stands for 1, round half up, and keep to 0 … 255."""
    shares = graph.add("Add", graph.add("Div", products, one), graph.constant(0.5, "float64"))
    return graph.add(
        "Clip", graph.add("Floor", shares), graph.constant(0.0, "float64"), graph.constant(255.0, "float64")
    )
