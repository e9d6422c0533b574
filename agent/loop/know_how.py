"""The model's hand on skills: two tools, and the copying of a skill's files into the sandbox once it is used.

A skill's folder is copied when it is loaded or put into the prompt, never before, and read-only; the copy is the
sandbox's own, whatever the code there does to it.
"""

from collections.abc import Callable
from pathlib import Path

from agent.sandbox.open import Sandbox
from agent.skills import Skill, Skills
from agent.toolbox import Tool
from tools.declare import Declaration

LARGEST_FILE = 5 * 1024 * 1024


def skill_tools(skills: Skills, used: Callable[[Skill], None]) -> dict[str, Tool]:
    """`used` is told of each skill that is loaded. Without any skill there are no such tools."""
    if not skills.trusted:
        return {}

    def load_skill(name: str) -> str:
        """Read a skill's instructions before work it fits; its files are then in the sandbox.

        Args:
            name: A name from the list of skills.
        """
        text = skills.load_skill(name)
        used(skills.get(name))
        return text

    def read_skill_file(skill: str, path: str, offset: int = 0) -> str:
        """Read a further file of a skill, such as a reference or a script.

        Args:
            skill: The skill's name.
            path: The file's path inside the skill, as load_skill lists it.
            offset: Where to go on reading a long file.
        """
        return skills.read_skill_file(skill, path, offset)

    made = (load_skill, read_skill_file)
    return {function.__name__: Tool(function.__name__, function, Declaration("free")) for function in made}


def copy_in(sandbox: Sandbox, skill: Skill) -> None:
    """The skill's folder as it is on the host, at the path the catalog tells."""
    top = Path(skill.folder)
    found = [path for path in sorted(top.rglob("*")) if path.is_file() and not path.is_symlink()]
    # How a skill is judged is not for the one who is judged.
    files = [path for path in found if path.relative_to(top).parts[0] != "evals"]
    small = [path for path in files if path.stat().st_size <= LARGEST_FILE]
    entries = [{"path": f"{skill.inside}/{path.relative_to(top)}", "data": path.read_bytes()} for path in small]
    if entries:
        sandbox.remote.files.write_files(entries)
        sandbox.command(f"chmod -R a-w,a+rX '{skill.inside}'")
