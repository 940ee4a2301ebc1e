"""Sends nbdkit on to the real address of an object.  A program of its own: python -I relay.py FILE-WITH-ADDRESS COOKIE SIZE.

nbdkit takes an address only on its command line, where every user of the machine could read it.  So it is given this
program's, and each of its requests is answered with a redirect; the bytes then come straight from the bucket.  Who asks must
have the cookie, which nbdkit reads from a file.  The address is read anew each time: it may have been renewed.  A presigned
address is for GET alone; HEAD, with which nbdkit begins, is answered here.

Prints its port, and ends when its standard input does.  Standard library only.
"""

import hmac
import http.server
import sys
import threading
from http.cookies import CookieError, SimpleCookie
from pathlib import Path

COOKIE = "v2vweb"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    address: Path
    cookie: str
    size: str

    def do_HEAD(self) -> None:
        if self._knows():
            self._answer(200, {"Content-Length": self.size, "Accept-Ranges": "bytes"})

    def do_GET(self) -> None:
        if self._knows():
            self._answer(307, {"Location": self.address.read_text(), "Content-Length": "0"})

    def _knows(self) -> bool:
        try:
            said = SimpleCookie(self.headers.get("Cookie", "")).get(COOKIE)
        except CookieError:
            said = None
        if said is not None and hmac.compare_digest(said.value.encode(), self.cookie.encode()):
            return True
        self._answer(403, {"Content-Length": "0"})
        return False

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: an address would be in it."""


def main() -> None:
    Handler.address, Handler.cookie, Handler.size = Path(sys.argv[1]), Path(sys.argv[2]).read_text(), sys.argv[3]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
