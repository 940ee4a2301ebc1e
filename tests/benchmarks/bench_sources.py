"""Saved sources: reading 3000 guests against one bare property collection, the table from the cache, rules, dead hosts."""

import os
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

GUESTS, PAIRS, PAGES = 3000, 5, 40
QUERIES = ["", "?page=30", "?q=vm77", "?concerns=critical", "?sort=-size", "?sort=host&page=9", "?power=off&q=h0"]


def timed(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def inventory(server: Any) -> list[Any]:
    """The whole inventory over the bare question for the same properties, by turns; returns the records."""
    from conversions.servers import vsphere
    from tests.benchmarks.measuring import percentile, report

    endpoint = vsphere.Endpoint(server.host, server.port, server.user, pin=server.certificate)
    bare, whole = [], []
    records: list[Any] = []
    for _ in range(PAIRS):
        with vsphere.session(endpoint, server.password) as instance:
            bare.append(timed(lambda instance=instance: vsphere.retrieve(instance)))  # type: ignore[misc]
        start = time.perf_counter()
        records = vsphere.list_guests(endpoint, server.password)
        whole.append(time.perf_counter() - start)
    report(f"inventory of {len(records)} guests: bare property collection", percentile(bare, 50), "s")
    ratios = [one / other for one, other in zip(whole, bare, strict=True)]
    report(f"inventory of {len(records)} guests, with login and records / bare", percentile(ratios, 50), "", 1.2)
    return records


def table(records: list[Any]) -> None:
    from django.core.management import call_command
    from django.test import Client

    from conversions.models import SavedSource
    from conversions.servers import refresh
    from tests.benchmarks.measuring import percentile, report
    from tests.benchmarks.rows import people

    call_command("migrate", verbosity=0)
    alice, _ = people()
    saved = SavedSource.objects.create(kind="vcenter", name="Big", owner=alice, host="h", port=443, user="u", pin="P")
    report(f"cache of {len(records)} guests written", timed(lambda: refresh.store(saved, records)), "s")
    client = Client(headers={"Host": "localhost"})
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    times: list[float] = []
    for query in QUERIES:
        url = f"/sources/{saved.pk}/{query}"
        assert client.get(url).status_code == 200
        times += [timed(lambda url=url: client.get(url)) for _ in range(PAGES)]  # type: ignore[misc]
    report(f"table of {len(records)} guests: p50", 1000 * percentile(times, 50), "ms")
    report(f"table of {len(records)} guests: p95", 1000 * percentile(times, 95), "ms", 200)


def rules(records: list[Any]) -> None:
    from conversions.servers.concerns import RULES, around, concerns
    from tests.benchmarks.measuring import percentile, report

    def once() -> None:
        context = around(records, "https")
        for record in records:
            concerns(record, context)

    times = [timed(once) for _ in range(PAIRS)]
    report(f"{len(RULES)} rules on {len(records)} guests", percentile(times, 50), "s", 0.5)


def dead_host() -> None:
    from conversions.models import SavedSource
    from conversions.servers import connection
    from tests.benchmarks.measuring import report

    # 192.0.2.1 is kept for documentation: nobody answers there, or this machine's network says so at once.
    # The other accepts and says nothing for ever.
    with socket.create_server(("127.0.0.2", 0)) as silent:
        for what, host, port in (("nobody has", "192.0.2.1", 443), ("accepts and is silent", *silent.getsockname())):
            saved = SavedSource(kind="vcenter", name="Dead", host=host, port=port, user="u")
            seconds = timed(lambda saved=saved: list(connection.test(saved)))  # type: ignore[misc]
            report(f"answer about an address that {what}", seconds, "s", 10)


def main() -> None:
    from tests.fixtures_vsphere import simulator
    from tests.running import CACHE

    CACHE.mkdir(parents=True, exist_ok=True)
    flags = ["-vm", str(GUESTS // 2), "-cluster", "1", "-host", "2", "-pg", "1", "-autostart=false"]
    with tempfile.TemporaryDirectory() as folder, simulator(CACHE, *flags, folder=Path(folder)) as server:
        records = inventory(server)
    table(records)
    rules(records)
    dead_host()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="v2v-bench-") as folder:
        os.environ |= {"V2VWEB_DATA_DIR": folder, "DJANGO_SETTINGS_MODULE": "v2vweb.settings"}
        import django

        django.setup()
        main()
