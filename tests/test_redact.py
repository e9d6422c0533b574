"""Secrets go, everything else stays: shapes, registered values in every spelling, streams cut anywhere, speed."""

import base64
import hashlib
import json
import random
import string
import sys
import time
import tokenize
import uuid
from pathlib import Path
from urllib.parse import quote

import pytest

from agent.redact import Redactor

DICE = random.Random(20)
ALNUM = string.ascii_letters + string.digits


def word(length: int, letters: str = ALNUM) -> str:
    return "".join(DICE.choice(letters) for _ in range(length))


# Built here from pieces, so that no scanner takes this file for a leak.
AWS_ID = "AK" + "IA" + word(16, string.ascii_uppercase + string.digits)
AWS_SECRET = word(19) + "/" + word(19) + "+"
JWT = ".".join(
    base64.urlsafe_b64encode(part).decode().rstrip("=")
    for part in (b'{"alg":"HS256","typ":"JWT"}', b'{"sub":"1234567890","name":"somebody"}', bytes(range(32)))
)
KEY_BODY = "\n".join(word(64) for _ in range(6)) + "\n" + word(22) + "=="
KEY_BLOCK = f"-----BEGIN RSA PRIVATE KEY-----\n{KEY_BODY}\n-----END RSA PRIVATE KEY-----"
BEARER = word(30) + "7"
PASSWORD = "s3cr:t-" + word(9)

SHAPES = {
    "hf": "hf_" + word(34),
    "hf letters only": "hf_" + word(34, string.ascii_letters),
    "hf organisation": "api_org_" + word(34, string.ascii_letters),
    "hf oauth": "hf_oauth_" + JWT,
    "e2b": "e2b_" + word(40, "0123456789abcdef"),
    "openai": "sk-" + word(20) + "T3Blbk" + word(20),
    "openai project": "sk-proj-" + word(60) + "_" + word(40) + "-" + word(30),
    "anthropic": "sk-ant-api03-" + word(80) + "-" + word(10),
    "openrouter": "sk-or-v1-" + word(64, "0123456789abcdef"),
    "groq": "gsk_" + word(52),
    "github": "ghp_" + word(36),
    "github app": "ghs_" + word(36),
    "github fine": "github_pat_" + word(22) + "_" + word(59),
    "gitlab": "glpat-" + word(20),
    "slack bot": "xoxb-" + word(12, string.digits) + "-" + word(13, string.digits) + "-" + word(24),
    "google": "AIza" + word(35),
    "google oauth": "ya29." + word(60),
    "jwt": JWT,
    "aws id": AWS_ID,
    "key": KEY_BLOCK,
    "npm": "npm_" + word(36),
}
CONTEXTS = {
    "aws env": (f"export AWS_SECRET_ACCESS_KEY={AWS_SECRET}", AWS_SECRET),
    "aws file": (f"aws_secret_access_key = {AWS_SECRET}\nregion = eu-west-1", AWS_SECRET),
    "aws json": (json.dumps({"SecretAccessKey": AWS_SECRET, "Expiration": "2030"}), AWS_SECRET),
    "aws csv": (f"{AWS_ID},{AWS_SECRET}\n", AWS_SECRET),
    "header": (f"> Authorization: Bearer {BEARER}\n> Accept: */*", BEARER),
    "header json": (json.dumps({"authorization": f"Bearer {BEARER}"}), BEARER),
    "header basic": (f"Authorization: Basic {base64.b64encode(b'someone:their password 1').decode()}", "c29tZW9uZTp0"),
    "bearer alone": (f'curl -H "bearer {BEARER}" https://example.org', BEARER),
    "url": (f"git clone https://me:{PASSWORD}@example.org/x.git", PASSWORD),
    "database": (f"postgresql+psycopg://app:{PASSWORD}@db.internal:5432/prod?sslmode=require", PASSWORD),
    "redis": (f"redis://:{PASSWORD}@cache:6379/0", PASSWORD),
    "key in json": (json.dumps({"private_key": KEY_BLOCK + "\n", "id": 1}), KEY_BODY.splitlines()[2]),
    "key twice escaped": (json.dumps(json.dumps({"k": KEY_BLOCK})), KEY_BODY.splitlines()[5]),
    "key cut off": (KEY_BLOCK[:200], KEY_BODY.splitlines()[1]),
    "slack hook": (f"https://hooks.slack.com/services/T0{word(8)}/B0{word(8)}/{word(24)}", "/B0"),
}
REGISTERED = ["correct horse/battery+staple", 'quote"and\\slash', "plain-Value_1234", "pässwörd-123"]
PROSE = """The bearer of this letter asks for authorization: see the README, "Secrets and tokens". A secret access
key is never printed. Use Authorization: Bearer <token>, or Authorization: Bearer $HF_TOKEN, or f"Bearer {token}".
postgres://user:password@localhost/db and https://example.org:8080/a@b, ssh://git@github.com:22/x,
user@example.org at 10:30@noon.
-----BEGIN PRIVATE KEY----- is how such a file starts and -----END PRIVATE KEY----- how it ends.
Risk-averse task-runner desk-side hf_hub_download(e2b_code_interpreter, sk-learn, hf_datasets_cache)
sk-estimator-doc-link
<div class="sk-toggleable__content sk-container-id-1 sk-text-repr-fallback">eyJ is how JSON looks in base64.</div>
sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 AKIA is a prefix, AIza too, xoxb- too.
"""


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize(
    "frame", ["{}", "token={}\n", '{{"token": "{}"}}', "'{}'", "\\n{}\\n", "%22{}%22", "\x1b[1;32m{}\x1b[0m", "a {}, b"]
)
def test_a_well_known_shape_is_removed_wherever_it_stands(kind, frame):
    secret = SHAPES[kind]
    clean = Redactor().text(frame.format(secret))
    assert secret not in clean and secret[12:] not in clean and "[redacted" in clean
    before, after = frame.format("|").split("|")
    assert clean.startswith(before) and clean.endswith(after), "only the secret itself may go"


