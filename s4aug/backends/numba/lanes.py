"""Vectors in the processor's registers, for what LLVM does not find by itself in loops that gather and scatter.

A packed array holds pixels whose channels lie side by side: as many as there are lanes, 0 beyond the last channel.
A pixel is read or written through four taps: itself, its right neighbour, and the two that lie below these.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

PIXELS = 4  # side by side, in one register
FLOAT, HALF, SHORT, NUMBER, INDEX = ir.FloatType(), ir.HalfType(), ir.IntType(16), ir.IntType(32), ir.IntType(64)
BFLOAT_NAN = 0x7FC0


class _Code:
    """Instructions over the arrays and numbers that an intrinsic was called with."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self.context, self.builder, self.kinds, self.arguments = context, builder, signature.args, arguments

    def _address(self, array: int, at: Any, kind: Any) -> Any:
        data = self.context.make_array(self.kinds[array])(self.context, self.builder, self.arguments[array]).data
        return self.builder.bitcast(self.builder.gep(data, [at]), kind.as_pointer())

    def _align(self, array: int) -> int:
        kind = self.kinds[array].dtype
        return 2 if _name(kind) else kind.bitwidth // 8

    def load(self, array: int, at: Any, kind: Any) -> Any:
        """What an array holds from an element on."""
        return self.builder.load(self._address(array, at, kind), align=self._align(array))

    def store(self, array: int, at: Any, value: Any) -> None:
        self.builder.store(value, self._address(array, at, value.type), align=self._align(array))

    def plus(self, index: Any, more: Any) -> Any:
        return self.builder.add(index, INDEX(more) if isinstance(more, int) else more)

    def wide(self, value: Any, kind: Any) -> Any:
        """Numbers, or vectors of them, of an array's type as float32."""
        count = value.type.count if isinstance(value.type, ir.VectorType) else None
        float_, number = (one if count is None else ir.VectorType(one, count) for one in (FLOAT, NUMBER))
        name = _name(kind)
        if name == "half":
            return self.builder.fpext(value, float_)
        if name == "bfloat":
            # The upper half of a float32.
            up = ir.Constant(number, 16 if count is None else [16] * count)
            return self.builder.bitcast(self.builder.shl(self.builder.zext(value, number), up), float_)
        return value if kind == types.float32 else self.builder.uitofp(value, float_)

    def shuffled(self, first: Any, second: Any, order: list[int]) -> Any:
        return self.builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(NUMBER, len(order)), order))

    def spread(self, number: Any, lanes: int) -> Any:
        """The same number in every lane."""
        blank = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
        return self.shuffled(self.builder.insert_element(blank, number, NUMBER(0)), blank, [0] * lanes)

    def joined(self, parts: list[Any]) -> Any:
        """Vectors of one length, a power of two of them, as one."""
        while len(parts) > 1:
            order = list(range(2 * parts[0].type.count))
            parts = [self.shuffled(parts[i], parts[i + 1], order) for i in range(0, len(parts), 2)]
        return parts[0]

    def weights(self, array: int, x: Any, columns: int) -> list[Any]:
        """The weights [4, columns] of one output pixel, or of several side by side as vectors."""
        kind = self.kinds[array]
        shape = self.context.make_array(kind)(self.context, self.builder, self.arguments[array]).shape
        step = cgutils.unpack_tuple(self.builder, shape, 2)[1]
        read = FLOAT if columns == 1 else ir.VectorType(FLOAT, columns)
        return [self.load(array, self.plus(x, self.builder.mul(step, INDEX(tap))), read) for tap in range(4)]

    def weighed(self, value: Any, weight: Any) -> Any:
        """A vector times a number; 0 where that is 0, for what has no weight is not read."""
        product = self.builder.fmul(value, self.spread(weight, value.type.count))
        none = self.builder.fcmp_ordered("==", weight, FLOAT(0.0))
        return self.builder.select(none, ir.Constant(product.type, None), product)


def _emitter(emit: Any) -> Any:
    """What Numba wants of an intrinsic that returns nothing."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit(_Code(context, builder, signature, arguments), *arguments)
        return context.get_dummy_value()

    return generate


def _name(kind: Any) -> str | None:
    """Which float of 16 bits an array holds: they come as records of that one field."""
    return next(iter(kind.fields)) if isinstance(kind, types.Record) else None


def _element(kind: Any) -> Any:
    """How LLVM calls the type of an array's elements."""
    if isinstance(kind, types.Record):
        return HALF if _name(kind) == "half" else SHORT
    return FLOAT if kind == types.float32 else ir.IntType(kind.bitwidth)


