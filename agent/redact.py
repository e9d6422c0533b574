"""Keeps secrets out of everything that is stored, shown or sent to a model.

Two nets: the values a person registered (plain, URL-encoded, JSON-escaped, hex, base64 at any offset) and the shapes of
well-known tokens. Ordinary text comes back unchanged. What it cannot see: values shorter than six characters, secrets
that were compressed, encrypted or taken apart by the program that printed them, and unknown shapes nobody registered.
"""

import base64
import json
import re
import threading
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

SHORTEST = 6
MARK = "[redacted]"
_LONGEST_WORD = 8_192  # no known token is longer: a stream stops waiting for the end of such a word
_LONGEST_KEY = 16_384

# A token may follow an escape (\n, %3D, \u0022) or a colour code, but not stand in the middle of base64 data.
_LEFT = r"(?<![A-Za-z0-9+/]{6})"
_VALUE = r"[A-Za-z0-9._~+/=-]"
_KEY_LINES = r"(?:(?:\s|\\+[nr])*[A-Za-z0-9+/]{16,}={0,2})+(?:(?:\s|\\+[nr])*[A-Za-z0-9+/]{1,15}={0,2}(?![A-Za-z0-9]))?"
_KEY_HEADERS = r"(?:(?:\s|\\+[nr])*[A-Z][A-Za-z-]+: [^\n\\]{1,200})*"


class _Shape(NamedTuple):
    anchors: tuple[str, ...]  # the pattern can only match where one of these literals stands
    pattern: re.Pattern[str]
    replace: str


def _shape(kind: str, anchors: str, pattern: str, keep: str = "") -> _Shape:
    return _Shape(tuple(anchors.split("|")), re.compile(pattern), f"{keep}[redacted {kind}]")


# Every token of this group has a run of letters and digits after "_" or "-"; one cheap search rules all of them out.
_TOKENISH = re.compile(r"[_-][A-Za-z0-9]{16}")
_TOKENS = (
    _shape("hf token", "hf_", rf"{_LEFT}hf_(?:oauth_[\w.-]{{20,}}|[A-Za-z0-9]{{30,}})"),
    _shape("hf token", "api_org_", rf"{_LEFT}api_org_[A-Za-z0-9]{{30,}}"),
    _shape("e2b key", "e2b_", rf"{_LEFT}(?:sk_)?e2b_[A-Za-z0-9]{{32,}}"),
    _shape("api key", "sk-", rf"{_LEFT}sk-(?:proj|svcacct|admin|ant|or-v1)-[\w-]{{20,}}"),
    _shape("api key", "sk-", rf"{_LEFT}sk-(?=[\w-]*[A-Za-z0-9]{{16}})(?=[A-Za-z_-]*\d)[\w-]{{20,}}"),
    _shape("api key", "k_live_", rf"{_LEFT}[sr]k_live_[A-Za-z0-9]{{16,}}"),
    _shape("api key", "gsk_", rf"{_LEFT}gsk_[A-Za-z0-9]{{40,}}"),
    _shape("api key", "nvapi-", rf"{_LEFT}nvapi-[\w-]{{40,}}"),
    _shape("github token", "ghp_|gho_|ghu_|ghs_|ghr_", rf"{_LEFT}gh[pousr]_[A-Za-z0-9]{{36,}}"),
    _shape("github token", "github_pat_", rf"{_LEFT}github_pat_[A-Za-z0-9_]{{22,}}"),
    _shape("gitlab token", "glpat-", rf"{_LEFT}glpat-[\w-]{{20,}}"),
    _shape("slack token", "xox", rf"{_LEFT}xox[abeoprs]-(?=[A-Za-z0-9-]*\d)[A-Za-z0-9-]{{16,}}"),
    _shape("slack token", "xapp-", rf"{_LEFT}xapp-\d-[A-Za-z0-9-]{{20,}}"),
    _shape("npm token", "npm_", rf"{_LEFT}npm_[A-Za-z0-9]{{36,}}"),
    _shape("google key", "GOCSPX-", rf"{_LEFT}GOCSPX-[\w-]{{20,}}"),
)
_OTHERS = (
    # An AWS secret has no shape of its own: it is known by its name, or by the key id right before it.
    _shape(
        "aws secret",
        "AKIA|ASIA",
        rf"{_LEFT}(A[KS]IA[A-Z0-9]{{16}}[\s,;:|\"']{{1,4}})[A-Za-z0-9/+]{{40}}(?![A-Za-z0-9/+=])",
        r"\1",
    ),
    _shape("aws key id", "AKIA|ASIA", rf"{_LEFT}A[KS]IA[A-Z0-9]{{16}}(?![A-Za-z0-9+/])"),
    _shape(
        "aws secret",
        "ecret|SECRET",
        r"((?:[Ss]ecret|SECRET)[_ ]?(?:[Aa]ccess|ACCESS)[_ ]?(?:[Kk]ey|KEY)\\?[\"']?[ \t]{0,4}[:=,][ \t]{0,4}\\?[\"']?)"
        r"[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])",
        r"\1",
    ),
    _shape("google key", "AIza", rf"{_LEFT}AIza[\w-]{{35}}(?![\w-])"),
    _shape("google token", "ya29.", rf"{_LEFT}ya29\.[\w-]{{20,}}"),
    _shape("jwt", "eyJ", rf"{_LEFT}eyJ[\w-]{{8,}}\.eyJ[\w-]{{8,}}\.[\w-]{{8,}}"),
    _shape("slack hook", "hooks.slack.com", r"(hooks\.slack\.com/(?:services|workflows|triggers)/)[\w/-]{16,}", r"\1"),
    _shape(
        "private key",
        "PRIVATE KEY",
        rf"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----{_KEY_HEADERS}{_KEY_LINES}"
        r"(?:(?:\s|\\+[nr])*=?[A-Za-z0-9+/=]{0,6}(?:\s|\\+[nr])*-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----)?",
    ),
    _shape(
        "authorization",
        "uthorization|UTHORIZATION",
        r"((?:[Aa]uthorization|AUTHORIZATION)\\?[\"']?[ \t]*[:=][ \t]*\\?[\"']?"
        r"(?:[Bb]earer|[Bb]asic|[Tt]oken)[ \t]+)"
        rf"(?={_VALUE}*(?:\d|[a-z][A-Z])){_VALUE}{{8,}}",
        r"\1",
    ),
    _shape("bearer token", "earer ", rf"([Bb]earer[ \t]+)(?={_VALUE}*\d){_VALUE}{{16,}}", r"\1"),
    # Also every database URL: the password between ":" and the last "@" of the authority, unless it is a placeholder.
    _shape(
        "password",
        "://",
        r"(://[^\s/:@\"'<>]*:)(?!\{|<|\*|%[sd(]|\$[{(A-Z_]|(?:password|passwd|pass|pwd|PASSWORD|xxx+)@)"
        r"[^\s/\"'<>]+(?=@[\w\[])",
        r"\1",
    ),
)
_SHAPES = _TOKENS + _OTHERS

