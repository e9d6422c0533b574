"""Values of flags that several commands take: numbers and addresses. A wrong one is told in words."""

import argparse
import ipaddress
from typing import NoReturn


def amount(text: str) -> float:
    number = _number(text)
    return number if 0 <= number < float("inf") else _refuse(text, "an amount of dollars")


def positive(text: str) -> float:
    number = _number(text)
    return number if 0 < number < float("inf") else _refuse(text, "a number above 0")


def count(text: str) -> int:
    return int(text) if text.isdecimal() and int(text) else _refuse(text, "a whole number of 1 or more")


def port(text: str) -> int:
    return int(text) if text.isdecimal() and int(text) <= 65535 else _refuse(text, "a port: 0 to 65535")


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")  # in no range


def _refuse(text: str, wanted: str) -> NoReturn:
    raise argparse.ArgumentTypeError(f"'{text}' is not {wanted}")
