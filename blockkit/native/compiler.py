"""From LLVM assembly to an object file; also by itself, from standard input to standard output."""

from __future__ import annotations

import sys


def compile_module(text: str, relocation: str = "pic", cpu: str = "") -> bytes:
    """Compile one module; takes seconds if it is large.

    Args:
        text: The assembly.
        relocation: LLVM's relocation model: ``pic``, or ``static`` for code that is copied.
        cpu: LLVM's name of the processor it is for; empty for this one.
    """
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    module = llvm.parse_assembly(text)
    module.verify()
    machine = llvm.Target.from_default_triple().create_target_machine(
        opt=1, jit=True, codemodel="small", reloc=relocation, cpu=cpu or llvm.get_host_cpu_name(), features=""
    )
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=1))
    passes = llvm.create_new_function_pass_manager()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    for function in module.functions:
        # Handlers have no variables; their registers are chosen well as they are.
        if not function.is_declaration and not function.name.removeprefix("h").isdigit():
            passes.run(function, builder)
    made = machine.emit_object(module)
    assert isinstance(made, bytes)
    return made


if __name__ == "__main__":
    sys.stdout.buffer.write(compile_module(sys.stdin.read(), sys.argv[1]))
