"""The opcode map: one line for each form of each instruction, in the notation of the SDM's volume 2, appendix A.

A line is ``[prefix] opcode[/reg[.rm]] MNEMONIC [operand,...] [flag...]``:

- ``prefix`` is the mandatory prefix, ``NP`` for none of them; without it, any prefix may stand there.
- ``opcode`` is hexadecimal, one to three bytes. ``+r`` takes its low three bits as a register. ``/reg`` is the ``reg``
  field of ModRM, as a digit; ``/reg.rm`` both fields, with ``mod`` 3. ``/m`` and ``/r`` stand for any ``reg`` with a
  memory or a register operand; ``/4m`` and ``/4r`` for one ``reg`` with either.
- ``MNEMONIC`` may name three: with a 16-, 32- and 64-bit operand size.
- Operands: see :mod:`blockkit.cpu.isa.operands`.
- Flags: ``i64`` is invalid in 64-bit mode, ``o64`` valid nowhere else; ``d64`` has 64-bit operands there unless there
  is a 66 prefix, ``f64`` whatever there is; ``lock`` may be locked when its destination is memory; ``@name`` needs
  that CPUID feature, without which the line is not there.

What is in no line raises #UD. Instructions that begin with VEX, EVEX and XOP are in none. The lines of the x87 are in
:mod:`blockkit.cpu.isa.x87`.
"""

from __future__ import annotations

from typing import Final

from blockkit.cpu.isa import x87

_ALU_FORMS: Final = """
{0:02X} {name} Eb,Gb {lock}
{1:02X} {name} Ev,Gv {lock}
{2:02X} {name} Gb,Eb
{3:02X} {name} Gv,Ev
{4:02X} {name} AL,Ib
{5:02X} {name} rAX,Iz
80/{n} {name} Eb,Ib {lock}
81/{n} {name} Ev,Iz {lock}
82/{n} {name} Eb,Ib i64 {lock}
83/{n} {name} Ev,Ibs {lock}
"""
_ALU: Final = ("ADD", "OR", "ADC", "SBB", "AND", "SUB", "XOR", "CMP")

_SHIFT_FORMS: Final = """
C0/{n} {name} Eb,Ib
C1/{n} {name} Ev,Ib
D0/{n} {name} Eb,1
D1/{n} {name} Ev,1
D2/{n} {name} Eb,CL
D3/{n} {name} Ev,CL
"""
_SHIFTS: Final = ("ROL", "ROR", "RCL", "RCR", "SHL", "SHR", "SAL", "SAR")

#: The sixteen conditions, in the order of their codes.
CONDITIONS: Final = ("O", "NO", "B", "AE", "E", "NE", "BE", "A", "S", "NS", "P", "NP", "L", "GE", "LE", "G")

_CONDITION_FORMS: Final = """
{jump:02X} J{cc} Jb f64
0F {near:02X} J{cc} Jz f64
0F {set_:02X} SET{cc} Eb
0F {move:02X} CMOV{cc} Gv,Ev
"""

