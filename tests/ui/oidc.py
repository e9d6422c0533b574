"""An OpenID Connect provider on loopback, as the Hub is one: discovery, authorize, token, userinfo. The accounts are
those of the test; the protocol is checked as a provider checks it."""

import base64
import hashlib
import json
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

SECRET = "the-space's-own-secret"


class Oidc:
    """`account` is who is signed in at the provider just now."""

    def __init__(self) -> None:
        self.account = {"sub": "1", "preferred_username": "ann", "name": "Ann"}
        self.codes: dict[str, dict[str, str]] = {}
        self.tokens: dict[str, dict[str, Any]] = {}
        self.expires_in = 3600
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                outer.get(self)

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
                outer.give(self, {name: values[0] for name, values in form.items()})

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def __enter__(self) -> "Oidc":
        threading.Thread(target=self.http.serve_forever, args=[0.02], daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.http.shutdown()
        self.http.server_close()

    def environment(self, host: str) -> dict[str, str]:
        """What a Space is told."""
        return {
            "SYSTEM": "spaces",
            "SPACE_ID": "ann/smith",
            "SPACE_HOST": host,
            "OPENID_PROVIDER_URL": self.url,
            "OAUTH_CLIENT_ID": "the-space",
            "OAUTH_CLIENT_SECRET": SECRET,
            "OAUTH_SCOPES": "openid profile",
        }

    def get(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/.well-known/openid-configuration":
            names = {"authorization_endpoint": "authorize", "token_endpoint": "token", "userinfo_endpoint": "userinfo"}
            return self.say(handler, {name: f"{self.url}/{path}" for name, path in names.items()})
        if parts.path == "/authorize":
            assert query["client_id"] == "the-space" and query["code_challenge_method"] == "S256"
            code = secrets.token_hex(8)
            self.codes[code] = query
            handler.send_response(302)
            handler.send_header(
                "location", f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"
            )
            handler.end_headers()
            return None
        token = handler.headers.get("authorization", "").removeprefix("Bearer ")
        if parts.path == "/userinfo" and token in self.tokens:
            return self.say(handler, self.tokens[token])
        return self.say(handler, {"error": "no"}, 401)

    def give(self, handler: BaseHTTPRequestHandler, form: dict[str, str]) -> None:
        begun = self.codes.pop(form.get("code", ""), None)
        basic = base64.b64encode(f"the-space:{SECRET}".encode()).decode()
        proof = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        if (
            begun is None
            or handler.headers.get("authorization") != f"Basic {basic}"
            or proof != begun["code_challenge"]
            or form["redirect_uri"] != begun["redirect_uri"]
        ):
            return self.say(handler, {"error": "invalid_grant"}, 400)
        token = f"hf_oauth_{secrets.token_hex(20)}"
        self.tokens[token] = dict(self.account)
        return self.say(handler, {"access_token": token, "token_type": "bearer", "expires_in": self.expires_in})

    def say(self, handler: BaseHTTPRequestHandler, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)
