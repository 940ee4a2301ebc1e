"""What the web process holds: idle, after many pages, and after a thousand log viewers have come and gone."""

import asyncio
import http.client

from tests.benchmarks.measuring import memory_mib, report
from tests.benchmarks.viewers import Server, open_viewer, write

PAGES = ["/", "/?state=failed", "/new/", "/system/", "/account/tokens/", "/api/v1/conversions", "/login/"]
VIEWERS = 1000
ROWS = """
import random
from django.contrib.auth.models import User
from tests.benchmarks.rows import make_rows
make_rows(5000, [User.objects.get()])
"""


def look(server: Server, times: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    for _ in range(times):
        for page in PAGES:
            connection.request("GET", page, headers={"Cookie": f"sessionid={server.session}"})
            connection.getresponse().read()


async def watch(server: Server) -> None:
    doors = asyncio.Semaphore(40)
    late: list[float] = []
    viewers = await asyncio.gather(*(open_viewer(server, "lazy", late, doors) for _ in range(VIEWERS)))
    await write(server.log, 50, 5)
    await asyncio.sleep(1)
    report(f"web process with {VIEWERS} log viewers", memory_mib(server.process.pid), "MiB")
    for viewer in viewers:
        viewer.transport.abort()
    await asyncio.sleep(2)


def main() -> None:
    server = Server()
    try:
        pid = server.process.pid
        report("web process, just started", memory_mib(pid), "MiB")
        server._manage("shell", "--no-imports", "-c", ROWS)
        look(server, 60)
        report(f"web process after {60 * len(PAGES)} pages, 5000 conversions", memory_mib(pid), "MiB")
        asyncio.run(watch(server))
        report("web process after all that", memory_mib(pid), "MiB", 150)
    finally:
        server.close()


if __name__ == "__main__":
    main()
