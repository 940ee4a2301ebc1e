"""The board with 5000 conversions: time and number of queries of its pages, inside the process."""

import os
import tempfile
import time

COUNT, REPEATS = 5000, 40
PAGES = ["/", "/?state=failed", "/?state=active", "/?q=web012", "/?sort=name&page=50", "/?sort=-owner"]


def main() -> None:
    from django.core.management import call_command
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from tests.benchmarks.measuring import percentile, report
    from tests.benchmarks.rows import make_rows, people

    call_command("migrate", verbosity=0)
    alice, charlie = people()
    make_rows(COUNT, [alice, charlie])
    for user in (alice, charlie):
        client = Client(headers={"Host": "localhost"})
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        times: list[float] = []
        queries = 0
        for page in PAGES:
            with CaptureQueriesContext(
                connection,
            ) as captured:
                assert client.get(page).status_code == 200, page
            queries = max(queries, len(captured))
            for _ in range(REPEATS):
                start = time.perf_counter()
                client.get(page)
                times.append(time.perf_counter() - start)
        role = user.groups.get().name
        report(f"board of {COUNT} for a {role}: p50", 1000 * percentile(times, 50), "ms")
        report(f"board of {COUNT} for a {role}: p95", 1000 * percentile(times, 95), "ms", 100)
        report(f"board of {COUNT} for a {role}: most queries of a page", queries, "queries", 10)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="v2v-bench-") as folder:
        os.environ |= {"V2VWEB_DATA_DIR": folder, "DJANGO_SETTINGS_MODULE": "v2vweb.settings"}
        import django

        django.setup()
        main()
