"""Build an ONNX graph: parts of the learning core add their arithmetic to it, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8
"""As old as the operators allow, so that older versions of ONNX Runtime read the file too."""
DTYPES = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8, "int32": TensorProto.INT32}
LARGEST = 2**31 - 1
"""Bytes of a protocol buffer: no ONNX file of one piece is larger."""


class NotExportableError(ValueError):
    """A part of the model cannot be written as ONNX; the message says what can be done."""


class Graph:
    """An ONNX graph under construction; values in it are known by their names.

    Args:
        name: the name of its one input.
        shape: the input's shape; text stands for a length that each run decides.
        dtype: the input's type, as numpy names it.
    """

    def __init__(self, name: str, shape: Sequence[int | str], dtype: str) -> None:
        self._inputs = [helper.make_tensor_value_info(name, DTYPES[dtype], list(shape))]
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._parts = 0

    def constant(self, value: NDArray[Any] | float | Sequence[int], dtype: str | None = None) -> str:
        """Add an array or a number and return its name."""
        name = f"constant_{len(self._constants)}"
        array = np.ascontiguousarray(np.asarray(value, dtype=dtype))
        self._constants.append(numpy_helper.from_array(array.reshape(np.shape(value)), name))
        return name

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add an operator of one output, and return the output's name."""
        name = f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def cast(self, value: str, dtype: str) -> str:
        """Convert a value to another type, as numpy names it."""
        return self.add("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def embed(self, model: bytes, value: str) -> tuple[str, ...]:
        """Add all of another model with one input, and return the names of its outputs.

        Args:
            model: an ONNX model, of the same operators.
            value: what its input is.
        """
        self._parts += 1
        part = onnx.compose.add_prefix(onnx.load_from_string(model), f"part_{self._parts}/").graph
        self._nodes.append(helper.make_node("Identity", [value], [part.input[0].name]))
        self._nodes.extend(part.node)
        self._constants.extend(part.initializer)
        return tuple(output.name for output in part.output)

    def finish(
        self,
        outputs: Mapping[str, tuple[str, Sequence[int | str]]],
        metadata: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return the finished model.

        Args:
            outputs: by the name that each is to have, the value and its shape; all are float32.
            metadata: what the file says of itself.

        Raises:
            NotExportableError: it is larger than an ONNX file can be.
        """
        shown = [
            helper.make_tensor_value_info(name, DTYPES["float32"], list(s))
            for name, (_, s) in outputs.items()
        ]
        named = [helper.make_node("Identity", [value], [name]) for name, (value, _) in outputs.items()]
        graph = helper.make_graph([*self._nodes, *named], "everylabel", self._inputs, shown, self._constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="everylabel"
        )
        model.ir_version = IR_VERSION
        helper.set_model_props(model, dict(metadata or {}))
        if model.ByteSize() > LARGEST:
            raise NotExportableError(
                f"The model takes {model.ByteSize() / 1e9:.1f} GB, and an ONNX file ends at 2 GB. Use a smaller encoder."
            )
        onnx.checker.check_model(model, full_check=True)
        written: bytes = model.SerializeToString()
        return written
