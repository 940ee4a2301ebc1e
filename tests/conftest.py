"""What tests share: a data folder of their own, people, the lab's guest, the real thing as processes, Chromium.

A test file of one subject that needs more fixtures puts them into tests/fixtures_<subject>.py; those are found here.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Before Django's settings are read: whatever the developer's shell says, tests stay out of the project's data folder.
# A short path: unix sockets of virt-v2v's helpers lie below it, and theirs are limited to 107 bytes.
for _name in [n for n in os.environ if n.startswith("V2VWEB_")] + ["DATABASE_URL", "REDIS_URL"]:
    if _name not in ("V2VWEB_LAB_CACHE", "V2VWEB_KEEP", "V2VWEB_TEST_DATABASE_URL", "V2VWEB_KUBEVIRT_SCHEMAS"):
        os.environ.pop(_name, None)
if _database := os.environ.get("V2VWEB_TEST_DATABASE_URL"):  # the same tests on PostgreSQL: tests/test_databases.py
    os.environ["DATABASE_URL"] = _database
DATA = Path(tempfile.mkdtemp(prefix="v2vweb-test-"))
os.environ |= {
    "V2VWEB_DATA_DIR": str(DATA),
    "DJANGO_SETTINGS_MODULE": "v2vweb.settings",
    "LIBGUESTFS_BACKEND": "direct",
    "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg",  # a KVM device may exist and hang
}
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import django  # noqa: E402

from tests.running import CACHE, LAB, PASSWORD, Site  # noqa: E402

django.setup()

pytest_plugins = [f"tests.{path.stem}" for path in sorted(Path(__file__).parent.glob("fixtures_*.py"))]


# First: pytest-xdist, when it is used, reads the groups in the same hook.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick ones first; the browser's last, because Playwright's loop stays in the thread.

    With several workers (make test) the quick tests go to whoever is free; the others stay together by file, since they
    share a site, a rig or a browser.
    """

    def weight(item: pytest.Item) -> int:
        return 2 * bool(item.get_closest_marker("browser")) or int(bool(item.get_closest_marker("real")))

    items.sort(key=weight)
    for item in items:
        if weight(item):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_unconfigure() -> None:
    if not os.environ.get("V2VWEB_KEEP"):
        shutil.rmtree(DATA, ignore_errors=True)


@pytest.fixture(autouse=True, scope="session")
def _quick_settings() -> Iterator[None]:
    """In this process passwords are hashed quickly, and pages do not need collected static files."""
    from django.conf import settings
    from django.test import override_settings

    storages = settings.STORAGES | {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"], STORAGES=storages):
        yield


# --- people -------------------------------------------------------------------------------------------------------


def _person(name: str, role: str | None) -> Any:
    from django.contrib.auth.models import Group, User

    user = User.objects.create_user(name, password=PASSWORD)
    if role:
        user.groups.add(Group.objects.get_or_create(name=role)[0])
    return user


@pytest.fixture
def alice(db: None) -> Any:
    """An operator."""
    return _person("alice", "operator")


@pytest.fixture
def bob(db: None) -> Any:
    """A viewer."""
    return _person("bob", "viewer")


@pytest.fixture
def charlie(db: None) -> Any:
    """A requester: the help desk."""
    return _person("charlie", "requester")


@pytest.fixture
def stranger(db: None) -> Any:
    """Somebody with an account and without a role."""
    return _person("stranger", None)


@pytest.fixture
def root_admin(db: None) -> Any:
    """The first administrator."""
    from django.contrib.auth.models import User

    return User.objects.create_superuser("admin", password=PASSWORD)


@pytest.fixture
def log_in() -> Callable[[Any], Any]:
    """log_in(alice) is a Django test client with alice's session."""
    from django.test import Client

    def client_of(user: Any) -> Any:
        client = Client()
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return client

    return client_of


# --- the lab's guest ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def cached(path: Path) -> Iterator[Path]:
    """The path of a cached file, under a lock of its own: of several test runs at once one makes it, the others wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path


@pytest.fixture(scope="session")
def guest_image() -> Path:
    """A raw disk image with a small real Debian that boots.  Never write to it: copy it, or lay an overlay on it.

    Made once (about three minutes) and kept outside the project in $V2VWEB_LAB_CACHE.
    """
    with cached(CACHE / "guest.img") as image:
        if not image.exists():
            if os.geteuid() != 0:
                pytest.skip(f"only root can make the lab's guest, and there is none in {CACHE}")
            with (CACHE / "guest.log").open("w") as log:
                done = subprocess.run(
                    [LAB / "make-guest.sh", image, "web01", "1G"],
                    env=os.environ | {"GUEST_CACHE": str(CACHE / "guest-root")},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    timeout=1500,
                )
            assert done.returncode == 0, f"make-guest.sh failed: see {log.name}"
        return image


@pytest.fixture(scope="session")
def guest_ova(guest_image: Path) -> Path:
    """The same guest as an OVA, as VMware's tools write it: streamOptimized disk, OVF, SHA-256 manifest."""
    from tests.lab.ova import make_ova

    with cached(CACHE / "guest.ova") as ova:
        if not ova.exists() or ova.stat().st_mtime < guest_image.stat().st_mtime:
            make_ova(guest_image, ova, name="web01")
        return ova


# --- the real thing -----------------------------------------------------------------------------------------------


@pytest.fixture
def make_site() -> Iterator[Callable[..., Site]]:
    """make_site(V2VWEB_MAX_RUNNING="1") is a Site that runs; all end with the test."""
    with contextlib.ExitStack() as stack:

        def make(**environment: str) -> Site:
            site = Site(**environment)
            stack.callback(site.close)
            site.start()
            return site

        yield make


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """One running v2vweb for all tests of a file, with alice, bob, charlie and the stranger in it."""
    site = Site()
    try:
        site.start()
        site.add_people()
        yield site
    finally:
        site.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Debian's Chromium.  Of a module and not of the session: while it is there, Django thinks it is in an event loop."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium")
    if not program:
        pytest.skip("Debian's package chromium is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=program,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        yield browser
        browser.close()