# For streams: what the end of a text may be the beginning of. First the literals inside one word, then whole phrases.
_WORD_ANCHORS = (*tuple({a for s in _TOKENS for a in s.anchors}), "AIza", "ya29.", "eyJ", "hooks.slack.com", "://")
_PHRASES = ("Bearer ", "bearer ", "Authorization", "authorization", "AUTHORIZATION", "Secret", "secret", "SECRET")
_STARTS = (*_WORD_ANCHORS, *_PHRASES, "AKIA", "ASIA", "-----BEGIN ")
_STARTS_CUT = frozenset(start[:length] for start in _STARTS for length in range(1, len(start) + 1))
_LONGEST_START = max(map(len, _STARTS_CUT))
_OPEN = (
    (512, re.compile(rf"[Bb]earer[ \t]+{_VALUE}*\Z")),
    (
        512,
        re.compile(
            r"(?:[Aa]uthorization|AUTHORIZATION)\\?[\"']?[ \t]*[:=]?[ \t]*\\?[\"']?"
            rf"(?:[A-Za-z]{{0,6}}|(?:[Bb]earer|[Bb]asic|[Tt]oken)[ \t]+{_VALUE}*)\Z"
        ),
    ),
    (
        128,
        re.compile(
            r"(?:[Ss]ecret|SECRET)[_ ]?[A-Za-z]{0,6}[_ ]?[A-Za-z]{0,3}\\?[\"']?[ \t]{0,4}[:=,]?[ \t]{0,4}\\?[\"']?"
            r"[A-Za-z0-9/+]{0,40}\Z"
        ),
    ),
    (128, re.compile(r"A[KS]IA[A-Z0-9]{0,16}[\s,;:|\"']{0,4}[A-Za-z0-9/+]{0,40}\Z")),
    (
        _LONGEST_KEY,
        re.compile(
            r"-----BEGIN (?:[A-Z0-9 -]*|[A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"
            rf"{_KEY_HEADERS}(?:\s|\\|[A-Za-z0-9+/=])*-{{0,5}}[A-Z0-9 ]*-{{0,5}})\Z"
        ),
    ),
)