ONE_BYTE: Final = """
06 PUSH ES i64
07 POP ES i64
0E PUSH CS i64
16 PUSH SS i64
17 POP SS i64
1E PUSH DS i64
1F POP DS i64
27 DAA i64
2F DAS i64
37 AAA i64
3F AAS i64
40+r INC Zv i64
48+r DEC Zv i64
50+r PUSH Zv d64
58+r POP Zv d64
60 PUSHA|PUSHAD i64
61 POPA|POPAD i64
62/m BOUND Gv,Ma i64
63 ARPL Ew,Gw i64
63 MOVSXD Gv,Ez o64
68 PUSH Iz d64
69 IMUL Gv,Ev,Iz
6A PUSH Ibs d64
6B IMUL Gv,Ev,Ibs
6C INSB Yb,DX
6D INSW|INSD|INSD Yz,DX
6E OUTSB DX,Xb
6F OUTSW|OUTSD|OUTSD DX,Xz
84 TEST Eb,Gb
85 TEST Ev,Gv
86 XCHG Eb,Gb lock
87 XCHG Ev,Gv lock
88 MOV Eb,Gb
89 MOV Ev,Gv
8A MOV Gb,Eb
8B MOV Gv,Ev
8C/m MOV Mw,Sw
8C/r MOV Rv,Sw
8D/m LEA Gv,M
8E/m MOV Sw,Mw
8E/r MOV Sw,Rv
8F/0 POP Ev d64
90 NOP
F3 90 PAUSE
90+r XCHG Zv,rAX
98 CBW|CWDE|CDQE
99 CWD|CDQ|CQO
9A CALL Ap i64
9B WAIT
9C PUSHF|PUSHFD|PUSHFQ d64
9D POPF|POPFD|POPFQ d64
9E SAHF
9F LAHF
A0 MOV AL,Ob
A1 MOV rAX,Ov
A2 MOV Ob,AL
A3 MOV Ov,rAX
A4 MOVSB Yb,Xb
A5 MOVSW|MOVSD|MOVSQ Yv,Xv
A6 CMPSB Xb,Yb
A7 CMPSW|CMPSD|CMPSQ Xv,Yv
A8 TEST AL,Ib
A9 TEST rAX,Iz
AA STOSB Yb,AL
AB STOSW|STOSD|STOSQ Yv,rAX
AC LODSB AL,Xb
AD LODSW|LODSD|LODSQ rAX,Xv
AE SCASB AL,Yb
AF SCASW|SCASD|SCASQ rAX,Yv
B0+r MOV Zb,Ib
B8+r MOV Zv,Iv
C2 RET Iw f64
C3 RET f64
C4/m LES Gz,Mp i64
C5/m LDS Gz,Mp i64
C6/0 MOV Eb,Ib
C7/0 MOV Ev,Iz
C8 ENTER Iw,Ib2 d64
C9 LEAVE d64
CA RETF Iw
CB RETF
CC INT3
CD INT Ib
CE INTO i64
CF IRET|IRETD|IRETQ
D4 AAM Ib i64
D5 AAD Ib i64
D6 SALC i64
D7 XLATB
E0 LOOPNE Jb f64
E1 LOOPE Jb f64
E2 LOOP Jb f64
E3 JCXZ|JECXZ|JRCXZ Jb f64
E4 IN AL,Ib
E5 IN eAX,Ib
E6 OUT Ib,AL
E7 OUT Ib,eAX
E8 CALL Jz f64
E9 JMP Jz f64
EA JMP Ap i64
EB JMP Jb f64
EC IN AL,DX
ED IN eAX,DX
EE OUT DX,AL
EF OUT DX,eAX
F1 INT1
F4 HLT
F5 CMC
F6/0 TEST Eb,Ib
F6/1 TEST Eb,Ib
F6/2 NOT Eb lock
F6/3 NEG Eb lock
F6/4 MUL Eb
F6/5 IMUL Eb
F6/6 DIV Eb
F6/7 IDIV Eb
F7/0 TEST Ev,Iz
F7/1 TEST Ev,Iz
F7/2 NOT Ev lock
F7/3 NEG Ev lock
F7/4 MUL Ev
F7/5 IMUL Ev
F7/6 DIV Ev
F7/7 IDIV Ev
F8 CLC
F9 STC
FA CLI
FB STI
FC CLD
FD STD
FE/0 INC Eb lock
FE/1 DEC Eb lock
FF/0 INC Ev lock
FF/1 DEC Ev lock
FF/2 CALL Ev f64
FF/3m CALL Mp
FF/4 JMP Ev f64
FF/5m JMP Mp
FF/6 PUSH Ev d64
"""

