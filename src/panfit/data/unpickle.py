"""Read a pickle of {name: vector} without trusting it: dict, str and numpy arrays come out, nothing else is admitted.

A pickle is a program that may call anything it can name. Here it can name only what numpy's own pickles of arrays name,
and even those names lead to the small stand-ins below rather than into numpy: an array's bytes, shape and plain number
type are checked before an array is made of them. Python 2 and 3, numpy 1 and 2, protocols 0 to 5.
"""

import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panfit.errors import DataError, Problem

_PLAIN_DTYPE = re.compile(r"[<>|=]?([fiu][1248]|b1|\?)")
"""Floats, integers and booleans; no objects, strings or records."""
_HELPS = "Only numpy arrays of numbers under string names are read; save it as such"


def read_vectors_pickle(path: Path) -> dict[str, NDArray[Any]]:
    """The file's {name: (T,) array of numbers}.

    Raises:
        DataError: it names a class or function beyond numpy's arrays, is damaged, or holds something else; the first
            such thing of the pickle itself, and then all that is wrong with its entries.
    """
    try:
        with path.open("rb") as file:
            found = _ArrayUnpickler(file, encoding="latin1").load()
    except OSError as error:
        raise _refused(path, f"a file that cannot be read ({error.strerror})", "a pickle") from None
    except _RefusedError as error:
        raise _refused(path, str(error), "a dict of strings to numpy arrays") from None
    except Exception as error:  # a damaged pickle fails in any way whatever
        raise _refused(path, f"a damaged pickle ({type(error).__name__}: {error})", "a whole one") from None
    if not isinstance(found, dict):
        raise _refused(path, f"a {type(found).__name__}", "a dict of strings to numpy arrays")
    problems = []
    vectors: dict[str, NDArray[Any]] = {}
    for name, value in found.items():
        array = value.array if isinstance(value, _Array) else None
        if not isinstance(name, str):
            problems.append(_problem(path, f"the key {name!r}"[:80], "a string"))
        elif array is None or array.ndim != 1:
            what = f"of shape {array.shape}" if array is not None else f"a {type(value).__name__}"
            problems.append(_problem(path, f"the value of {name!r}, {what}", "a numpy array of one dimension"))
        else:
            vectors[name] = array
    if problems:
        raise DataError(f"{path}: {len(problems)} entries are not vectors", problems)
    return vectors


class _RefusedError(Exception):
    """The pickle names or makes what is not admitted."""


class _Dtype:
    """Stands for numpy.dtype: a plain number type and its byte order."""

    __slots__ = ("spec",)

    def __init__(self, spec: str) -> None:
        self.spec = spec

    def __setstate__(self, state: Any) -> None:
        order, subarray, names, fields = state[1:5]
        if order not in ("<", ">", "|", "=") or (subarray, names, fields) != (None, None, None):
            raise _RefusedError("a numpy dtype that is not a plain number")
        self.spec = order + self.spec.lstrip("<>|=")

    def array(self, data: Any, shape: Any, *, fortran: bool) -> NDArray[Any]:
        if isinstance(data, str):  # what Python 2 wrote as a string, read as latin1
            data = data.encode("latin1")
        dtype = np.dtype(self.spec)
        sizes_are_plain = isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)
        if not isinstance(data, bytes | bytearray) or not sizes_are_plain:
            raise _RefusedError("a numpy array whose contents are not bytes")
        if math.prod(shape) * dtype.itemsize != len(data):
            raise _RefusedError(f"a numpy array of shape {shape} with {len(data)} bytes")
        return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


class _Array:
    """Stands for an array that is being made: filled once its state is known."""

    __slots__ = ("array",)

    def __init__(self, array: NDArray[Any] | None = None) -> None:
        self.array = array

    def __setstate__(self, state: Any) -> None:
        shape, dtype, fortran, data = state[1:] if len(state) == 5 else state
        self.array = _dtype(dtype).array(data, shape, fortran=bool(fortran))


class _Call:
    """A callable that has no attributes to set, so that a pickle cannot change it."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise _RefusedError("a change to a numpy function")


def _dtype(value: Any) -> _Dtype:
    if not isinstance(value, _Dtype):
        raise _RefusedError("a numpy array without a dtype")
    return value


def _make_dtype(spec: Any, *_flags: Any) -> _Dtype:
    if not isinstance(spec, str) or not _PLAIN_DTYPE.fullmatch(spec):
        raise _RefusedError(f"the numpy dtype {spec!r}")
    return _Dtype(spec)


def _make_empty(*_arguments: Any) -> _Array:
    return _Array()


def _make_scalar(dtype: Any, data: Any) -> _Array:
    return _Array(_dtype(dtype).array(data, (), fortran=False))


def _make_from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    return _Array(_dtype(dtype).array(bytes(memoryview(data)), shape, fortran=order == "F"))


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise _RefusedError("a call of _codecs.encode that is not about bytes")
    return text.encode("latin1")


_NDARRAY = _Call(_make_empty)
_ADMITTED = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Call(_make_dtype),
    ("numpy.core.multiarray", "_reconstruct"): _Call(_make_empty),
    ("numpy.core.multiarray", "scalar"): _Call(_make_scalar),
    ("numpy.core.numeric", "_frombuffer"): _Call(_make_from_buffer),
    ("_codecs", "encode"): _Call(_encode),
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        admitted = _ADMITTED.get((module.replace("numpy._core.", "numpy.core."), name))
        if admitted is None:
            raise _RefusedError(f"a pickle that wants {module}.{name}")
        return admitted


def _problem(path: Path, found: str, wanted: str) -> Problem:
    return Problem(str(path), found, wanted, _HELPS)


def _refused(path: Path, found: str, wanted: str) -> DataError:
    return DataError(f"{path}: cannot be read", [_problem(path, found, wanted)])