def _spellings(secret: str) -> Iterator[str]:
    yield secret
    yield quote(secret, safe="")
    yield quote(secret)
    yield quote_plus(secret)
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield json.dumps(json.dumps(secret)[1:-1])[1:-1]
    raw = secret.encode("utf-8", "surrogatepass")
    yield raw.hex()
    yield raw.hex().upper()
    for shift in range(3):
        # Inside longer base64 the edge characters mix with the neighbours' bits: only the middle is certain.
        coded = base64.b64encode(bytes(shift) + raw).decode()
        middle = coded[(0, 2, 3)[shift] : len(coded) - (0, 3, 2)[(len(raw) + shift) % 3]]
        if len(middle) >= SHORTEST:
            yield middle
            yield middle.translate(str.maketrans("+/", "-_"))


class Redactor:
    """Removes secrets from text and JSON-like values. One instance serves many threads."""

    def __init__(self, secrets: Iterable[str] = ()):
        self._lock = threading.Lock()
        self._needles: tuple[str, ...] = ()
        self._starts: dict[str, tuple[str, ...]] = {}
        self._longest = 0
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str) -> bool:
        """Register a value that must never be seen. False if it is too short to be told from ordinary text."""
        secret = secret.strip()
        if len(secret) < SHORTEST:
            return False
        with self._lock:
            needles = sorted({*self._needles, *_spellings(secret)}, key=lambda n: (-len(n), n))
            starts: dict[str, tuple[str, ...]] = {}
            for needle in needles:
                starts[needle[0]] = (*starts.get(needle[0], ()), needle)
            self._needles, self._starts, self._longest = tuple(needles), starts, len(needles[0])
        return True

    def text(self, text: str) -> str:
        for needle in self._needles:
            if needle in text:
                text = text.replace(needle, MARK)
        if len(text) < 16:
            return text
        for shape in _SHAPES if _TOKENISH.search(text) else _OTHERS:
            for anchor in shape.anchors:
                if anchor in text:
                    text = shape.pattern.sub(shape.replace, text)
                    break
        return text

    def value(self, value: Any) -> Any:
        """A copy of a JSON-like value, keys included, without secrets; what is not text stays."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.value(k): self.value(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value

    def stream(self) -> "StreamRedactor":
        return StreamRedactor(self)

    def _held_from(self, text: str) -> int:
        """Where the tail begins that might be the start of a secret; len(text) if nothing has to wait."""
        size = len(text)
        held = size - _partial(text)
        for at in range(max(0, size - self._longest + 1), held):
            if any(needle.startswith(text[at:]) for needle in self._starts.get(text[at], ())):
                held = at
                break
        word = 1 + max(map(text.rfind, " \n\t\r\"'"))
        for anchor in _WORD_ANCHORS:
            found = text.find(anchor, max(word, size - _LONGEST_WORD), held + len(anchor))
            if 0 <= found < held:
                held = found
        for window, pattern in _OPEN:
            if phrase := pattern.search(text, max(0, size - window)):
                held = min(held, phrase.start())
        for needle in self._needles:  # no cut through a value that is whole already
            found = text.find(needle, max(0, held - len(needle) + 1), held + len(needle) - 1)
            if 0 <= found < held:
                held = found
        return held


def _partial(text: str) -> int:
    """Length of the longest end of the text that could grow into the first letters of a known secret."""
    for length in range(min(_LONGEST_START, len(text)), 0, -1):
        if text[-length:] in _STARTS_CUT:
            return length
    return 0


class StreamRedactor:
    """For text that comes in pieces: gives out what is certainly clean and keeps the end that may be half a secret."""

    def __init__(self, redactor: Redactor):
        self._redactor = redactor
        self._tail = ""

    def feed(self, chunk: str) -> str:
        text = self._tail + chunk
        cut = self._redactor._held_from(text)
        self._tail = text[cut:]
        return self._redactor.text(text[:cut])

    def close(self) -> str:
        """The rest. The stream can be used again afterwards, as a fresh one."""
        rest, self._tail = self._tail, ""
        return self._redactor.text(rest)
