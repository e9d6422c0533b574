"""The groups of commands, one module each. A new group is one file here and one line in this list.

A module has `add(commands)`, which adds its parsers and sets `run` on each, a function from the parsed arguments to an
exit code. Whatever is heavy is imported inside those functions, so that `--help` answers at once.
"""

MODULES = [
    "agent.cli.run",
    "agent.cli.chat",
    "agent.cli.ui",
    "agent.cli.sessions",
    "agent.cli.runs",
    "agent.cli.kernels",
    "agent.cli.models",
    "agent.cli.tools",
    "agent.cli.skills",
    "agent.cli.sandbox",
    "agent.cli.doctor",
]
