"""`manage.py convert --name web01 --kind disk /srv/web01.img`: a conversion from the terminal, by the API's own code."""

import contextlib
import getpass
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from conversions.host.installation import live_lease
from conversions.models import Conversion
from conversions.outputs import OUTPUTS
from conversions.plan import Plan
from conversions.planning import create_conversion, make_plan
from conversions.problems import RefusedError, size_words
from conversions.sources import SOURCES, get_source
from conversions.states import State
from conversions.terminal import Follower

#: Exit codes.  2 is also argparse's own for wrong arguments.
REFUSED, LEFT = 2, 130
EXIT_CODES = {State.SUCCEEDED: 0, State.FAILED: 1, State.CANCELLED: 3, State.LOST: 4}


class Command(BaseCommand):
    help = (
        "Converts a guest and follows the log. Ends with 0 when it succeeded, 1 failed, 2 refused, 3 cancelled, 4 lost, "
        "130 left running after Ctrl-C."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("paths", nargs="+", metavar="PATH", help="the guest's disk images, or its OVA")
        parser.add_argument("--name", required=True, help="name of the new guest")
        parser.add_argument("--kind", default="disk", choices=list(SOURCES), help="what PATH is (default: disk)")
        parser.add_argument("--source-format", default="", help="format of the disk images (default: looked for)")
        parser.add_argument("--output", default="files", choices=list(OUTPUTS), help="where the result goes")
        parser.add_argument("--format", help="format of the new disks: raw (default) or qcow2")
        parser.add_argument("--allocation", help="sparse (default) or preallocated")
        parser.add_argument("--root", default="first", help="first, single or a device such as /dev/sda2")
        parser.add_argument(
            "--luks-key-file",
            action="append",
            default=[],
            metavar="FILE",
            help="file with the passphrase of encrypted disks; - asks for it; may be given several times",
        )
        parser.add_argument("--clevis", action="store_true", help="have Clevis open encrypted disks, by a Tang server")
        parser.add_argument(
            "--clevis-device",
            action="append",
            default=[],
            metavar="DEVICE",
            help="open this one with Clevis, such as /dev/sda2 or a UUID; may be given several times (default: all)",
        )
        parser.add_argument(
            "--mac",
            action="append",
            default=[],
            metavar="MAC:ip:ADDRESS[,GATEWAY[,PREFIX[,DNS...]]]",
            help="address of a network card of a Windows guest, as virt-v2v's --mac has it; may be given several times",
        )
        parser.add_argument("--user", default="admin", help="who is to own the conversion (default: admin)")
        parser.add_argument("--detach", action="store_true", help="print the conversion's number and leave")

    def handle(self, *args: Any, **options: Any) -> None:
        if live_lease() is None:
            raise CommandError(
                "No conductor is running, so nothing would start. Start it with “make run” or “manage.py conduct”.",
                returncode=REFUSED,
            )
        user, plan, secrets = self.planned(options)
        with Interrupts() as interrupts:
            try:
                conversion = create_conversion(plan, secrets, user)
            except RefusedError as error:
                raise refusal(error) from None
            if options["detach"]:
                self.stdout.write(str(conversion.pk))
                return
            self.say(f"Conversion {conversion.pk}, “{conversion.name}”.")
            code = self.follow(conversion, interrupts)
        if code:
            sys.exit(code)

    def planned(self, options: dict[str, Any]) -> tuple[Any, Plan, dict[str, str]]:
        users = get_user_model()._default_manager
        user = users.filter(**{users.model.USERNAME_FIELD: options["user"]}, is_active=True).first()
        if user is None:
            raise CommandError(f"There is no user “{options['user']}” who may log in.", returncode=REFUSED)
        try:
            return user, *make_plan(**request(options), user=user)
        except RefusedError as error:
            raise refusal(error) from None
        except KeyboardInterrupt:
            raise CommandError("Nothing was started.", returncode=LEFT) from None

    def follow(self, conversion: Conversion, interrupts: "Interrupts") -> int:
        follower = Follower(conversion, self.say)
        for text in follower.output():
            self.stdout.write(text, ending="")
            self.stdout.flush()
            if interrupts.taken() and not self.go_on(follower.conversion, interrupts):
                return LEFT
        return self.tell_end(follower.conversion)

    def go_on(self, conversion: Conversion, interrupts: "Interrupts") -> bool:
        """Asks what Ctrl-C was to mean; whether to go on following."""
        answer = interrupts.ask("\nCancel the conversion (c), leave it running (l), or go on watching (Enter)? ")
        if answer.startswith("c"):
            conversion.refresh_from_db(fields=["state", "attempt"])
            if conversion.request_cancel(conversion.owner.get_username()):
                self.say("Cancelling: waiting until nothing of it runs any more.")
        elif answer.startswith("l"):
            self.say(f"Conversion {conversion.pk} goes on without this terminal.")
            return False
        return True

    def tell_end(self, conversion: Conversion) -> int:
        state = State(conversion.state)
        if state == State.SUCCEEDED:
            self.stdout.write(f"\nSucceeded. The results are in {conversion.output_dir}:")
            for file in conversion.artifacts:
                self.stdout.write(f"  {file['name']}  {size_words(file['size'])}")
        elif conversion.error:
            error = conversion.error
            self.say(f"\n{error['title']}\n{error['text']}\n{error.get('action') or ''}".rstrip())
        else:
            self.say(f"\nThe conversion is {state}.")
        return EXIT_CODES[state]

    def say(self, text: str) -> None:
        """Beside the log, so that `> file` has the log alone."""
        self.stderr.write(text)
        self.stderr.flush()


class Interrupts:
    """Ctrl-C as something to ask about later: as an exception it could come in the middle of a database write."""

    def __init__(self) -> None:
        self._pressed = threading.Event()

    def __enter__(self) -> "Interrupts":
        self._before = signal.signal(signal.SIGINT, lambda *_: self._pressed.set())
        return self

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def taken(self) -> bool:
        pressed = self._pressed.is_set()
        self._pressed.clear()
        return pressed

    def ask(self, question: str) -> str:
        """The answer in lower case; "l" when there is nobody to answer, and for another Ctrl-C."""
        if not sys.stdin.isatty():
            return "l"
        with self._raising():
            try:
                return input(question).strip().lower()
            except (EOFError, KeyboardInterrupt):
                return "l"

    @contextlib.contextmanager
    def _raising(self) -> Iterator[None]:
        ours = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, ours)


