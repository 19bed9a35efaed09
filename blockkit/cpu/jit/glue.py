"""The handlers that no instruction has, and the way into native code and out of it: LLVM assembly as it stands."""

from __future__ import annotations

from typing import Final

from blockkit.cpu import state
from blockkit.cpu.jit import layout
from blockkit.cpu.jit.handlers import CONVENTION, PARAMETERS
from blockkit.cpu.jit.packed import declarations

_RECORD: Final = layout.RECORD_SIZE


def _slot(number: int, name: str) -> str:
    return f"  %{name} = getelementptr i64, ptr %S, i64 {number}"


def _set(number: int, value: str, name: str) -> str:
    return f"{_slot(number, name)}\n  store i64 {value}, ptr %{name}"


#: Leaves native code: everything that is in registers goes back to the state.
_FINISH: Final = f"""
{_set(state.RES, "%res", "res.p")}
{_set(state.COUT, "%cout", "cout.p")}
{_set(layout.LEFT, "%left", "left.p")}
{_set(layout.RECORD, "%record", "record.p")}
  ret void
"""
_SPENT: Final = f"""
{_slot(layout.LIMIT, "limit.p")}
  %limit = load i64, ptr %limit.p
  %executed = sub i64 %limit, %left
{_set(state.EXECUTED, "%executed", "executed.p")}
"""


def _handler(name: str, body: str) -> str:
    head = f"define {CONVENTION} void @{name}({PARAMETERS}) nounwind {{"
    return f"{head}\nentry:\n  %record = ptrtoint ptr %ip to i64\n{body}}}\n"


def _exit(name: str, reason: int, before: str = "") -> str:
    return _handler(name, before + _set(layout.EXIT, str(reason), "exit.p") + _FINISH)


#: After an event was delivered, which took the time of an instruction: goes on at its handler.
_ON: Final = f"""
{_slot(state.EXECUTED, "done.p")}
  %done.before = load i64, ptr %done.p
  %done = add i64 %done.before, 1
  store i64 %done, ptr %done.p
{_slot(layout.LIMIT, "last.p")}
  %last = load i64, ptr %last.p
  %remaining = sub i64 %last, %done
{_slot(state.RES, "res.after.p")}
  %res.after = load i64, ptr %res.after.p
{_slot(state.COUT, "cout.after.p")}
  %cout.after = load i64, ptr %cout.after.p
  musttail call {CONVENTION} void @look(ptr %S, ptr %ip, i64 %res.after, i64 %cout.after, i64 %remaining, ptr %tlb)
  ret void
"""
#: Delivers the exception that was raised; RIP, EXECUTED and flags are in the state.
_RAISED: Final = f"""
{_slot(state.FAULT_VECTOR, "vector.p")}
  %vector.raised = load i64, ptr %vector.p
  %vector = and i64 %vector.raised, 255
  store i64 0, ptr %vector.p
{_slot(state.FAULT_ERROR, "error.p")}
  %error = load i64, ptr %error.p
  call void @deliver_event(ptr %S, i64 %vector, i64 %error, i64 1)
{_ON}"""
_KEEP_FLAGS: Final = f"""
{_set(state.RES, "%res", "kept.res.p")}
{_set(state.COUT, "%cout", "kept.cout.p")}
"""


def _go(name: str, before: str, call: str) -> str:
    """A handler that asks system code for the next record, which may raise an exception or have none."""
    return _handler(
        name,
        f"""{before}
{_KEEP_FLAGS}
  %pair = {call}
  %raised = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %raised, label %fault, label %well
well:
  %target = extractvalue {{ i64, i1 }} %pair, 0
  %none = icmp eq i64 %target, 0
  br i1 %none, label %stay, label %go
go:
  %next = inttoptr i64 %target to ptr
  %code = load ptr, ptr %next
  musttail call {CONVENTION} void %code(ptr %S, ptr %next, i64 %res, i64 %cout, i64 %left, ptr %tlb)
  ret void
fault:
{_SPENT}{_RAISED}
stay:
{_SPENT.replace("%limit", "%stay.limit").replace("%executed", "%stay.executed")}{_FINISH}""",
    )


