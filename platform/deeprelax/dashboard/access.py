"""Who may see the pages and who may change something: checked before any route, the mounted ones too."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Literal
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Role = Literal["read", "write"]

COOKIE = "deeprelax"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_OWN_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)  # inline *styles* only: plotly sets them
_HEADERS = {
    "Content-Security-Policy": _OWN_CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}

_STYLE = """:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}
main{max-width:28rem;margin:18vh auto;padding:0 1rem}label{display:block}
input,button{font:inherit;padding:.5rem .7rem;margin-top:.6rem;width:100%;box-sizing:border-box}"""
_LOGIN = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>deeprelax: log in</title>
<meta name="viewport" content="width=device-width"><style>{style}</style></head><body><main>
<h1>deeprelax</h1><form method="get" action="/">
<label for="token">Token, as <code>deeprelax dashboard</code> has printed it</label>
<input id="token" name="token" type="password" autocomplete="current-password" autofocus required>
<button>Log in</button></form>{problem}</main></body></html>"""


@dataclass(frozen=True)
class Tokens:
    """The words that open the pages.

    Args:
        read: opens them.
        write: opens them and lets change something; None: nobody may.
    """

    read: str = field(repr=False)
    write: str | None = field(default=None, repr=False)

    @classmethod
    def drawn(cls, read: str | None = None, *, write: bool = False) -> Tokens:
        """Return ``read``, or random words, and a random one that lets write if that is wanted."""
        return cls(read or secrets.token_urlsafe(24), secrets.token_urlsafe(24) if write else None)

    def role(self, word: str) -> Role | None:
        """Return what ``word`` allows, in a time that tells nothing about how wrong it is."""
        given = word.encode()
        reads = hmac.compare_digest(given, self.read.encode())
        writes = self.write is not None and hmac.compare_digest(given, self.write.encode())
        return "write" if writes else "read" if reads else None


class Guard:
    """Lets in who knows a token: as a cookie, as ``Authorization: Bearer``, or once as ``?token=``.

    A write needs the write token, and must come from a page of this server (the browser's ``Origin``) or carry its
    token in a header, which no foreign page can set.

    Args:
        app: what is guarded, all of it.
        tokens: that open it.
        secure: cookies travel by TLS only.
    """

    def __init__(self, app: ASGIApp, tokens: Tokens, *, secure: bool = False) -> None:
        self._app = app
        self._tokens = tokens
        self._secure = secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no websockets here
        answer = self._refusal(scope)
        await (answer or self._app)(scope, receive, _protected(send))

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer of a request that goes no further; None if it does."""
        headers = Headers(scope=scope)
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if "token" in query and scope["method"] == "GET":
            return self._log_in(scope["path"], query)
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        role = self._tokens.role(bearer or _cookie(headers))
        if role is None:
            return _please_log_in(scope, headers)
        scope.setdefault("state", {})["role"] = role
        if scope["method"] in SAFE_METHODS:
            return None
        if role != "write":
            return JSONResponse({"detail": "Read only. Open the link with the write token to change this."}, 403)
        if not bearer and not _same_origin(headers):
            return JSONResponse({"detail": "This request came from another page."}, 403)
        return None

    def _log_in(self, path: str, query: dict[str, list[str]]) -> Response:
        word = query.pop("token")[0]
        if self._tokens.role(word) is None:
            return _login_page('<p role="alert">This is not the token.</p>')
        rest = urlencode(query, doseq=True)
        # Only a path of this server: "//elsewhere" would be another one.
        answer = RedirectResponse("/" + path.lstrip("/") + (f"?{rest}" if rest else ""), 303)
        answer.set_cookie(COOKIE, word, httponly=True, samesite="strict", secure=self._secure)
        return answer


def _cookie(headers: Headers) -> str:
    found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    return found.value if found is not None else ""


def _same_origin(headers: Headers) -> bool:
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc == headers.get("host")


def _please_log_in(scope: Scope, headers: Headers) -> Response:
    if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
        return _login_page()
    return JSONResponse({"detail": "Token required."}, 401, {"WWW-Authenticate": "Bearer"})


def _login_page(problem: str = "") -> Response:
    return HTMLResponse(_LOGIN.format(style=_STYLE, problem=problem), 401)


def _protected(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return wrapped
