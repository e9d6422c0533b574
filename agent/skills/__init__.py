"""Skills: folders of know-how in the open SKILL.md format. Found, checked, chosen for a task, added and packed.

Nothing here runs what lies in a skill. What a model gets to see of one is in `library`.
"""

from .library import Skills
from .skill import Refused, Skill

__all__ = ["Refused", "Skill", "Skills"]