_LOCATE: Final = f"""
{_slot(layout.LIMIT, "limit.p")}
  %limit = load i64, ptr %limit.p
  call i64 @locate(ptr %S, i64 %record, i64 %left, i64 %limit)
"""
#: RIP and EXECUTED are in the state: looks at what there is to do.
_ATTEND: Final = f"""
{_slot(state.EXECUTED, "done.p")}
  %done = load i64, ptr %done.p
  %remaining = sub i64 %limit, %done
  musttail call {CONVENTION} void @look(ptr %S, ptr %ip, i64 %res, i64 %cout, i64 %remaining, ptr %tlb)
  ret void
"""
_LOAD_NUMBER: Final = f"""
  %number.p = getelementptr i8, ptr %ip, i64 {layout.NUMBER}
  %number.b = load i8, ptr %number.p
  %number = zext i8 %number.b to i64
"""


def text() -> str:
    """Return all of it."""
    return "\n".join(
        [
            '!0 = !{!"branch_weights", i32 100000, i32 1}',
            '!1 = !{!"branch_weights", i32 1, i32 100000}',
            *(f"declare i{bits} @llvm.ctpop.i{bits}(i{bits})" for bits in (8, 16, 32)),
            *(f"declare i{bits} @llvm.ctlz.i{bits}(i{bits}, i1)" for bits in (8, 16, 32)),
            *declarations(),
            _ENTER,
            _handler("leave_fault", _KEEP_FLAGS + _LOCATE + _RAISED),
            _handler("leave_raised", _RAISED),
            _exit("h_fallback", layout.FALLBACK, _LOCATE),
            _handler("h_attention", _LOCATE + _ATTEND),
            _handler(
                "leave_cell",
                f"""
  %offset.p = getelementptr i8, ptr %ip, i64 {layout.CELL_OFFSET}
  %offset = load i64, ptr %offset.p
{_set(state.RIP, "%offset", "rip.p")}
  musttail call {CONVENTION} void @look(ptr %S, ptr %ip, i64 %res, i64 %cout, i64 %left, ptr %tlb)
  ret void
""",
            ),
            _go("h_link", "", "call { i64, i1 } @link(ptr %S, i64 %record)"),
            _go("h_dead", "", "call { i64, i1 } @revive(ptr %S, i64 %record)"),
            _go(
                "go_offset",
                f"{_slot(state.RIP, 'rip.p')}\n  %offset = load i64, ptr %rip.p",
                "call { i64, i1 } @resolve(ptr %S, i64 %offset)",
            ),
            _LOOK,
            _GOTO,
            _SLOW,
        ]
    )


_ENTER: Final = f"""
define void @enter(ptr %S, ptr %ip) nounwind {{
entry:
{_slot(state.RES, "res.p")}
  %res = load i64, ptr %res.p
{_slot(state.COUT, "cout.p")}
  %cout = load i64, ptr %cout.p
{_slot(layout.LEFT, "left.p")}
  %left = load i64, ptr %left.p
{_slot(layout.TLB_POINTER, "slot.p")}
  %slot = load i64, ptr %slot.p
  %tlb = getelementptr i64, ptr %S, i64 %slot
  call {CONVENTION} void @go_offset(ptr %S, ptr %ip, i64 %res, i64 %cout, i64 %left, ptr %tlb)
  ret void
}}
"""

#: After system code that may have changed anything.
_LOOK: Final = _handler(
    "look",
    f"""
{_set(state.RES, "%res", "res.p")}
{_set(state.COUT, "%cout", "cout.p")}
{_slot(layout.WAITED, "waited.p")}
  %waited = load i64, ptr %waited.p
  store i64 0, ptr %waited.p
  %rest = sub i64 %left, %waited
  %stop = icmp slt i64 %rest, 0
  br i1 %stop, label %leave, label %ask
ask:
  %found = call i64 @look_around(ptr %S)
  %busy = icmp ne i64 %found, 0
  br i1 %busy, label %leave, label %go
go:
{_slot(layout.TLB_POINTER, "slot.p")}
  %slot = load i64, ptr %slot.p
  %tlb.now = getelementptr i64, ptr %S, i64 %slot
  musttail call {CONVENTION} void @go_offset(ptr %S, ptr %ip, i64 %res, i64 %cout, i64 %rest, ptr %tlb.now)
  ret void
leave:
{_set(layout.EXIT, str(layout.LEFT_BLOCK), "exit.p")}
{_SPENT.replace("%left", "%rest")}
{_set(layout.LEFT, "%rest", "left.p")}
{_set(layout.RECORD, "%record", "record.p")}
  ret void
""",
)

