"""The skills of one session: what is there, what the prompt shows of it, which fit a task, and their texts.

A skill that nobody trusts enters no prompt by itself: it is neither in the catalog nor proposed for a task, and its
`allowed-tools` count for nothing. It is used when the person names it (`/name`), and can be shown at any time.
"""

import re
from pathlib import Path

from agent.errors import UserError

from . import files, off
from .find import Found, Problem, find
from .rank import Ranking
from .skill import INSIDE, Skill, tokens

NAMED = re.compile(r"(?<!\S)[/$]([^\W_]+(?:-[^\W_]+)*)(?=$|[\s,;:.!?)])")
# What nearly every description begins with; the catalog says it once.
WHEN = re.compile(r"use (?:this skill|it) when (?:(?:the person|the user|you|someone) wants? (?:to )?)?", re.I)
NAMED_TOKENS = 10_000  # what a person may call up by name, whatever the budget for proposals
BODY_CHARACTERS = 32_000
FILES_SHOWN = 40


class Skills:
    def __init__(self, found: Found):
        self.all: list[Skill] = found.skills
        self.shadowed: list[Skill] = found.shadowed
        self.problems: list[Problem] = found.problems
        self.by_name = {skill.name: skill for skill in self.all}
        self.ranking = Ranking(self.trusted)

    @classmethod
    def discover(cls, cwd: Path, home: Path) -> "Skills":
        """Reads every folder anew; a session does it once. Those that were switched off are left out."""
        found, without = find(cwd, home), off.known(home)
        found.skills = [skill for skill in found.skills if skill.name not in without]
        return cls(found)

    @property
    def trusted(self) -> list[Skill]:
        return [skill for skill in self.all if skill.trusted]

    @property
    def untrusted(self) -> list[Skill]:
        return [skill for skill in self.all if not skill.trusted]

    def get(self, name: str) -> Skill:
        skill = self.by_name.get(name.removeprefix("/"))
        if not skill:
            raise UserError(f"there is no skill '{name}'. There are: {', '.join(self.by_name) or 'none'}.")
        return skill

    def candidates(self, name: str) -> list[Skill]:
        """All of that name, the one that counts first."""
        return [skill for skill in [*self.all, *self.shadowed] if skill.name == name]

    def catalog(self, max_tokens: int = 1200) -> str:
        """One line for each trusted skill under a line that tells their folders; nothing when there are none.

        Long descriptions give way first, each to the same length; then the last names, counted.
        """
        head = f"Use one when the person wants its line. Folders, read-only in the sandbox: {INSIDE}/<name>"
        rows = [(skill.name, WHEN.sub("", skill.description, count=1)) for skill in self.trusted]
        if not rows:
            return ""
        low, high = 0, max(len(text) for _, text in rows)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if tokens(lines(head, rows, middle)) <= max_tokens else (low, middle - 1)
        text = lines(head, rows, low)
        while rows and tokens(text) > max_tokens:
            rows.pop()
            text = lines(head, rows, 0) + f"\n… and {len(self.trusted) - len(rows)} more"
        return text if rows else ""

    def named(self, task: str) -> list[Skill]:
        """The skills that the person calls with /name or $name, in that order."""
        called = dict.fromkeys(NAMED.findall(task))
        return [self.by_name[name] for name in called if name in self.by_name]

    def match(self, task: str, budget_tokens: int = 3000) -> list[Skill]:
        """Those to put whole into the prompt: the ones called by name, or else at most two that fit the task.

        A body that does not fit the budget is left out; the model can still load it from the catalog.
        """
        called = self.named(task)
        if called:
            return fitting(called, max(budget_tokens, NAMED_TOKENS))
        return fitting(self.ranking.best(task), budget_tokens)

    def body(self, skill: Skill) -> str:
        """SKILL.md without its frontmatter, as it was when the skills were read."""
        return skill.text

    def read(self, skill: Skill, path: str, offset: int = 0) -> str:
        """A text file of the skill's folder, a piece at a time; never one outside it."""
        return files.read(skill.folder, path, offset)

    def load_skill(self, name: str) -> str:
        """The body with the list of files that belong to it: what the model gets when it loads a skill."""
        skill = self.get(name)
        body = skill.text
        if len(body) > BODY_CHARACTERS:
            body = f"{body[:BODY_CHARACTERS]}\n… cut here; read_skill_file('{skill.name}', 'SKILL.md') has the rest"
        found = files.listing(skill.folder)
        listed = [path for path in found if path.lower() != "skill.md" and not path.startswith("evals/")]
        shown = "".join(f"<file>{path}</file>\n" for path in listed[:FILES_SHOWN])
        if len(listed) > FILES_SHOWN:
            shown += f"… and {len(listed) - FILES_SHOWN} more files\n"
        resources = f"<skill_resources>\n{shown}</skill_resources>\n" if listed else ""
        return f'<skill_content name="{skill.name}" folder="{skill.inside}">\n{body}\n{resources}</skill_content>'

    def read_skill_file(self, skill: str, path: str, offset: int = 0) -> str:
        return self.read(self.get(skill), path, offset)


def fitting(skills: list[Skill], budget: int) -> list[Skill]:
    taken = []
    for skill in skills:
        size = tokens(skill.text)
        if size <= budget:
            taken.append(skill)
            budget -= size
    return taken


def lines(head: str, rows: list[tuple[str, str]], most: int) -> str:
    return "\n".join([head, *(f"- {name}: {cut(text, most)}" if most else f"- {name}" for name, text in rows)])


def cut(text: str, most: int) -> str:
    """At most so many characters, ended between words."""
    if len(text) <= most:
        return text
    kept = text[: max(most - 1, 0)]
    return (kept.rpartition(" ")[0] or kept).rstrip(" ,;:") + "…"
