"""Native code made at run time: from a small part of Python to machine code that is loaded into this process.

Functions are written in the dialect (:mod:`blockkit.native.dialect`), become LLVM assembly (``llvm.py``), an object
file (``compiler.py``, with llvmlite) and memory (``elf.py``); object files are kept for the next time (``kept.py``).
The processor in :mod:`blockkit.cpu` is made so, and what the block layer does with very many table entries
(``kernels.py``), which it does in Python where native code cannot be had.
"""