_GOTO: Final = _handler(
    "h_goto",
    f"""
{_LOAD_NUMBER}
  %after = sub i64 %left, %number
  %stop = icmp slt i64 %after, 0
  br i1 %stop, label %leave, label %go
leave:
  %cell = getelementptr i8, ptr %ip, i64 {layout.CELL_TAKEN}
  musttail call {CONVENTION} void @leave_cell(ptr %S, ptr %cell, i64 %res, i64 %cout, i64 %after, ptr %tlb)
  ret void
go:
  %target.p = getelementptr i8, ptr %ip, i64 {layout.TAKEN}
  %target = load ptr, ptr %target.p
  %code = load ptr, ptr %target
  musttail call {CONVENTION} void %code(ptr %S, ptr %target, i64 %res, i64 %cout, i64 %after, ptr %tlb)
  ret void
""",
)

_SLOW: Final = f"""
define void @deliver_event(ptr %S, i64 %vector, i64 %error, i64 %kind) nounwind {{
entry:
  br label %again
again:
  %v = phi i64 [ %vector, %entry ], [ %next, %second ]
  %e = phi i64 [ %error, %entry ], [ %next.error, %second ]
  %k = phi i64 [ %kind, %entry ], [ 1, %second ]
  %has = call i64 @has_error_code(ptr %S, i64 %v, i64 %k)
  %pair = call {{ i64, i1 }} @deliver(ptr %S, i64 %v, i64 %e, i64 %has, i64 %k)
  %raised = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %raised, label %second, label %done
second:
  %next = call i64 @second_fault(ptr %S, i64 %v, i64 %k)
{_slot(state.FAULT_ERROR, "error.p")}
  %next.error = load i64, ptr %error.p
  %shutdown = icmp eq i64 %next, 255
  br i1 %shutdown, label %done, label %again
done:
  ret void
}}
define preserve_mostcc i64 @slow_load(ptr %S, ptr %ip, i64 %left, i64 %address, i64 %size) noinline cold nounwind {{
  %record = ptrtoint ptr %ip to i64
  %pair = call {{ i64, i1 }} @slow_read(ptr %S, i64 %record, i64 %left, i64 %address, i64 %size)
  %value = extractvalue {{ i64, i1 }} %pair, 0
  ret i64 %value
}}
define preserve_mostcc void @slow_store(ptr %S, ptr %ip, i64 %left, i64 %address, i64 %size, i64 %value)
    noinline cold nounwind {{
  %record = ptrtoint ptr %ip to i64
  call {{ i64, i1 }} @slow_write(ptr %S, i64 %record, i64 %left, i64 %address, i64 %size, i64 %value)
  ret void
}}
define preserve_mostcc void @slow_store_16(ptr %S, ptr %ip, i64 %left, i64 %address, i64 %low, i64 %high)
    noinline cold nounwind {{
  %record = ptrtoint ptr %ip to i64
  call {{ i64, i1 }} @slow_write_16(ptr %S, i64 %record, i64 %left, i64 %address, i64 %low, i64 %high)
  ret void
}}
define internal void @before_call(ptr %S, ptr %ip, i64 %res, i64 %cout, i64 %left) nounwind {{
  %record = ptrtoint ptr %ip to i64
{_set(state.RES, "%res", "res.p")}
{_set(state.COUT, "%cout", "cout.p")}
{_slot(layout.LIMIT, "limit.p")}
  %limit = load i64, ptr %limit.p
  call i64 @locate(ptr %S, i64 %record, i64 %left, i64 %limit)
  ret void
}}
define internal void @after_call(ptr %S, ptr %ip) nounwind {{
  %record = ptrtoint ptr %ip to i64
  call i64 @after_system(ptr %S, i64 %record)
  ret void
}}
define void @set_key(ptr %S) nounwind {{
  call i64 @enter_context(ptr %S)
  ret void
}}
define void @forget_code_page(ptr %S, i64 %physical) nounwind {{
  call i64 @forget_code(ptr %S, i64 %physical)
  ret void
}}
define void @forget_all_translations(ptr %S) nounwind {{
  call i64 @forget_translations(ptr %S)
  call i64 @forget_contexts(ptr %S)
  ret void
}}
define void @forget_all_jumps(ptr %S) nounwind {{
  call i64 @forget_jumps(ptr %S)
  ret void
}}
define void @forget_all_writes(ptr %S) nounwind {{
  call i64 @forget_writes(ptr %S)
  ret void
}}
define void @mend_block(ptr %S) nounwind {{
  call i64 @mend(ptr %S)
  ret void
}}
"""

#: The first handlers of the table, in the order of :mod:`blockkit.cpu.jit.layout`.
FIRST: Final = ("h_link", "h_goto", "h_fallback", "h_attention", "h_dead")