TWO_BYTE: Final = """
0F 00/0m SLDT Mw
0F 00/0r SLDT Rv
0F 00/1m STR Mw
0F 00/1r STR Rv
0F 00/2m LLDT Mw
0F 00/2r LLDT Rv
0F 00/3m LTR Mw
0F 00/3r LTR Rv
0F 00/4m VERR Mw
0F 00/4r VERR Rv
0F 00/5m VERW Mw
0F 00/5r VERW Rv
0F 01/0m SGDT Ms
0F 01/1m SIDT Ms
0F 01/2m LGDT Ms
0F 01/3m LIDT Ms
0F 01/4m SMSW Mw
0F 01/4r SMSW Rv
0F 01/6m LMSW Mw
0F 01/6r LMSW Rv
0F 01/7m INVLPG M
NP 0F 01/1.0 MONITOR
NP 0F 01/1.1 MWAIT
NP 0F 01/1.2 CLAC @smap
NP 0F 01/1.3 STAC @smap
NP 0F 01/2.0 XGETBV @xsave
NP 0F 01/2.1 XSETBV @xsave
0F 01/7.0 SWAPGS o64
0F 01/7.1 RDTSCP
0F 02/m LAR Gv,Mw
0F 02/r LAR Gv,Rv
0F 03/m LSL Gv,Mw
0F 03/r LSL Gv,Rv
0F 05 SYSCALL
0F 06 CLTS
0F 07 SYSRET
0F 08 INVD
0F 09 WBINVD
0F 0B UD2
0F 0D/m PREFETCHW Mb
0F 0D/r NOP Ev,Gv
NP 0F 10 MOVUPS Vx,Wx
66 0F 10 MOVUPD Vx,Wx
F3 0F 10 MOVSS Vx,Wd
F2 0F 10 MOVSD Vx,Wq
NP 0F 11 MOVUPS Wx,Vx
66 0F 11 MOVUPD Wx,Vx
F3 0F 11 MOVSS Wd,Vx
F2 0F 11 MOVSD Wq,Vx
NP 0F 12/m MOVLPS Vx,Mq
NP 0F 12/r MOVHLPS Vx,Ux
66 0F 12/m MOVLPD Vx,Mq
F3 0F 12 MOVSLDUP Vx,Wx
F2 0F 12 MOVDDUP Vx,Wq
NP 0F 13/m MOVLPS Mq,Vx
66 0F 13/m MOVLPD Mq,Vx
NP 0F 14 UNPCKLPS Vx,Wx
66 0F 14 UNPCKLPD Vx,Wx
NP 0F 15 UNPCKHPS Vx,Wx
66 0F 15 UNPCKHPD Vx,Wx
NP 0F 16/m MOVHPS Vx,Mq
NP 0F 16/r MOVLHPS Vx,Ux
66 0F 16/m MOVHPD Vx,Mq
F3 0F 16 MOVSHDUP Vx,Wx
NP 0F 17/m MOVHPS Mq,Vx
66 0F 17/m MOVHPD Mq,Vx
0F 18/0m PREFETCHNTA Mb
0F 18/1m PREFETCHT0 Mb
0F 18/2m PREFETCHT1 Mb
0F 18/3m PREFETCHT2 Mb
0F 18 NOP Ev,Gv
0F 19 NOP Ev,Gv
0F 1A NOP Ev,Gv
0F 1B NOP Ev,Gv
0F 1C NOP Ev,Gv
0F 1D NOP Ev,Gv
0F 1E NOP Ev,Gv
0F 1F/0 NOP Ev
0F 1F NOP Ev,Gv
0F 20 MOV Rn,Cn
0F 21 MOV Rn,Dn
0F 22 MOV Cn,Rn
0F 23 MOV Dn,Rn
NP 0F 28 MOVAPS Vx,Wx
66 0F 28 MOVAPD Vx,Wx
NP 0F 29 MOVAPS Wx,Vx
66 0F 29 MOVAPD Wx,Vx
NP 0F 2A CVTPI2PS Vx,Qq
66 0F 2A CVTPI2PD Vx,Qq
F3 0F 2A CVTSI2SS Vx,Ey
F2 0F 2A CVTSI2SD Vx,Ey
NP 0F 2B/m MOVNTPS Mx,Vx
66 0F 2B/m MOVNTPD Mx,Vx
NP 0F 2C CVTTPS2PI Pq,Wq
66 0F 2C CVTTPD2PI Pq,Wx
F3 0F 2C CVTTSS2SI Gy,Wd
F2 0F 2C CVTTSD2SI Gy,Wq
NP 0F 2D CVTPS2PI Pq,Wq
66 0F 2D CVTPD2PI Pq,Wx
F3 0F 2D CVTSS2SI Gy,Wd
F2 0F 2D CVTSD2SI Gy,Wq
NP 0F 2E UCOMISS Vx,Wd
66 0F 2E UCOMISD Vx,Wq
NP 0F 2F COMISS Vx,Wd
66 0F 2F COMISD Vx,Wq
0F 30 WRMSR
0F 31 RDTSC
0F 32 RDMSR
0F 33 RDPMC
0F 34 SYSENTER
0F 35 SYSEXIT
NP 0F 50/r MOVMSKPS Gy,Ux
66 0F 50/r MOVMSKPD Gy,Ux
NP 0F 52 RSQRTPS Vx,Wx
F3 0F 52 RSQRTSS Vx,Wd
NP 0F 53 RCPPS Vx,Wx
F3 0F 53 RCPSS Vx,Wd
NP 0F 54 ANDPS Vx,Wx
66 0F 54 ANDPD Vx,Wx
NP 0F 55 ANDNPS Vx,Wx
66 0F 55 ANDNPD Vx,Wx
NP 0F 56 ORPS Vx,Wx
66 0F 56 ORPD Vx,Wx
NP 0F 57 XORPS Vx,Wx
66 0F 57 XORPD Vx,Wx
NP 0F 5A CVTPS2PD Vx,Wq
66 0F 5A CVTPD2PS Vx,Wx
F3 0F 5A CVTSS2SD Vx,Wd
F2 0F 5A CVTSD2SS Vx,Wq
NP 0F 5B CVTDQ2PS Vx,Wx
66 0F 5B CVTPS2DQ Vx,Wx
F3 0F 5B CVTTPS2DQ Vx,Wx
66 0F 6C PUNPCKLQDQ Vx,Wx
66 0F 6D PUNPCKHQDQ Vx,Wx
NP 0F 6E MOVD|MOVD|MOVQ Pq,Ey
66 0F 6E MOVD|MOVD|MOVQ Vx,Ey
NP 0F 6F MOVQ Pq,Qq
66 0F 6F MOVDQA Vx,Wx
F3 0F 6F MOVDQU Vx,Wx
NP 0F 70 PSHUFW Pq,Qq,Ib
66 0F 70 PSHUFD Vx,Wx,Ib
F3 0F 70 PSHUFHW Vx,Wx,Ib
F2 0F 70 PSHUFLW Vx,Wx,Ib
NP 0F 77 EMMS
66 0F 7C HADDPD Vx,Wx
F2 0F 7C HADDPS Vx,Wx
66 0F 7D HSUBPD Vx,Wx
F2 0F 7D HSUBPS Vx,Wx
NP 0F 7E MOVD|MOVD|MOVQ Ey,Pq
66 0F 7E MOVD|MOVD|MOVQ Ey,Vx
F3 0F 7E MOVQ Vx,Wq
NP 0F 7F MOVQ Qq,Pq
66 0F 7F MOVDQA Wx,Vx
F3 0F 7F MOVDQU Wx,Vx
0F A0 PUSH FS d64
0F A1 POP FS d64
0F A2 CPUID
0F A3 BT Ev,Gv
0F A4 SHLD Ev,Gv,Ib
0F A5 SHLD Ev,Gv,CL
0F A8 PUSH GS d64
0F A9 POP GS d64
0F AA RSM
0F AB BTS Ev,Gv lock
0F AC SHRD Ev,Gv,Ib
0F AD SHRD Ev,Gv,CL
NP 0F AE/0m FXSAVE|FXSAVE|FXSAVE64 Mfx
NP 0F AE/1m FXRSTOR|FXRSTOR|FXRSTOR64 Mfx
NP 0F AE/2m LDMXCSR Md
NP 0F AE/3m STMXCSR Md
NP 0F AE/4m XSAVE|XSAVE|XSAVE64 Mxs @xsave
NP 0F AE/5m XRSTOR|XRSTOR|XRSTOR64 Mxs @xsave
NP 0F AE/6m XSAVEOPT|XSAVEOPT|XSAVEOPT64 Mxs @xsaveopt
NP 0F AE/7m CLFLUSH Mb
66 0F AE/7m CLFLUSHOPT Mb @clflushopt
F3 0F AE/0r RDFSBASE Ry o64 @fsgsbase
F3 0F AE/1r RDGSBASE Ry o64 @fsgsbase
F3 0F AE/2r WRFSBASE Ry o64 @fsgsbase
F3 0F AE/3r WRGSBASE Ry o64 @fsgsbase
NP 0F AE/5r LFENCE
NP 0F AE/6r MFENCE
NP 0F AE/7r SFENCE
0F AF IMUL Gv,Ev
0F B0 CMPXCHG Eb,Gb lock
0F B1 CMPXCHG Ev,Gv lock
0F B2/m LSS Gv,Mp
0F B3 BTR Ev,Gv lock
0F B4/m LFS Gv,Mp
0F B5/m LGS Gv,Mp
0F B6 MOVZX Gv,Eb
0F B7 MOVZX Gv,Ew
F3 0F B8 POPCNT Gv,Ev
0F B9 UD1 Gv,Ev
0F BA/4 BT Ev,Ib
0F BA/5 BTS Ev,Ib lock
0F BA/6 BTR Ev,Ib lock
0F BA/7 BTC Ev,Ib lock
0F BB BTC Ev,Gv lock
0F BC BSF Gv,Ev
F3 0F BC TZCNT Gv,Ev @bmi1
0F BD BSR Gv,Ev
F3 0F BD LZCNT Gv,Ev @lzcnt
0F BE MOVSX Gv,Eb
0F BF MOVSX Gv,Ew
0F C0 XADD Eb,Gb lock
0F C1 XADD Ev,Gv lock
NP 0F C2 CMPPS Vx,Wx,Ib
66 0F C2 CMPPD Vx,Wx,Ib
F3 0F C2 CMPSS Vx,Wd,Ib
F2 0F C2 CMPSD Vx,Wq,Ib
NP 0F C3/m MOVNTI My,Gy
NP 0F C4/m PINSRW Pq,Mw,Ib
NP 0F C4/r PINSRW Pq,Ry,Ib
66 0F C4/m PINSRW Vx,Mw,Ib
66 0F C4/r PINSRW Vx,Ry,Ib
NP 0F C5/r PEXTRW Gy,Nq,Ib
66 0F C5/r PEXTRW Gy,Ux,Ib
NP 0F C6 SHUFPS Vx,Wx,Ib
66 0F C6 SHUFPD Vx,Wx,Ib
0F C7/1m CMPXCHG8B|CMPXCHG8B|CMPXCHG16B Mqd lock
NP 0F C7/6r RDRAND Rv @rdrand
66 0F C7/6r RDRAND Rv @rdrand
NP 0F C7/7r RDSEED Rv @rdseed
66 0F C7/7r RDSEED Rv @rdseed
0F C8+r BSWAP Zv
66 0F D0 ADDSUBPD Vx,Wx
F2 0F D0 ADDSUBPS Vx,Wx
66 0F D6 MOVQ Wq,Vx
F3 0F D6/r MOVQ2DQ Vx,Nq
F2 0F D6/r MOVDQ2Q Pq,Ux
NP 0F D7/r PMOVMSKB Gy,Nq
66 0F D7/r PMOVMSKB Gy,Ux
66 0F E6 CVTTPD2DQ Vx,Wx
F3 0F E6 CVTDQ2PD Vx,Wq
F2 0F E6 CVTPD2DQ Vx,Wx
NP 0F E7/m MOVNTQ Mq,Pq
66 0F E7/m MOVNTDQ Mx,Vx
F2 0F F0/m LDDQU Vx,Mx
NP 0F F7/r MASKMOVQ Pq,Nq
66 0F F7/r MASKMOVDQU Vx,Ux
0F FF UD0 Gv,Ev
"""

