"""Runs the groups of rows of a hierarchy with their models: in one run those that share a graph, else one by one.

What fails is found here as far as models go: a run of several models that fails is tried again model by model, so that
the rows of one cannot cost those of another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.errors import LeafUnavailable, ModelFailed, ModelTimedOut
from models.programs import PREFIX, Weights, feeds, in_rows, in_tiles
from models.runtimes.groups import GROUP_ROWS, Chunk, Groups, chunks
from models.runtimes.outputs import said
from models.runtimes.session import ROWS
from models.runtimes.sessions import Loaded, Session, Sessions
from models.runtimes.timed import Timed

Array = npt.NDArray[Any]

# Tiles in a run of a shared graph: with 8 it took twice as long a tile, with 1,000 half as long again. Their weights,
# `models.sharing.WEIGHTS_BYTES` at most each, are copied.
RUN_TILES = GROUP_ROWS // ROWS


@dataclass(slots=True)
class Done:
    """What became of groups. scored: which, ascending; arrays: their outputs, chunk by chunk; failed: with the reason;
    untried: the others.
    """

    scored: list[int] = field(default_factory=list)
    arrays: list[list[Array]] = field(default_factory=list)
    failed: list[tuple[int, ModelFailed]] = field(default_factory=list)
    untried: list[int] = field(default_factory=list)


class _Piece(NamedTuple):
    """A group's place among the rows of a chunk. begin, end: with its padding."""

    group: int
    model: int
    loaded: Loaded
    begin: int
    end: int
    rows: int