@intrinsic
def as_float(typing: Any, array: Any, at: Any) -> Any:
    """`array[at]` as float32, for the types that `sample_four` takes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = _Code(context, builder, signature, arguments)
        return code.wide(code.load(0, arguments[1], _element(array.dtype)), array.dtype)

    return types.float32(array, at), generate


@intrinsic
def bits_of(typing: Any, value: Any) -> Any:
    """The bits of a float32 as int32."""
    return types.int32(types.float32), lambda context, builder, signature, given: builder.bitcast(given[0], NUMBER)


@intrinsic
def float_of(typing: Any, bits: Any) -> Any:
    """The float32 that the bits of an int32 make."""
    return types.float32(types.int32), lambda context, builder, signature, given: builder.bitcast(given[0], FLOAT)


@intrinsic
def store_rounded(typing: Any, array: Any, at: Any, value: Any) -> Any:
    """`array[at] = value` for a float32, rounded to the nearest, ties to even, where the array holds 16 bits."""

    def emit(code: _Code, _array: Any, at: Any, value: Any) -> None:
        builder = code.builder
        if _name(array.dtype) == "half":
            value = builder.fptrunc(value, HALF)
        elif _name(array.dtype) == "bfloat":
            bits = builder.bitcast(value, NUMBER)
            odd = builder.and_(builder.lshr(bits, NUMBER(16)), NUMBER(1))
            raised = builder.add(builder.add(bits, odd), NUMBER(0x7FFF))
            rounded = builder.trunc(builder.lshr(raised, NUMBER(16)), SHORT)
            value = builder.select(builder.fcmp_unordered("uno", value, value), SHORT(BFLOAT_NAN), rounded)
        code.store(0, at, value)

    return types.void(array, at, value), _emitter(emit)


@intrinsic
def sample_four(typing: Any, plane: Any, index: Any, x: Any, below: Any, corners: Any, target: Any) -> Any:
    """Four output pixels side by side, `target[x:x + 4]`, from a plane of any type of `READ_AS_THEY_ARE`.

    Args:
        typing: Numba's.
        plane: Flat pixels of one channel.
        index: [columns] int32, the first tap of each output pixel.
        x: The first of the four.
        below: From a pixel to the one below.
        corners: [4, columns] float32, the taps' weights.
        target: [columns] float32, written.
    """
    pair = ir.VectorType(_element(plane.dtype), 2)

    def emit(code: _Code, _plane: Any, _index: Any, x: Any, below: Any, *_: Any) -> None:
        builder, rows = code.builder, ([], [])  # type: ignore[var-annotated]
        for pixel in range(PIXELS):
            at = builder.zext(code.load(1, code.plus(x, pixel), NUMBER), INDEX)
            # A tap and its right neighbour come together.
            rows[0].append(code.load(0, at, pair))
            rows[1].append(code.load(0, code.plus(at, below), pair))
        total = None
        weights = code.weights(4, x, PIXELS)
        for row, tap in ((0, 0), (0, 1), (1, 0), (1, 1)):
            both = code.joined(rows[row])
            value = code.shuffled(both, both, list(range(tap, 2 * PIXELS, 2)))
            part = builder.fmul(code.wide(value, plane.dtype), weights[2 * row + tap])
            total = part if total is None else builder.fadd(total, part)
        code.store(5, x, total)

    return types.void(plane, index, x, below, corners, target), _emitter(emit)


@intrinsic
def gather_lanes(
    typing: Any, packed: Any, at: Any, below: Any, corners: Any, x: Any, lanes: Any, target: Any, to: Any
) -> Any:
    """One output pixel, `target[to:to + lanes]`, from a packed array; what has no weight is not read.

    Args:
        typing: Numba's.
        packed: Flat.
        at: The first tap's first lane.
        below: From an element to the one below.
        corners: [4, columns] float32, weights.
        x: The output pixel's column.
        lanes: A tuple of that length.
        target: Packed, written.
        to: The output pixel's first lane.
    """
    count = len(lanes)

    def emit(code: _Code, _packed: Any, at: Any, below: Any, _corners: Any, x: Any, _lanes: Any, *rest: Any) -> None:
        kind, builder = ir.VectorType(FLOAT, count), code.builder
        weights = code.weights(3, x, 1)
        total = builder.fmul(code.load(0, at, kind), code.spread(weights[0], count))
        for tap, place in _beside(code, at, below, count):
            total = builder.fadd(total, code.weighed(code.load(0, place, kind), weights[tap]))
        code.store(6, rest[1], total)

    return types.void(packed, at, below, corners, x, lanes, target, to), _emitter(emit)


@intrinsic
def scatter_packed(
    typing: Any, given: Any, source: Any, lanes: Any, corners: Any, x: Any, sums: Any, at: Any, below: Any
) -> Any:
    """Add one output pixel, `given[source:source + lanes]` of a packed array, to its taps in the packed `sums`.

    Arguments as in `gather_lanes`.
    """

    def emit(code: _Code, _given: Any, source: Any, _lanes: Any, _corners: Any, x: Any, _sums: Any, *rest: Any) -> None:
        value = code.load(0, source, ir.VectorType(FLOAT, len(lanes)))
        _add_to_taps(code, value, code.weights(3, x, 1), 5, *rest)

    return types.void(given, source, lanes, corners, x, sums, at, below), _emitter(emit)


@intrinsic
def scatter_planes(
    typing: Any, given: Any, source: Any, planes: Any, corners: Any, x: Any, sums: Any, at: Any, below: Any
) -> Any:
    """`scatter_packed` of channels that lie apart: lane i is at `source + planes[i]` of the flat `given`."""

    def emit(code: _Code, _given: Any, source: Any, planes: Any, _corners: Any, x: Any, _sums: Any, *rest: Any) -> None:
        value: Any = ir.Constant(ir.VectorType(FLOAT, planes.type.count), ir.Undefined)
        for lane, plane in enumerate(cgutils.unpack_tuple(code.builder, planes)):
            number = code.load(0, code.plus(source, plane), _element(given.dtype))
            value = code.builder.insert_element(value, code.wide(number, given.dtype), NUMBER(lane))
        _add_to_taps(code, value, code.weights(3, x, 1), 5, *rest)

    return types.void(given, source, planes, corners, x, sums, at, below), _emitter(emit)


def _beside(code: _Code, at: Any, below: Any, lanes: int) -> list[tuple[int, Any]]:
    """The taps after the first, and where they are."""
    under = code.plus(at, below)
    return [(1, code.plus(at, lanes)), (2, under), (3, code.plus(under, lanes))]


def _add_to_taps(code: _Code, value: Any, weights: list[Any], sums: int, at: Any, below: Any) -> None:
    for tap, place in [(0, at), *_beside(code, at, below, value.type.count)]:
        code.store(
            sums, place, code.builder.fadd(code.load(sums, place, value.type), code.weighed(value, weights[tap]))
        )


@intrinsic
def pack_four(typing: Any, plane: Any, source: Any, planes: Any, packed: Any, to: Any) -> Any:
    """Pack four pixels side by side: lane i of the first is at `source + planes[i]` of the flat `plane`."""

    def emit(code: _Code, _plane: Any, source: Any, planes: Any, _packed: Any, to: Any) -> None:
        kind = ir.VectorType(FLOAT, PIXELS)
        channels = cgutils.unpack_tuple(code.builder, planes)
        rows = [code.load(0, code.plus(source, channel), kind) for channel in channels]
        for first in range(0, len(rows), 4):
            for pixel, column in enumerate(_transposed(code, rows[first : first + 4])):
                code.store(3, code.plus(to, pixel * len(rows) + first), column)

    return types.void(plane, source, planes, packed, to), _emitter(emit)


@intrinsic
def unpack_four(typing: Any, packed: Any, source: Any, plane: Any, to: Any, planes: Any) -> Any:
    """The reverse of `pack_four`; `planes` may lead lanes that nobody wants to the same place, the first last."""

    def emit(code: _Code, _packed: Any, source: Any, _plane: Any, to: Any, planes: Any) -> None:
        channels = cgutils.unpack_tuple(code.builder, planes)
        kind = ir.VectorType(FLOAT, 4)
        for first in reversed(range(0, len(channels), 4)):
            columns = [code.load(0, code.plus(source, pixel * len(channels) + first), kind) for pixel in range(PIXELS)]
            for lane, row in reversed(list(enumerate(_transposed(code, columns), first))):
                code.store(2, code.plus(to, channels[lane]), row)

    return types.void(packed, source, plane, to, planes), _emitter(emit)


def _transposed(code: _Code, rows: list[Any]) -> list[Any]:
    """Four vectors of four."""
    low, high = [0, 4, 1, 5], [2, 6, 3, 7]
    (a, b), (c, d) = ([code.shuffled(rows[i], rows[i + 2], order) for order in (low, high)] for i in (0, 1))
    return [code.shuffled(*pair, order) for pair in ((a, c), (b, d)) for order in (low, high)]
