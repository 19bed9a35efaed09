"""Native functions that Python calls as it calls its own built-in ones, without the cost of ctypes.

Such a function (``METH_FASTCALL | METH_KEYWORDS``) gets the address of the tuple it belongs to as ``S``, and as
arguments the address of the arguments' addresses, their count, and a tuple of names. What it needs of the interpreter
it finds in cells: functions of the C API that are public since Python 3.11 or longer. Where objects keep
their contents is looked at before anything is made, and again in what was made.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable

#: Bytes before the contents of a bytes object, and before the items of a tuple.
BYTES_HEAD: Final[int] = 32
TUPLE_HEAD: Final[int] = 24
#: Words before the items of a tuple.
FIRST_ITEM: Final[int] = TUPLE_HEAD // 8
#: Bytes before the address of an object's type.
TYPE_AT: Final[int] = 8

#: Cells of what is asked of the interpreter and of the C library: the type of whole numbers, then functions.
LONG_TYPE, LONG_AS_LONG_LONG, ERR_CLEAR, BYTES_FROM_SIZE, DEC_REF, VECTORCALL, PREADV2, API_CELLS = range(8)
_API: Final = ("PyLong_AsLongLong", "PyErr_Clear", "PyBytes_FromStringAndSize", "Py_DecRef", "PyObject_Vectorcall")
_FASTCALL_WITH_KEYWORDS: Final = 0x80 | 0x02


def fits() -> bool:
    """Whether this interpreter is one that native functions can be made for."""
    return (
        sys.implementation.name == "cpython"
        and getattr(sys, "_is_gil_enabled", lambda: True)()
        and not hasattr(sys, "gettotalrefcount")  # a debug build checks what is called
        and (bytes.__basicsize__, tuple.__basicsize__, object.__basicsize__) == (BYTES_HEAD + 1, TUPLE_HEAD, 16)
    )


def api_cells() -> list[int] | None:
    """Return the first API_CELLS cells; None where the C library lacks something."""
    import ctypes

    def address(library: Any, name: str) -> int:
        return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0

    try:
        functions = [address(ctypes.pythonapi, name) for name in _API]
        return [id(int), *functions, address(ctypes.CDLL(None), "preadv64v2")]
    except AttributeError:
        return None


def builtin(address: int, name: str, cells: array[int], *owned: object) -> Callable[..., Any] | None:
    """Return a function of Python for a native one; None where it cannot be made.

    Args:
        address: Of the native function.
        name: What Python calls it.
        cells: What it works with; never made longer or shorter. The first item of the tuple it belongs to is a bytes
            object with the address of the first cell.
        owned: The further items; they live as long as the function.
    """
    import ctypes

    place = cells.buffer_info()[0].to_bytes(8, sys.byteorder)
    # PyMethodDef: name, function, flags, documentation. The interpreter keeps the address of it.
    text = ctypes.create_string_buffer(name.encode())
    definition = (ctypes.c_uint64 * 4)(ctypes.addressof(text), address, _FASTCALL_WITH_KEYWORDS, 0)
    owner = (place, *owned, cells, text, definition)
    items = ctypes.string_at(id(owner) + TUPLE_HEAD, 8 * len(owner))
    if items != b"".join(id(item).to_bytes(8, sys.byteorder) for item in owner):
        return None
    if ctypes.string_at(id(place) + BYTES_HEAD, 8) != place:
        return None
    if ctypes.c_uint64.from_address(id(place) + TYPE_AT).value != id(bytes):
        return None
    make = ctypes.PyDLL(None).PyCFunction_NewEx
    make.argtypes, make.restype = (ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p), ctypes.py_object
    made: Callable[..., Any] = make(ctypes.addressof(definition), owner, None)
    return made
