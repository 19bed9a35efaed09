"""What each instruction does, written once over an abstract machine.

A function here never computes: it asks a :class:`~blockkit.cpu.sem.machine.Machine` for operations on
:class:`~blockkit.cpu.sem.machine.Value`, and the machine emits source or native code for them. What is decided by plain
``if`` is decided when an instruction is translated; what is decided when it runs is a ``select`` or a branch.
"""
