"""The compiler: `Snapshot -> IR -> passes -> MapImage`, pure and deterministic, and the reference interpreter.

`build` makes units of the intermediate form (`ir`) from model objects, `passes` lower them one step each, `emit`
writes their records. `compiler` runs that for what changed. `reference` executes the result as the kernel does.
"""

from kmesh.compiler.compiler import Compilation, Compiler
from kmesh.compiler.printer import print_program, print_unit
from kmesh.compiler.reference import Decision, decide
from kmesh.compiler.report import Report

__all__ = ["Compilation", "Compiler", "Decision", "Report", "decide", "print_program", "print_unit"]