def refusal(error: RefusedError) -> CommandError:
    problem = error.problem
    return CommandError(f"{problem.title}: {problem.text} {problem.action}".strip(), returncode=REFUSED)


def request(options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of make_plan(), as the API gets them."""
    # A path is relative to where the person is, not to where v2vweb runs.
    paths = [str(Path(path).absolute()) for path in options["paths"]]
    source: dict[str, Any] = {"kind": options["kind"]}
    if "paths" in get_source(options["kind"]).form_class.base_fields:
        source["paths"] = paths
    elif len(paths) == 1:
        source["path"] = paths[0]
    else:
        raise CommandError(f"For --kind {options['kind']} there is one PATH, not {len(paths)}.", returncode=REFUSED)
    if options["source_format"]:
        source["format"] = options["source_format"]
    output = {"kind": options["output"]}
    output |= {key: options[key] for key in ("format", "allocation") if options[key] is not None}
    keys = [passphrase(file) for file in options["luks_key_file"]]
    return {
        "name": options["name"],
        "source": source,
        "options": {"root": options["root"], "luks_keys": keys} | _clevis(options) | _addresses(options),
        "output": output,
    }


def _clevis(options: dict[str, Any]) -> dict[str, Any]:
    devices = options["clevis_device"]
    return {"clevis": True, "clevis_devices": devices} if options["clevis"] or devices else {}


def _addresses(options: dict[str, Any]) -> dict[str, Any]:
    return {"addresses": [address(text) for text in options["mac"]]} if options["mac"] else {}


def address(text: str) -> dict[str, Any]:
    """The API's object of MAC:ip:ADDRESS[,GATEWAY[,PREFIX[,DNS...]]]; what stands in it is judged there."""
    mac, what, rest = text[:17], text[17:21].lower(), text[21:]
    if what != ":ip:" or not rest:
        raise CommandError(
            f"--mac {text} is not understood. Write it as 00:50:56:12:34:56:ip:10.0.0.5,10.0.0.1,24,10.0.0.2",
            returncode=REFUSED,
        )
    ip, gateway, prefix, *dns = [part.strip() for part in [*rest.split(","), "", ""]]
    found: dict[str, Any] = {
        "mac": mac,
        "address": ip,
        "gateway": gateway or None,
        "dns": [part for part in dns if part],
    }
    return found | ({"prefix": prefix} if prefix else {})


def passphrase(file: str) -> str:
    """Never an argument: everybody on the machine can read those."""
    if file == "-":
        return getpass.getpass("Passphrase: ")
    try:
        return Path(file).read_text().removesuffix("\n")
    except (OSError, ValueError) as error:
        raise CommandError(f"The passphrase's file {file} cannot be read: {error}", returncode=REFUSED) from None
