"""The part of the opcode map that belongs to the x87, opcodes D8 to DF; see :mod:`blockkit.cpu.isa.opcodes`."""

from __future__ import annotations

from typing import Final

#: ``ST`` is the top, ``STi`` the register that ``rm`` counts from it; ``Mt`` has ten bytes.
FLOATING_POINT: Final = """
D9/0m FLD Md
D9/2m FST Md
D9/3m FSTP Md
D9/4m FLDENV Mfe
D9/5m FLDCW Mw
D9/6m FNSTENV Mfe
D9/7m FNSTCW Mw
D9/0r FLD STi
D9/1r FXCH STi
D9/2.0 FNOP
D9/3r FSTPNCE STi
D9/4.0 FCHS
D9/4.1 FABS
D9/4.4 FTST
D9/4.5 FXAM
D9/5.0 FLD1
D9/5.1 FLDL2T
D9/5.2 FLDL2E
D9/5.3 FLDPI
D9/5.4 FLDLG2
D9/5.5 FLDLN2
D9/5.6 FLDZ
D9/6.0 F2XM1
D9/6.1 FYL2X
D9/6.2 FPTAN
D9/6.3 FPATAN
D9/6.4 FXTRACT
D9/6.5 FPREM1
D9/6.6 FDECSTP
D9/6.7 FINCSTP
D9/7.0 FPREM
D9/7.1 FYL2XP1
D9/7.2 FSQRT
D9/7.3 FSINCOS
D9/7.4 FRNDINT
D9/7.5 FSCALE
D9/7.6 FSIN
D9/7.7 FCOS
DA/0r FCMOVB ST,STi
DA/1r FCMOVE ST,STi
DA/2r FCMOVBE ST,STi
DA/3r FCMOVU ST,STi
DA/5.1 FUCOMPP
DB/0m FILD Md
DB/1m FISTTP Md
DB/2m FIST Md
DB/3m FISTP Md
DB/5m FLD Mt
DB/7m FSTP Mt
DB/0r FCMOVNB ST,STi
DB/1r FCMOVNE ST,STi
DB/2r FCMOVNBE ST,STi
DB/3r FCMOVNU ST,STi
DB/4.0 FNENI
DB/4.1 FNDISI
DB/4.2 FNCLEX
DB/4.3 FNINIT
DB/4.4 FNSETPM
DB/5r FUCOMI ST,STi
DB/6r FCOMI ST,STi
DC/0r FADD STi,ST
DC/1r FMUL STi,ST
DC/2r FCOM ST,STi
DC/3r FCOMP ST,STi
DC/4r FSUBR STi,ST
DC/5r FSUB STi,ST
DC/6r FDIVR STi,ST
DC/7r FDIV STi,ST
DD/0m FLD Mq
DD/1m FISTTP Mq
DD/2m FST Mq
DD/3m FSTP Mq
DD/4m FRSTOR Mfs
DD/6m FNSAVE Mfs
DD/7m FNSTSW Mw
DD/0r FFREE STi
DD/1r FXCH STi
DD/2r FST STi
DD/3r FSTP STi
DD/4r FUCOM STi
DD/5r FUCOMP STi
DE/0r FADDP STi,ST
DE/1r FMULP STi,ST
DE/2r FCOMP STi
DE/3.1 FCOMPP
DE/4r FSUBRP STi,ST
DE/5r FSUBP STi,ST
DE/6r FDIVRP STi,ST
DE/7r FDIVP STi,ST
DF/0m FILD Mw
DF/1m FISTTP Mw
DF/2m FIST Mw
DF/3m FISTP Mw
DF/4m FBLD Mt
DF/5m FILD Mq
DF/6m FBSTP Mt
DF/7m FISTP Mq
DF/0r FFREEP STi
DF/1r FXCH STi
DF/2r FSTP STi
DF/3r FSTP STi
DF/4.0 FNSTSW AX
DF/5r FUCOMIP ST,STi
DF/6r FCOMIP ST,STi
"""
_FLOAT_OPS: Final = ("FADD", "FMUL", "FCOM", "FCOMP", "FSUB", "FSUBR", "FDIV", "FDIVR")
_FLOAT_OP_FORMS: Final = """
D8/{n}m {name} Md
D8/{n}r {name} ST,STi
DC/{n}m {name} Mq
DA/{n}m {integer} Md
DE/{n}m {integer} Mw
"""


def sections() -> list[str]:
    """Return the lines of the map, some in each text."""
    forms = [_FLOAT_OP_FORMS.format(n=n, name=name, integer="FI" + name[1:]) for n, name in enumerate(_FLOAT_OPS)]
    return [FLOATING_POINT, *forms]