class Runner:
    """Runs models. shapes: of a row of each graph output; names: of the models, for errors; who: the version."""

    def __init__(
        self,
        sessions: Sessions,
        shapes: Mapping[str, tuple[int, ...]],
        names: Sequence[str],
        who: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sessions, self._names, self._who, self._clock = sessions, names, who, clock
        self.tensors, self._shapes = list(shapes), list(shapes.values())
        self._of_tiles = [PREFIX + name for name in self.tensors]
        self._at, self._seconds = "", 0.0  # what runs, and how long it may
        self._timed = Timed(lambda: f"{who}, {self._at},")

    @property
    def closed(self) -> bool:
        return self._timed.watchdog is None

    def hurry(self, on: bool) -> None:
        """See `models.runtimes.base.Model`."""
        self._timed.hurry(on)

    def close(self) -> None:
        self._timed.close()
        self._sessions.close()

    def score(self, inputs: Mapping[str, Array], groups: Groups, seconds: float) -> Done:
        """Run each group's model over its rows of the inputs. A run may take `seconds`.

        Nothing is run any more once a run of one model had to be terminated, or once `seconds` have passed, loading
        included. Models that failed together have twice that, because each may have to be run by itself.
        """
        done, first, self._seconds = Done(), 0, seconds
        until = self._clock() + seconds
        late = until + seconds
        for chunk in chunks(groups, inputs):
            found: dict[int, list[Array]] = {}
            stopped = False
            for pieces in self._together(chunk, first, done):
                if stopped := self._run(chunk, pieces, late, found, done) or self._clock() > until:
                    break
            done.scored += sorted(found)
            if found:  # copied together, so that those of the padding can go
                arrays = [found[group] for group in sorted(found)]
                done.arrays.append([np.concatenate(column) for column in zip(*arrays, strict=True)])
            first += len(chunk.pieces)
            if stopped or self._clock() > until:
                break
        decided = {*done.scored, *(group for group, _ in done.failed)}
        done.untried = [group for group in range(len(groups)) if group not in decided]
        return done

    # ---- which models run together

    def _together(self, chunk: Chunk, first: int, done: Done) -> Iterator[list[_Piece]]:
        """Yield the pieces of a chunk that are one run; a model that cannot be loaded has failed."""
        shared: dict[int, list[_Piece]] = {}
        for group, (model, begin, end, count) in enumerate(chunk.pieces, first):
            try:
                loaded = self._load(model)
            except LeafUnavailable as error:
                done.failed.append((group, error))
                continue
            piece = _Piece(group, model, loaded, begin, end, count)
            if loaded.program.shared:
                shared.setdefault(id(loaded.session), []).append(piece)
            else:
                yield [piece]
        for pieces in shared.values():
            yield from _runs(pieces)

    def _load(self, model: int) -> Loaded:
        try:
            return self._sessions.get(model)
        except Exception as error:  # of ours, of onnxruntime, of memory
            raise LeafUnavailable(f"{self._who}, {self._names[model]}, cannot be loaded: {said(error)}") from error

    # ---- runs

    def _run(self, chunk: Chunk, pieces: list[_Piece], until: float, found: dict[int, list[Array]], done: Done) -> bool:
        """Run pieces together, or one by one where that fails, until it is late; say whether to stop."""
        try:
            found |= self._outputs(chunk, pieces)
            return False
        except ModelFailed as error:
            if len(pieces) == 1:
                done.failed.append((pieces[0].group, error))
                return isinstance(error, ModelTimedOut)
        return any(self._run(chunk, [piece], until, found, done) or self._clock() > until for piece in pieces)

    def _outputs(self, chunk: Chunk, pieces: list[_Piece]) -> dict[int, list[Array]]:
        """Return the outputs of each group's rows, without those of its padding."""
        self._at = self._names[pieces[0].model]
        session = pieces[0].loaded.session
        if not pieces[0].loaded.program.shared:
            (piece,) = pieces
            inputs = {name: array[piece.begin : piece.end] for name, array in chunk.tensors.items()}
            arrays = self._timed.run(session.handle, self.tensors, inputs, self._seconds)
            self._check(arrays, piece.rows)
            return {piece.group: [array[: piece.rows] for array in arrays]}
        arrays = self._in_tiles(chunk, pieces, session)
        outputs, begin = {}, 0
        for piece in pieces:
            outputs[piece.group] = [array[begin : begin + piece.rows] for array in arrays]
            begin += piece.end - piece.begin
        return outputs

    def _in_tiles(self, chunk: Chunk, pieces: list[_Piece], session: Session) -> list[Array]:
        """Return the outputs of all rows of pieces that share a graph, padding included, one piece after the other."""
        program = pieces[0].loaded.program
        tiles = np.concatenate([np.arange(piece.begin // ROWS, piece.end // ROWS) for piece in pieces])
        weights: list[Weights] = []
        for piece in pieces:
            weights += [piece.loaded.program.weights] * ((piece.end - piece.begin) // ROWS)
        inputs = {name: in_tiles(array)[tiles] for name, array in chunk.tensors.items()}
        found = self._timed.run(session.handle, self._of_tiles, feeds(program.names, weights, inputs), self._seconds)
        try:
            arrays = [in_rows(array, len(tiles)) for array in found]
        except ValueError as error:
            raise ModelFailed(f"{self._who}, {self._at}, failed: {error}; a model must have one row per row") from error
        self._check(arrays, len(tiles) * ROWS)
        return arrays

    def _check(self, arrays: Sequence[Any], count: int) -> None:
        """Raise ModelFailed unless each output has at least so many rows, of the shape that all models have."""
        for array, shape in zip(arrays, self._shapes, strict=True):
            if not isinstance(array, np.ndarray) or len(array) < count or array.shape[1:] != shape:
                found = [getattr(array, "shape", type(array).__name__) for array in arrays]
                raise ModelFailed(
                    f"{self._who}, {self._at}, failed: the outputs {', '.join(self.tensors)} have the shapes {found} "
                    f"for {count} rows of the shapes {self._shapes}; a model must have one row per row"
                )


def _runs(pieces: Sequence[_Piece]) -> Iterator[list[_Piece]]:
    """Yield pieces that share a graph as those of one run each; one that is larger than a run stands alone."""
    some: list[_Piece] = []
    tiles = 0
    for piece in pieces:
        more = (piece.end - piece.begin) // ROWS
        if some and tiles + more > RUN_TILES:
            yield some
            some, tiles = [], 0
        some.append(piece)
        tiles += more
    yield some
