"""nginx in front of v2vweb with the configuration of docs/nginx.md, for tests and benchmarks."""

import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

from tests.running import PROJECT


class Nginx:
    def __init__(self, folder: Path, backend: int, bodies: Path, locations: str = "") -> None:
        """`locations` are added to those of the documentation, for what a benchmark compares with."""
        self.folder, self.bodies = folder, bodies
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        block = re.search(r"```nginx\n(.*?)```", (PROJECT / "docs" / "nginx.md").read_text(), re.DOTALL)
        assert block
        site = block[1].replace("127.0.0.1:8000", f"127.0.0.1:{backend}").replace("/srv/v2vweb/bodies", str(bodies))
        site = site.replace("listen 443 ssl;", f"listen 127.0.0.1:{self.port};")
        site = re.sub(r"    ssl_certificate.*\n", "", site)
        site = site.rstrip().removesuffix("}") + locations + "}\n"
        self.config = folder / "nginx.conf"
        self.config.write_text(
            f"user root;\nworker_processes 1;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log notice;\ndaemon off;\n"
            "events { worker_connections 256; }\n"
            f"http {{\naccess_log off;\n"
            + "".join(
                f"{name}_temp_path {folder}/{name};\n" for name in ("proxy", "client_body", "fastcgi", "uwsgi", "scgi")
            )
            + f"{site}}}\n"
        )
        bodies.mkdir(exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def program() -> str | None:
        return shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin")

    def start(self) -> None:
        program = self.program()
        assert program
        self.process = subprocess.Popen([program, "-c", str(self.config), "-p", str(self.folder)])
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError((self.folder / "error.log").read_text())

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(10)
