"""Likely personal data and secrets: e-mail addresses, phone and card numbers, IP addresses, bank accounts, keys.

Known shapes only; those with a checksum are checked. Names, street addresses and unknown shapes of keys are not seen;
addresses that serve as examples (example.com, private networks) are let pass.
"""

import ipaddress
import re
from collections.abc import Iterator
from typing import Any

NUMBER = re.compile(r"[0-9][0-9 ().-]{5,21}[0-9]")  # begins with a set of signs, which is searched fast
IP = re.compile(r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}")
DOMAIN = re.compile(r"@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,24}\b")
MAILBOX = re.compile(r"[A-Za-z0-9._%+-]+\Z")
PHONE = re.compile(r"\+\d[\d ().-]{7,18}|\(\d{3}\) ?\d{3}-\d{4}|\d{3}-\d{3}-\d{4}")
IBAN = re.compile(r"[0-9]{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b")
EXAMPLES = ("example.com", "example.org", "example.net", "test.com", "domain.com", "email.com")
KEYS: list[tuple[str, re.Pattern[str]]] = [
    ("hf_", re.compile(r"\bhf_[A-Za-z0-9]{30,}")),
    ("sk-", re.compile(r"\bsk-(?=[\w-]*\d)[\w-]{20,}")),
    ("AKIA", re.compile(r"\bAKIA[A-Z0-9]{16}\b")),
    *((f"gh{kind}_", re.compile(rf"\bgh{kind}_[A-Za-z0-9]{{36,}}")) for kind in "pousr"),
    ("github_pat_", re.compile(r"\bgithub_pat_\w{22,}")),
    ("glpat-", re.compile(r"\bglpat-[\w-]{20,}")),
    ("xox", re.compile(r"\bxox[abeoprs]-(?=[\w-]*\d)[\w-]{16,}")),
    ("AIza", re.compile(r"\bAIza[\w-]{35}")),
    ("k_live_", re.compile(r"\b[sr]k_live_[A-Za-z0-9]{16,}")),
    ("eyJ", re.compile(r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}")),
    ("PRIVATE KEY-----", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")),
]
MASKS = {"e-mail": "[email]", "phone": "[phone]", "card": "[card]", "IP address": "[ip]", "bank account": "[iban]"}
MASKS |= {"secret": "[secret]"}


def find(text: str) -> Iterator[tuple[str, int, int]]:
    """Kind, start and end of each find. Cheap on long texts: every search begins with a literal or a digit."""
    if "@" in text:
        for match in DOMAIN.finditer(text):
            box = MAILBOX.search(text, max(0, match.start() - 64), match.start())
            if box and not match[0].lower().removeprefix("@").endswith(EXAMPLES):
                yield "e-mail", box.start(), match.end()
    for match in NUMBER.finditer(text):
        start, end = match.span()
        if text[start - 1 : start] in ("+", "("):
            start -= 1
        if stands_alone(text, start, end) and (kind := number_kind(text[start:end])):
            yield kind, start, end
    for match in IBAN.finditer(text):
        start, end = max(0, match.start() - 2), match.end()
        if text[start : start + 2].isupper() and stands_alone(text, start, end) and valid_iban(text[start:end]):
            yield "bank account", start, end
    for literal, pattern in KEYS:
        if literal in text:
            for match in pattern.finditer(text):
                yield "secret", match.start(), match.end()


def stands_alone(text: str, start: int, end: int) -> bool:
    """Not a piece of a longer word or number."""
    before, after = text[start - 1 : start] if start else "", text[end : end + 1]
    return not (before.isalnum() or before in ("_", ".")) and not (after.isalnum() or after == "_")


def number_kind(text: str) -> str | None:
    if IP.fullmatch(text):
        return "IP address" if is_public(text) else None
    digits = "".join(filter(str.isdigit, text))
    if 13 <= len(digits) <= 19 and digits[0] in "3456" and "." not in text and "(" not in text and luhn(digits):
        return "card" if len(set(digits)) > 1 else None
    return "phone" if PHONE.fullmatch(text) and 9 <= len(digits) <= 15 else None


def luhn(digits: str) -> bool:
    total = 0
    for place, sign in enumerate(reversed(digits)):
        value = int(sign) * (1 + place % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0


def is_public(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global and not text.endswith((".0.0", ".0.0.0"))
    except ValueError:
        return False


def valid_iban(text: str) -> bool:
    plain = text.replace(" ", "")
    if not 15 <= len(plain) <= 34:
        return False
    turned = plain[4:] + plain[:4]
    return int("".join(str(int(sign, 36)) for sign in turned)) % 97 == 1


def masked(text: str) -> str:
    """The text with every find replaced by its kind."""
    found = sorted(find(text), key=lambda one: (one[1], -one[2]))
    pieces, end = [], 0
    for kind, start, stop in found:
        if start >= end:
            pieces += [text[end:start], MASKS[kind]]
            end = stop
    return "".join([*pieces, text[end:]]) if found else text


def masked_value(value: Any) -> Any:
    if type(value) is str:
        return masked(value)
    if type(value) is list:
        return [masked_value(one) for one in value]
    if type(value) is dict:
        return {name: masked_value(one) for name, one in value.items()}
    return value
