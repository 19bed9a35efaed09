"""The dialect as LLVM assembly: the same functions, native.

Each function gets the address of a state as its first argument, which only the processor has. One that may raise an
exception of the processor returns whether it did beside its number, and whoever calls it returns at once if so.
"""

from __future__ import annotations

import ast
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Final

from blockkit.native import dialect

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import ModuleType

#: Set in the slot of the vector, so that vector 0 is told from none.
RAISED: Final = 0x100

_OPERATORS: Final[dict[type[ast.operator], str]] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.BitAnd: "and", ast.BitOr: "or", ast.BitXor: "xor",
    ast.LShift: "shl", ast.RShift: "lshr", ast.FloorDiv: "udiv", ast.Mod: "urem",
}  # fmt: skip
_COMPARISONS: Final[dict[type[ast.cmpop], str]] = {
    ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "ult", ast.LtE: "ule", ast.Gt: "ugt", ast.GtE: "uge",
}  # fmt: skip
_MASK: Final = (1 << 64) - 1

#: What goes before all functions.
PRELUDE: Final = """
declare i64 @llvm.ctlz.i64(i64, i1)
declare i64 @llvm.ctpop.i64(i64)
declare float @llvm.sqrt.f32(float)
declare double @llvm.sqrt.f64(double)
"""


class LoweringError(Exception):
    """A function is outside the dialect."""


class _Function:
    """One function of the dialect.

    Attributes:
        name: Its name, unique among all.
        tree: Its source.
        scope: The names of its module.
        calls: The functions of the dialect that it calls.
        may_fault: It, or one of those, raises exceptions.
    """

    def __init__(self, tree: ast.FunctionDef, scope: Mapping[str, object]) -> None:
        self.name, self.tree, self.scope = tree.name, tree, scope
        self.calls = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        self.may_fault = "raise_fault" in self.calls


class Library:
    """Functions of the dialect that call each other.

    Args:
        modules: Their modules. Names that a module takes from a dialect without a body are looked for among the
            functions of all modules, then among what the compiler knows.
        fault_slots: Where in the state the vector and the error code of an exception go.
    """

    def __init__(self, modules: Iterable[ModuleType], fault_slots: tuple[int, int] | None = None) -> None:
        self.fault_slots = fault_slots
        self.functions: dict[str, _Function] = {}
        for module in modules:
            assert module.__file__ is not None
            tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
            for node in tree.body:
                if isinstance(node, ast.FunctionDef) and not node.decorator_list:
                    assert node.name not in self.functions, node.name
                    self.functions[node.name] = _Function(node, vars(module))
        changed = True
        while changed:
            changed = False
            for each in self.functions.values():
                if not each.may_fault and any(self._faults(name) for name in each.calls):
                    each.may_fault = changed = True
        self._tables: dict[int, tuple[str, str, int]] = {}
        #: Constant tables by name, instead of those of the modules.
        self.tables: dict[str, tuple[int, ...]] = {}

    def _faults(self, name: str) -> bool:
        return name in self.functions and self.functions[name].may_fault

    def may_fault(self, name: str) -> bool:
        """Tell whether a function raises exceptions."""
        return self.functions[name].may_fault

    def signature(self, name: str) -> str:
        """Return the type that a function returns."""
        return "{ i64, i1 }" if self.functions[name].may_fault else "i64"

    def table(self, name: str, value: tuple[int, ...]) -> tuple[str, int]:
        """Return the name and the bits of the entries of a constant table."""
        found = self._tables.get(id(value))
        if found is None:
            bits = next(bits for bits in (8, 16, 32, 64) if max(value, default=0) < 1 << bits)
            label = f"@table.{len(self._tables)}.{name}"
            entries = ", ".join(f"i{bits} {each}" for each in value)
            text = f"{label} = internal constant [{len(value)} x i{bits}] [{entries}]"
            found = self._tables[id(value)] = label, text, bits
        return found[0], found[2]

    def lower(self) -> str:
        """Return all functions and tables as LLVM assembly."""
        bodies = [_Body(self, each).text() for each in self.functions.values()]
        return "\n".join([PRELUDE, *(text for _, text, _ in self._tables.values()), *bodies])