#: Arithmetic on packed and scalar floats: all four forms.
_FLOAT: Final = {0x51: "SQRT", 0x58: "ADD", 0x59: "MUL", 0x5C: "SUB", 0x5D: "MIN", 0x5E: "DIV", 0x5F: "MAX"}
_FLOAT_FORMS: Final = """
NP 0F {n:02X} {name}PS Vx,Wx
66 0F {n:02X} {name}PD Vx,Wx
F3 0F {n:02X} {name}SS Vx,Wd
F2 0F {n:02X} {name}SD Vx,Wq
"""

#: Instructions on packed integers: one form with MMX registers, one with XMM registers.
_PACKED: Final = {
    0x63: "PACKSSWB", 0x64: "PCMPGTB", 0x65: "PCMPGTW", 0x66: "PCMPGTD", 0x67: "PACKUSWB", 0x68: "PUNPCKHBW",
    0x69: "PUNPCKHWD", 0x6A: "PUNPCKHDQ", 0x6B: "PACKSSDW", 0x74: "PCMPEQB", 0x75: "PCMPEQW", 0x76: "PCMPEQD",
    0xD1: "PSRLW", 0xD2: "PSRLD", 0xD3: "PSRLQ", 0xD4: "PADDQ", 0xD5: "PMULLW", 0xD8: "PSUBUSB", 0xD9: "PSUBUSW",
    0xDA: "PMINUB", 0xDB: "PAND", 0xDC: "PADDUSB", 0xDD: "PADDUSW", 0xDE: "PMAXUB", 0xDF: "PANDN", 0xE0: "PAVGB",
    0xE1: "PSRAW", 0xE2: "PSRAD", 0xE3: "PAVGW", 0xE4: "PMULHUW", 0xE5: "PMULHW", 0xE8: "PSUBSB", 0xE9: "PSUBSW",
    0xEA: "PMINSW", 0xEB: "POR", 0xEC: "PADDSB", 0xED: "PADDSW", 0xEE: "PMAXSW", 0xEF: "PXOR", 0xF1: "PSLLW",
    0xF2: "PSLLD", 0xF3: "PSLLQ", 0xF4: "PMULUDQ", 0xF5: "PMADDWD", 0xF6: "PSADBW", 0xF8: "PSUBB", 0xF9: "PSUBW",
    0xFA: "PSUBD", 0xFB: "PSUBQ", 0xFC: "PADDB", 0xFD: "PADDW", 0xFE: "PADDD",
}  # fmt: skip
_PACKED_FORMS: Final = """
NP 0F {n:02X} {name} Pq,Qq
66 0F {n:02X} {name} Vx,Wx
"""
#: Those whose MMX form reads only four bytes of memory.
_UNPACK_LOW: Final = {0x60: "PUNPCKLBW", 0x61: "PUNPCKLWD", 0x62: "PUNPCKLDQ"}
_UNPACK_FORMS: Final = """
NP 0F {n:02X} {name} Pq,Qd
66 0F {n:02X} {name} Vx,Wx
"""
#: Shifts by an immediate count: ``(opcode, reg, name, whether only with XMM registers)``.
_PACKED_SHIFTS: Final = (
    (0x71, 2, "PSRLW", False), (0x71, 4, "PSRAW", False), (0x71, 6, "PSLLW", False), (0x72, 2, "PSRLD", False),
    (0x72, 4, "PSRAD", False), (0x72, 6, "PSLLD", False), (0x73, 2, "PSRLQ", False), (0x73, 3, "PSRLDQ", True),
    (0x73, 6, "PSLLQ", False), (0x73, 7, "PSLLDQ", True),
)  # fmt: skip
#: SSSE3, both forms.
_SSSE3: Final = {
    0x00: "PSHUFB", 0x01: "PHADDW", 0x02: "PHADDD", 0x03: "PHADDSW", 0x04: "PMADDUBSW", 0x05: "PHSUBW",
    0x06: "PHSUBD", 0x07: "PHSUBSW", 0x08: "PSIGNB", 0x09: "PSIGNW", 0x0A: "PSIGND", 0x0B: "PMULHRSW",
    0x1C: "PABSB", 0x1D: "PABSW", 0x1E: "PABSD",
}  # fmt: skip
#: SSE4.1 and 4.2, whole registers.
_SSE4: Final = {
    0x10: "PBLENDVB", 0x14: "BLENDVPS", 0x15: "BLENDVPD", 0x17: "PTEST", 0x28: "PMULDQ", 0x29: "PCMPEQQ",
    0x2B: "PACKUSDW", 0x37: "PCMPGTQ", 0x38: "PMINSB", 0x39: "PMINSD", 0x3A: "PMINUW", 0x3B: "PMINUD",
    0x3C: "PMAXSB", 0x3D: "PMAXSD", 0x3E: "PMAXUW", 0x3F: "PMAXUD", 0x40: "PMULLD", 0x41: "PHMINPOSUW",
}  # fmt: skip
#: Extensions of packed integers: how much of the source is read.
_EXTENDS: Final = {
    0x20: ("PMOVSXBW", "q"), 0x21: ("PMOVSXBD", "d"), 0x22: ("PMOVSXBQ", "w"), 0x23: ("PMOVSXWD", "q"),
    0x24: ("PMOVSXWQ", "d"), 0x25: ("PMOVSXDQ", "q"), 0x30: ("PMOVZXBW", "q"), 0x31: ("PMOVZXBD", "d"),
    0x32: ("PMOVZXBQ", "w"), 0x33: ("PMOVZXWD", "q"), 0x34: ("PMOVZXWQ", "d"), 0x35: ("PMOVZXDQ", "q"),
}  # fmt: skip

