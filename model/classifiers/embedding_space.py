"""How embeddings are compared: from the pool's centre, standardised where told, and by direction alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from everylabel.model.pool import Rows, each_chunk, gather, spread
from everylabel.model.vectors import flat_rows, unit_rows

if TYPE_CHECKING:
    from typing_extensions import Self

    from everylabel.model.onnx_graph import Graph

CENTRE_SAMPLE = 2000
STANDARD_SPREAD = 1.3
"""Of a standardised column: beside the last layer of the default encoder its middle ones then weigh a half more."""


class EmbeddingSpace:
    """Centres embeddings on the pool and scales them to length 1.

    The last `standardized` columns of a row have scales of their own (an encoder's middle layers): each is
    divided by its spread over the pool first.
    """

    def __init__(self, *, standardized: int = 0) -> None:
        self.standardized = standardized
        self._centre: NDArray[Any] | None = None
        self._column_scale: NDArray[Any] = np.ones(1, dtype=np.float32)

    @property
    def has_centre(self) -> bool:
        """True once a pool, or rows in its place, gave the centre."""
        return self._centre is not None

    def adapt(self, pool: Rows) -> Self:
        """Take the pool's mean embedding, from at most 2,000 rows, as the centre, and the columns' spread."""
        if len(pool):
            self.centre_on(gather(pool, spread(len(pool), CENTRE_SAMPLE)))
        return self

    def centre_on(self, x: Rows) -> None:
        """Take the centre, and the columns' spread, from these (n, d) rows."""
        sample = flat_rows(x)
        self._centre = sample.mean(axis=0)
        if self.standardized:
            spread_ = sample[:, -self.standardized :].std(axis=0)
            # A column that hardly moves holds nothing that is worth being blown up.
            floor = max(1e-3 * float(spread_.mean()), 1e-12)
            self._column_scale = np.ones(sample.shape[1], dtype=np.float32)
            self._column_scale[-self.standardized :] = STANDARD_SPREAD / np.maximum(spread_, floor)

    def features(self, x: Rows) -> NDArray[Any]:
        """Return (n, d) float32 embeddings, centred, standardised where told, of length 1.

        A row at the centre stays 0.
        """
        rows = flat_rows(x)
        if self._centre is not None:
            rows = (rows - self._centre) * self._column_scale
        return unit_rows(rows)

    def scores(self, x: Rows, weights: NDArray[Any], bias: NDArray[Any]) -> NDArray[Any]:
        """Return `features(x) @ weights + bias` for heads (d, k): (n, k) float32, read in chunks."""
        found = np.empty((len(x), weights.shape[1]), dtype=np.float32)

        def score(part: slice, rows: NDArray[Any]) -> None:
            by_head = np.empty((len(bias), len(rows)), dtype=np.float32)
            self.score_chunk(rows, weights, bias, out=by_head)
            found[part] = by_head.T

        each_chunk(x, score)
        return found

    def score_chunk(
        self, rows: NDArray[Any], weights: NDArray[Any], bias: NDArray[Any], *, out: NDArray[Any]
    ) -> None:
        """Write the scores of (m, d) float32 rows, which are changed, to `out`, (k, m).

        A step along many rows is faster than along few heads. The scores are those of the centred rows, without
        a pass over the rows to centre them: `(x - c) @ w` is `x @ w - c @ w`, and the length squared of `x - c`
        is `x @ x - 2 * x @ c + c @ c`. So the centre is one more column beside the heads, and what is divided
        by the length has few numbers left.
        """
        # PyTorch goes through memory twice as fast as numpy.
        inside = torch.from_numpy(rows)
        if len(self._column_scale) > 1:
            inside.mul_(torch.from_numpy(self._column_scale))
        square = torch.linalg.vector_norm(inside, dim=1).square_().numpy()
        if self._centre is None:
            np.copyto(out, (rows @ weights).T)
            apart = square
        else:
            centre = self._centre * self._column_scale
            products = rows @ np.hstack([weights, centre[:, None]])
            np.subtract(products[:, :-1].T, (centre @ weights)[:, None], out=out)
            apart = square - 2 * products[:, -1] + centre @ centre
        # Closer to the centre than float16 tells apart there is nothing but rounding.
        out /= np.sqrt(np.maximum(apart, 1e-6 * square + 1e-24))
        out += bias[:, None]

    def add_to_graph(self, graph: Graph, rows: str, weights: NDArray[Any], bias: NDArray[Any]) -> str:
        """Add `scores` of (n, d) float32 rows to an ONNX graph, and return the name of the (n, k) scores."""

        def square(value: str) -> str:
            return graph.add("ReduceSumSquare", value, axes=[1], keepdims=1)

        inside = graph.add("Mul", rows, graph.constant(self._column_scale, "float32"))
        apart = inside
        if self._centre is not None:
            apart = graph.add("Sub", inside, graph.constant(self._centre * self._column_scale, "float32"))
        floor = graph.add("Mul", square(inside), graph.constant(1e-6, "float32"))
        floor = graph.add("Add", floor, graph.constant(1e-24, "float32"))
        length = graph.add("Sqrt", graph.add("Max", square(apart), floor))
        scores = graph.add("Div", graph.add("MatMul", apart, graph.constant(weights, "float32")), length)
        return graph.add("Add", scores, graph.constant(bias, "float32"))

    def copy(self) -> EmbeddingSpace:
        """Return a space with the same centre and scales, which may be adapted by itself."""
        copied = EmbeddingSpace(standardized=self.standardized)
        copied._centre, copied._column_scale = self._centre, self._column_scale
        return copied

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the arrays `centre` and `column_scale`."""
        return {"centre": np.asarray(self._centre), "column_scale": self._column_scale}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Compare embeddings as the space did whose state this is; other arrays are passed over."""
        self._centre = state["centre"]
        self._column_scale = np.asarray(state.get("column_scale", np.ones(1, dtype=np.float32)))
