"""The dialect as Python: the same functions, with every number cut to 64 bits."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Final

from blockkit.cpu import dialect
from blockkit.native import dialect as numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import CodeType, ModuleType

_MASK: Final = (1 << 64) - 1
_WRAPS: Final = (ast.Add, ast.Sub, ast.Mult, ast.LShift)


class Fault(Exception):  # noqa: N818 - what the SDM calls it
    """An exception of the processor; the state is as it was before the instruction that raised it.

    Attributes:
        vector: Its number.
        error: Its error code; 0 for those without.
    """

    def __init__(self, vector: int, error: int = 0) -> None:
        super().__init__(vector, error)
        self.vector, self.error = vector, error


def _raise_fault(vector: int, error: int) -> None:
    raise Fault(vector, error)


def _sign_extend(value: int, bits: int) -> int:
    sign = 1 << bits - 1
    return ((value & (sign << 1) - 1) ^ sign) - sign & _MASK


def _signed(value: int) -> int:
    return value - (value >> 63 << 64)


#: What needs no machine.
ARITHMETIC: Final[dict[str, Callable[..., int | None]]] = {
    "raise_fault": _raise_fault,
    "high_product": lambda first, second: first * second >> 64,
    "wide_quotient": lambda high, low, divisor: (high << 64 | low) // divisor,
    "wide_remainder": lambda high, low, divisor: (high << 64 | low) % divisor,
    "leading_zeros": lambda value: 64 - value.bit_length(),
    "count_ones": lambda value: value.bit_count(),
    "arithmetic_shift": lambda value, count: _signed(value) >> count & _MASK,
    "signed_below": lambda first, second: _signed(first) < _signed(second),
    "sign_extend": _sign_extend,
}


class _Masks(ast.NodeTransformer):
    """Cuts what may have become too large."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        return _masked(node) if isinstance(node.op, _WRAPS) else node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.op, ast.Invert):
            return ast.BinOp(node.operand, ast.BitXor(), ast.Constant(_MASK))
        return _masked(node) if isinstance(node.op, ast.USub) else node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt:
        target = ast.parse(ast.unparse(node.target), mode="eval").body
        value = self.visit(ast.BinOp(target, node.op, node.value))
        return ast.Assign([node.target], value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        assert node.value is not None
        return ast.Assign([node.target], self.visit(node.value))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.returns = None
        for argument in node.args.args:
            argument.annotation = None
        return node


def _masked(node: ast.expr) -> ast.expr:
    return ast.BinOp(node, ast.BitAnd(), ast.Constant(_MASK))


@cache
def _compiled(module: ModuleType) -> CodeType:
    """Return the code that defines the functions of ``module``."""
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    functions: list[ast.stmt] = [_Masks().visit(node) for node in tree.body if isinstance(node, ast.FunctionDef)]
    made = ast.fix_missing_locations(ast.Module(functions, []))
    return compile(made, module.__file__, "exec")


def functions(
    modules: Iterable[ModuleType], state: object, environment: dict[str, Callable[..., int | None]]
) -> dict[str, Callable[..., int]]:
    """Return the functions of ``modules``, by name, bound to a state and to what a machine supplies.

    Args:
        modules: Modules of the dialect, with all that they call.
        state: What ``S`` is: a list, or memory of 64-bit numbers.
        environment: The functions of :mod:`blockkit.cpu.dialect` that ARITHMETIC does not have; those that are missing
            raise NotImplementedError when they are called.
    """
    several = list(modules)
    made: dict[str, Callable[..., int]] = {}
    scopes: list[dict[str, object]] = []
    for module in several:
        scope: dict[str, object] = {}
        exec(_compiled(module), scope)
        for name, value in list(scope.items()):
            if isinstance(value, FunctionType):
                assert name not in made, f"{module.__name__}: {name} is the name of another function too"
                made[name] = value
        scopes.append(scope)
    for module, scope in zip(several, scopes, strict=True):
        for name, value in vars(module).items():
            if name.startswith("__"):
                continue
            if isinstance(value, FunctionType):
                if value.__module__ in (dialect.__name__, numbers.__name__):
                    scope[name] = environment.get(name) or ARITHMETIC.get(name) or value
                elif name in made:
                    scope[name] = made[name]
            elif isinstance(value, int | tuple):
                scope[name] = value
        scope["S"] = state
    return made
