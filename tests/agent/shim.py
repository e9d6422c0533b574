import importlib.util, sys, types
def there(name, attr):
    try:
        return hasattr(importlib.import_module(name), attr)
    except Exception:
        return False
if not there("agent.skills", "Skills"):
    m = types.ModuleType("agent.skills"); m.__path__ = []
    class Skills:
        @classmethod
        def discover(cls, *a): return cls()
        def match(self, t): return []
        def body(self, s): return ""
        def catalog(self): return ""
    m.Skills = Skills; sys.modules["agent.skills"] = m
if not there("agent.skills.tools", "skill_tools"):
    m = types.ModuleType("agent.skills.tools"); m.skill_tools = lambda s: {}; sys.modules["agent.skills.tools"] = m