@pytest.mark.parametrize("kind", CONTEXTS)
def test_a_secret_known_by_its_surroundings_is_removed_and_the_surroundings_stay(kind):
    text, secret = CONTEXTS[kind]
    assert secret in text
    clean = Redactor().text(text)
    assert secret not in clean and "[redacted" in clean
    assert clean[:9] == text[:9] or kind in ("aws csv", "key cut off"), "these two begin with the secret"


@pytest.mark.parametrize("secret", REGISTERED)
def test_a_registered_value_is_removed_in_every_spelling(secret):
    redactor = Redactor([secret])
    raw = secret.encode()
    spellings = [secret, quote(secret), quote(secret, safe=""), json.dumps(secret), raw.hex()]
    spellings += [json.dumps(json.dumps({"x": secret})), json.dumps(secret, ensure_ascii=False)]
    for spelling in spellings:
        clean = redactor.text(f"before {spelling} after")
        assert "[redacted]" in clean and secret not in clean and spelling.strip('"') not in clean
    for left in range(4):
        coded = base64.b64encode(b"user:"[:left] + raw + b" tail").decode()
        clean = redactor.text(coded)
        assert "[redacted]" in clean
        rest = clean.replace("[redacted]", "").rstrip("=")
        assert len(rest) <= len(coded) - len(raw), "next to nothing of the value is left"


def test_keys_and_depths_of_a_value_are_cleaned_and_the_rest_stays_equal():
    redactor = Redactor(["plain-Value_1234"])
    value = {"plain-Value_1234": [1, 2.5, None, True, {"deep": ("x", f"say {SHAPES['hf']}")}], "n": 3}
    assert redactor.value(value) == {
        "[redacted]": [1, 2.5, None, True, {"deep": ["x", "say [redacted hf token]"]}],
        "n": 3,
    }


def test_a_value_too_short_to_be_told_from_text_is_refused_by_name():
    redactor = Redactor()
    assert redactor.add("  ") is False and redactor.add("abc") is False
    assert redactor.add("abcdef") is True
    assert redactor.text("abc abcdef") == "abc [redacted]"


def test_cleaning_twice_changes_nothing_more():
    redactor = Redactor(REGISTERED)
    once = redactor.text("\n".join([*SHAPES.values(), *(text for text, _ in CONTEXTS.values()), *REGISTERED]))
    assert redactor.text(once) == once


def test_prose_hashes_ids_and_images_come_back_unchanged():
    redactor = Redactor(REGISTERED)
    image = base64.b64encode(random.Random(1).randbytes(600_000)).decode()
    wrapped = base64.encodebytes(random.Random(2).randbytes(600_000)).decode()
    zeros = base64.b64encode(bytes(30_000)).decode()
    ids = "\n".join(f"{uuid.uuid4()} {hashlib.sha1(bytes([n])).hexdigest()} {uuid.uuid4().hex}" for n in range(200))
    for text in (PROSE, image, wrapped, zeros, ids, f"data:image/png;base64,{image[:9000]}"):
        assert redactor.text(text) == text


def test_the_source_code_of_the_standard_library_comes_back_unchanged():
    redactor = Redactor(REGISTERED)
    changed = []
    for path in sorted(Path(json.__file__).parent.parent.glob("*.py")):
        with tokenize.open(path) as source:
            text = source.read()
        if redactor.text(text) != text:
            changed.append(path.name)
    assert not changed


@pytest.mark.parametrize("seed", range(12))
def test_a_stream_cut_anywhere_gives_the_same_as_the_whole_text(seed):
    dice = random.Random(seed)
    redactor = Redactor(REGISTERED)
    parts = [*SHAPES.values(), *(text for text, _ in CONTEXTS.values()), *REGISTERED, *PROSE.split(". ")]
    dice.shuffle(parts)
    text = "".join(part + dice.choice([" ", "\n", ", ", ' "']) for part in parts)
    stream, out, at = redactor.stream(), [], 0
    while at < len(text):
        size = dice.choice([1, 1, 2, 3, 7, 40, 300])
        out.append(stream.feed(text[at : at + size]))
        at += size
    assert "".join(out) + stream.close() == redactor.text(text)


def test_a_stream_lets_ordinary_text_through_at_once():
    stream = Redactor(REGISTERED).stream()
    for line in PROSE.splitlines():
        assert stream.feed(f"{line}\n") == f"{line}\n"
    assert stream.feed("loss 0.25 ... ") == "loss 0.25 ... "
    assert stream.feed("the secret of this is that we meet now, ") == "the secret of this is that we meet now, "
    assert stream.feed("a progress bar [=====>") == "a progress bar [=====>"


def test_ordinary_text_is_read_at_fifty_megabytes_a_second():
    text = "".join(p.read_text(errors="replace") for p in sorted(Path(json.__file__).parent.parent.glob("*.py"))[:120])
    text = text.encode("ascii", "ignore").decode()
    pieces = [text[at : at + 4_000] for at in range(0, len(text), 4_000)]
    redactor = Redactor(["hf_" + word(34), "e2b_" + word(40, "0123456789abcdef")])
    speeds = []
    for _ in range(7):
        start = time.process_time()
        for piece in pieces:
            redactor.text(piece)
        speeds.append(len(text) / (time.process_time() - start) / 1e6)
    print(f"{max(speeds):.0f} MB/s", file=sys.stderr)
    assert max(speeds) >= 50