class _Body:
    """Writes the body of one function."""

    def __init__(self, library: Library, function: _Function) -> None:
        self.library, self.function = library, function
        self.lines: list[str] = []
        self._count = 0
        self._loops: list[tuple[str, str]] = []
        tree = function.tree
        self.parameters = [argument.arg for argument in tree.args.args]
        stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        self.locals = sorted(stored | set(self.parameters))

    def text(self) -> str:
        """Return the function."""
        function = self.function
        self.lines = [f"%{name}.p = alloca i64" for name in self.locals]
        self.lines += [f"store i64 %{name}.a, ptr %{name}.p" for name in self.parameters]
        if not self._block(function.tree.body):
            self._return("0")
        arguments = "".join(f", i64 %{name}.a" for name in self.parameters)
        kind = self.library.signature(function.name)
        head = f"define internal {kind} @{function.name}(ptr %S{arguments}) nounwind {{"
        return "\n".join([head, "entry:", *self.lines, "}"])

    # -- lines ---------------------------------------------------------------------------------------------

    def _emit(self, text: str) -> str:
        self._count += 1
        self.lines.append(f"%t{self._count} = {text}")
        return f"%t{self._count}"

    def _label(self) -> str:
        self._count += 1
        return f"l{self._count}"

    def _go(self, label: str) -> None:
        self.lines.append(f"br label %{label}")

    def _at(self, label: str) -> None:
        self.lines.append(f"{label}:")

    def _return(self, value: str) -> None:
        if self.function.may_fault:
            pair = self._emit(f"insertvalue {{ i64, i1 }} {{ i64 undef, i1 false }}, i64 {value}, 0")
            self.lines.append(f"ret {{ i64, i1 }} {pair}")
        else:
            self.lines.append(f"ret i64 {value}")

    def _refuse(self, node: ast.AST) -> LoweringError:
        line = getattr(node, "lineno", 0)
        return LoweringError(f"{self.function.name}: line {line}: {ast.unparse(node)!r} is not in the dialect")

    # -- statements ----------------------------------------------------------------------------------------

    def _block(self, body: list[ast.stmt]) -> bool:
        """Write statements; whether the end cannot be reached."""
        return any(self._statement(node) for node in body)

    def _statement(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.Return):
            self._return(self._value(node.value) if node.value is not None else "0")
            return True
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            self._assign(node.targets[0], self._value(node.value))
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self._assign(node.target, self._value(node.value))
        elif isinstance(node, ast.AugAssign):
            self._augment(node)
        elif isinstance(node, ast.Expr):
            if isinstance(node.value, ast.Call):
                return self._is_raise(node.value)
            if not isinstance(node.value, ast.Constant):
                raise self._refuse(node)
        elif isinstance(node, ast.If):
            return self._if(node)
        elif isinstance(node, ast.While):
            return self._while(node)
        elif isinstance(node, ast.Break):
            self._go(self._loops[-1][1])
            return True
        elif isinstance(node, ast.Continue):
            self._go(self._loops[-1][0])
            return True
        elif not isinstance(node, ast.Pass):
            raise self._refuse(node)
        return False

    def _is_raise(self, node: ast.Call) -> bool:
        if isinstance(node.func, ast.Name) and node.func.id == "raise_fault":
            if self.library.fault_slots is None:
                raise self._refuse(node)
            vector_slot, error_slot = map(str, self.library.fault_slots)
            vector, error = (self._value(each) for each in node.args)
            marked = self._emit(f"or i64 {vector}, {RAISED}")
            self.lines.append(f"store i64 {marked}, ptr {self._slot(vector_slot)}")
            self.lines.append(f"store i64 {error}, ptr {self._slot(error_slot)}")
            self.lines.append("ret { i64, i1 } { i64 0, i1 true }")
            return True
        self._call(node)
        return False

    def _assign(self, target: ast.expr, value: str) -> None:
        if isinstance(target, ast.Name):
            self.lines.append(f"store i64 {value}, ptr %{target.id}.p")
        elif isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name) and target.value.id == "S":
            self.lines.append(f"store i64 {value}, ptr {self._slot(self._value(target.slice))}")
        else:
            raise self._refuse(target)

    def _augment(self, node: ast.AugAssign) -> None:
        operator = _OPERATORS[type(node.op)]
        if isinstance(node.target, ast.Name):
            before = self._emit(f"load i64, ptr %{node.target.id}.p")
            after = self._emit(f"{operator} i64 {before}, {self._value(node.value)}")
            self._assign(node.target, after)
        elif isinstance(node.target, ast.Subscript):
            place = self._slot(self._value(node.target.slice))
            before = self._emit(f"load i64, ptr {place}")
            after = self._emit(f"{operator} i64 {before}, {self._value(node.value)}")
            self.lines.append(f"store i64 {after}, ptr {place}")
        else:
            raise self._refuse(node)

    def _if(self, node: ast.If) -> bool:
        yes, no, after = self._label(), self._label(), self._label()
        self._condition(node.test, yes, no)
        ended = []
        for label, body in ((yes, node.body), (no, node.orelse)):
            self._at(label)
            ended.append(self._block(body))
            if not ended[-1]:
                self._go(after)
        if all(ended):
            return True
        self._at(after)
        return False

    def _while(self, node: ast.While) -> bool:
        if node.orelse:
            raise self._refuse(node)
        head, body, after = self._label(), self._label(), self._label()
        forever = isinstance(node.test, ast.Constant) and bool(node.test.value)
        self._go(head)
        self._at(head)
        if forever:
            self._go(body)
        else:
            self._condition(node.test, body, after)
        self._at(body)
        self._loops.append((head, after))
        if not self._block(node.body):
            self._go(head)
        self._loops.pop()
        if forever and not any(isinstance(each, ast.Break) for each in ast.walk(node)):
            return True
        self._at(after)
        return False

    # -- conditions ----------------------------------------------------------------------------------------

    def _condition(self, node: ast.expr, yes: str, no: str) -> None:
        if isinstance(node, ast.BoolOp):
            for each in node.values[:-1]:
                further = self._label()
                if isinstance(node.op, ast.And):
                    self._condition(each, further, no)
                else:
                    self._condition(each, yes, further)
                self._at(further)
            self._condition(node.values[-1], yes, no)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            self._condition(node.operand, no, yes)
        else:
            self.lines.append(f"br i1 {self._truth(node)}, label %{yes}, label %{no}")

    def _truth(self, node: ast.expr) -> str:
        if isinstance(node, ast.Compare):
            if len(node.ops) != 1:
                raise self._refuse(node)
            first, second = self._value(node.left), self._value(node.comparators[0])
            return self._emit(f"icmp {_COMPARISONS[type(node.ops[0])]} i64 {first}, {second}")
        return self._emit(f"icmp ne i64 {self._value(node)}, 0")

    # -- values --------------------------------------------------------------------------------------------

    def _slot(self, index: str) -> str:
        return self._emit(f"getelementptr i64, ptr %S, i64 {index}")

    def _value(self, node: ast.expr) -> str:
        known = self._constant(node)
        if known is not None:
            return str(known & _MASK)
        if isinstance(node, ast.Name):
            if node.id not in self.locals:
                raise self._refuse(node)
            return self._emit(f"load i64, ptr %{node.id}.p")
        if isinstance(node, ast.BinOp):
            first = self._value(node.left)
            return self._emit(f"{_OPERATORS[type(node.op)]} i64 {first}, {self._value(node.right)}")
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert):
            return self._emit(f"xor i64 {self._value(node.operand)}, -1")
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return self._emit(f"sub i64 0, {self._value(node.operand)}")
        if isinstance(node, ast.Compare):
            return self._emit(f"zext i1 {self._truth(node)} to i64")
        if isinstance(node, ast.IfExp):
            return self._choose(node)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            return self._element(node, node.value.id)
        if isinstance(node, ast.Call):
            return self._call(node)
        raise self._refuse(node)

    def _constant(self, node: ast.expr) -> int | None:
        """Return what is known now."""
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return int(node.value)
        if isinstance(node, ast.Name) and node.id not in self.locals:
            if node.id == "NATIVE":
                return 1
            value = self.function.scope.get(node.id)
            return value if isinstance(value, int) else None
        if isinstance(node, ast.UnaryOp):
            inner = self._constant(node.operand)
            if inner is not None and isinstance(node.op, ast.Invert | ast.USub):
                return ~inner if isinstance(node.op, ast.Invert) else -inner
        if isinstance(node, ast.BinOp):
            first, second = self._constant(node.left), self._constant(node.right)
            if first is not None and second is not None:
                made = ast.Expression(ast.BinOp(ast.Constant(first), node.op, ast.Constant(second)))
                value = eval(compile(ast.fix_missing_locations(made), "<constant>", "eval"), {})
                assert isinstance(value, int)
                return value & _MASK
        return None

    def _choose(self, node: ast.IfExp) -> str:
        yes, no, after = self._label(), self._label(), self._label()
        self._condition(node.test, yes, no)
        values = []
        for label, each in ((yes, node.body), (no, node.orelse)):
            self._at(label)
            value = self._value(each)
            # The value may have been made in another block: the last one.
            end = self._label()
            self._go(end)
            self._at(end)
            values.append(f"[ {value}, %{end} ]")
            self._go(after)
        self._at(after)
        return self._emit(f"phi i64 {', '.join(values)}")

    def _element(self, node: ast.Subscript, name: str) -> str:
        index = self._value(node.slice)
        if name == "S":
            return self._emit(f"load i64, ptr {self._slot(index)}")
        value = self.library.tables.get(name, self.function.scope.get(name))
        if not isinstance(value, tuple):
            raise self._refuse(node)
        label, bits = self.library.table(name, value)
        place = self._emit(f"getelementptr i{bits}, ptr {label}, i64 {index}")
        found = self._emit(f"load i{bits}, ptr {place}")
        return found if bits == 64 else self._emit(f"zext i{bits} {found} to i64")

    # -- calls ---------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> str:
        if not isinstance(node.func, ast.Name) or node.keywords:
            raise self._refuse(node)
        name = node.func.id
        if name in self.library.functions:
            given = "".join(f", i64 {self._value(each)}" for each in node.args)
            called = self.library.functions[name]
            if len(called.tree.args.args) != len(node.args):
                raise self._refuse(node)
            result = self._emit(f"call {self.library.signature(name)} @{name}(ptr %S{given})")
            if not called.may_fault:
                return result
            fault, well = self._label(), self._label()
            self.lines.append(f"br i1 {self._emit(f'extractvalue {{ i64, i1 }} {result}, 1')}, label %{fault}, "
                              f"label %{well}, !prof !1")  # fmt: skip
            self._at(fault)
            self.lines.append("ret { i64, i1 } { i64 0, i1 true }")
            self._at(well)
            return self._emit(f"extractvalue {{ i64, i1 }} {result}, 0")
        scoped = self.function.scope.get(name)
        if not isinstance(scoped, FunctionType) or scoped.__module__ != dialect.__name__:
            raise self._refuse(node)
        return self._known(name, node)

    def _known(self, name: str, node: ast.Call) -> str:
        """Write a call of what the compiler knows."""
        if name == "sign_extend":
            bits = self._constant(node.args[1])
            if bits is None:
                raise self._refuse(node)
            return self._emit(f"sext i{bits} {self._emit(f'trunc i64 {self._value(node.args[0])} to i{bits}')} to i64")
        if name.startswith("host_float_"):
            return self._float(name.removeprefix("host_float_"), node)
        values = [self._value(each) for each in node.args]
        if name == "high_product":
            first, second = (self._emit(f"zext i64 {each} to i128") for each in values)
            high = self._emit(f"lshr i128 {self._emit(f'mul i128 {first}, {second}')}, 64")
            return self._emit(f"trunc i128 {high} to i64")
        if name in ("wide_quotient", "wide_remainder"):
            high, low, divisor = values
            both = self._emit(
                f'call {{ i64, i64 }} asm "divq $4", "={{rax}},={{rdx}},{{rax}},{{rdx}},r,~{{flags}}"'
                f"(i64 {low}, i64 {high}, i64 {divisor})"
            )
            return self._emit(f"extractvalue {{ i64, i64 }} {both}, {0 if name == 'wide_quotient' else 1}")
        if name == "leading_zeros":
            return self._emit(f"call i64 @llvm.ctlz.i64(i64 {values[0]}, i1 false)")
        if name == "count_ones":
            return self._emit(f"call i64 @llvm.ctpop.i64(i64 {values[0]})")
        if name == "arithmetic_shift":
            return self._emit(f"ashr i64 {values[0]}, {values[1]}")
        if name == "signed_below":
            return self._emit(f"zext i1 {self._emit(f'icmp slt i64 {values[0]}, {values[1]}')} to i64")
        if name == "host_read":
            bits = self._bits(node)
            place = self._emit(f"inttoptr i64 {values[0]} to ptr")
            found = self._emit(f"load i{bits}, ptr {place}, align 1")
            return found if bits == 64 else self._emit(f"zext i{bits} {found} to i64")
        if name == "host_write":
            bits = self._bits(node)
            place = self._emit(f"inttoptr i64 {values[0]} to ptr")
            value = values[2] if bits == 64 else self._emit(f"trunc i64 {values[2]} to i{bits}")
            self.lines.append(f"store i{bits} {value}, ptr {place}, align 1")
            return "0"
        if name in ("callback", "host_call"):
            place = self._emit(f"inttoptr i64 {values[0]} to ptr")
            return self._emit(f"call i64 {place}({', '.join(f'i64 {each}' for each in values[1:])})")
        raise self._refuse(node)

    def _float(self, operator: str, node: ast.Call) -> str:
        """Write an operation on floats, which are numbers before and after."""
        bits = self._constant(node.args[-1])
        if bits not in (32, 64):
            raise self._refuse(node)
        kind = "float" if bits == 32 else "double"
        given = []
        for each in node.args[:-1]:
            value = self._value(each)
            number = value if bits == 64 else self._emit(f"trunc i64 {value} to i{bits}")
            given.append(self._emit(f"bitcast i{bits} {number} to {kind}"))
        if operator == "sqrt":
            result = self._emit(f"call {kind} @llvm.sqrt.f{bits}({kind} {given[0]})")
        else:
            result = self._emit(f"f{operator} {kind} {', '.join(given)}")
        number = self._emit(f"bitcast {kind} {result} to i{bits}")
        return number if bits == 64 else self._emit(f"zext i{bits} {number} to i64")

    def _bits(self, node: ast.Call) -> int:
        size = self._constant(node.args[1])
        if size not in (1, 2, 4, 8):
            raise self._refuse(node)
        return size * 8