THREE_BYTE: Final = """
66 0F 38 2A/m MOVNTDQA Vx,Mx
66 0F 38 82/m INVPCID Gn,Mx @invpcid
66 0F 38 DB AESIMC Vx,Wx @aes
66 0F 38 DC AESENC Vx,Wx @aes
66 0F 38 DD AESENCLAST Vx,Wx @aes
66 0F 38 DE AESDEC Vx,Wx @aes
66 0F 38 DF AESDECLAST Vx,Wx @aes
NP 0F 38 F0/m MOVBE Gv,Mv @movbe
66 0F 38 F0/m MOVBE Gv,Mv @movbe
NP 0F 38 F1/m MOVBE Mv,Gv @movbe
66 0F 38 F1/m MOVBE Mv,Gv @movbe
66 0F 38 F6 ADCX Gy,Ey @adx
F3 0F 38 F6 ADOX Gy,Ey @adx
F2 0F 38 F0 CRC32 Gy,Eb
F2 0F 38 F1 CRC32 Gy,Ev
66 0F 3A 08 ROUNDPS Vx,Wx,Ib
66 0F 3A 09 ROUNDPD Vx,Wx,Ib
66 0F 3A 0A ROUNDSS Vx,Wd,Ib
66 0F 3A 0B ROUNDSD Vx,Wq,Ib
66 0F 3A 0C BLENDPS Vx,Wx,Ib
66 0F 3A 0D BLENDPD Vx,Wx,Ib
66 0F 3A 0E PBLENDW Vx,Wx,Ib
NP 0F 3A 0F PALIGNR Pq,Qq,Ib
66 0F 3A 0F PALIGNR Vx,Wx,Ib
66 0F 3A 14/m PEXTRB Mb,Vx,Ib
66 0F 3A 14/r PEXTRB Ry,Vx,Ib
66 0F 3A 15/m PEXTRW Mw,Vx,Ib
66 0F 3A 15/r PEXTRW Ry,Vx,Ib
66 0F 3A 16 PEXTRD|PEXTRD|PEXTRQ Ey,Vx,Ib
66 0F 3A 17/m EXTRACTPS Md,Vx,Ib
66 0F 3A 17/r EXTRACTPS Ry,Vx,Ib
66 0F 3A 20/m PINSRB Vx,Mb,Ib
66 0F 3A 20/r PINSRB Vx,Ry,Ib
66 0F 3A 21 INSERTPS Vx,Wd,Ib
66 0F 3A 22 PINSRD|PINSRD|PINSRQ Vx,Ey,Ib
66 0F 3A 40 DPPS Vx,Wx,Ib
66 0F 3A 41 DPPD Vx,Wx,Ib
66 0F 3A 42 MPSADBW Vx,Wx,Ib
66 0F 3A 44 PCLMULQDQ Vx,Wx,Ib @pclmulqdq
66 0F 3A 60 PCMPESTRM|PCMPESTRM|PCMPESTRM64 Vx,Wx,Ib
66 0F 3A 61 PCMPESTRI|PCMPESTRI|PCMPESTRI64 Vx,Wx,Ib
66 0F 3A 62 PCMPISTRM Vx,Wx,Ib
66 0F 3A 63 PCMPISTRI Vx,Wx,Ib
66 0F 3A DF AESKEYGENASSIST Vx,Wx,Ib @aes
"""


