"""Asking memory for a value before it is needed, in compiled loops.

A processor fetches ahead on its own as long as it can foresee what a loop does next. It cannot in loops over many short
lists, whose every end is a surprise; there each list waits for memory anew, several times, once the arrays have
outgrown the caches. `prefetch` starts such a transfer and does not wait for it, and it changes no value.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_READ, _KEEP_IN_ALL_CACHES, _DATA = 0, 3, 1


@intrinsic
def prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """Start bringing the cache line of `array[index]` near, in compiled code; array of one axis, index not negative.

    LLVM's `llvm.prefetch`: one instruction where the processor has one, nothing elsewhere. An index beyond the end is
    harmless, since a prefetch never faults; of None there is nothing to bring.
    """
    if array is types.none:
        return types.void(array, index), lambda context, *rest: context.get_dummy_value()
    if not (isinstance(array, types.Array) and array.ndim == 1 and isinstance(index, types.Integer)):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array_type, index_type = signature.args
        data = context.make_array(array_type)(context, builder, arguments[0])
        place = context.cast(builder, arguments[1], index_type, types.intp)
        address = cgutils.get_item_pointer(context, builder, array_type, data, [place], wraparound=False)
        pointer, number = cgutils.voidptr_t, ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        hints = [number(hint) for hint in (_READ, _KEEP_IN_ALL_CACHES, _DATA)]
        builder.call(function, [builder.bitcast(address, pointer), *hints])
        return context.get_dummy_value()

    return types.void(array, index), generate