def lines() -> list[str]:
    """Return every line of the map, without comments and empty lines."""
    text = [ONE_BYTE, TWO_BYTE, THREE_BYTE]
    for n, name in enumerate(_ALU):
        lock = "" if name == "CMP" else "lock"
        text.append(_ALU_FORMS.format(*range(n * 8, n * 8 + 6), n=n, name=name, lock=lock))
    text += [_SHIFT_FORMS.format(n=n, name=name) for n, name in enumerate(_SHIFTS)]
    text += [
        _CONDITION_FORMS.format(jump=0x70 + n, near=0x80 + n, set_=0x90 + n, move=0x40 + n, cc=cc)
        for n, cc in enumerate(CONDITIONS)
    ]
    text += [_FLOAT_FORMS.format(n=n, name=name) for n, name in _FLOAT.items()]
    text += [_PACKED_FORMS.format(n=n, name=name) for n, name in _PACKED.items()]
    text += [_UNPACK_FORMS.format(n=n, name=name) for n, name in _UNPACK_LOW.items()]
    for n, reg, name, wide_only in _PACKED_SHIFTS:
        text += [] if wide_only else [f"NP 0F {n:02X}/{reg}r {name} Nq,Ib"]
        text.append(f"66 0F {n:02X}/{reg}r {name} Ux,Ib")
    for n, name in _SSSE3.items():
        text += [f"NP 0F 38 {n:02X} {name} Pq,Qq", f"66 0F 38 {n:02X} {name} Vx,Wx"]
    text += [f"66 0F 38 {n:02X} {name} Vx,Wx" for n, name in _SSE4.items()]
    text += [f"66 0F 38 {n:02X} {name} Vx,W{size}" for n, (name, size) in _EXTENDS.items()]
    return [line for part in (*text, *x87.sections()) for line in part.splitlines() if line]
