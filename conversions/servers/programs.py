"""Programs of this server that are asked about a source: one that is missing, or never ends, is a sentence and no crash."""

import subprocess

from ..problems import Problem, RefusedError


def run(
    argv: list[str], *, timeout: float, slow: RefusedError, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs it to its end, whatever that is; raises `slow` when it takes too long, or RefusedError when it cannot run."""
    try:
        return subprocess.run(
            argv,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise slow from None
    except OSError as error:
        raise cannot_run(argv[0], error) from None


def cannot_run(program: str, error: OSError) -> RefusedError:
    name = program.rpartition("/")[2]
    return RefusedError(
        Problem(
            "program-missing",
            f"{name} cannot be run on v2vweb's server",
            f"v2vweb needs the program {name} for this and could not start it: {error.strerror or error}.",
            "Look at the System page: it names what is missing on this server and the command that mends it. "
            "Then try again.",
            "administrator",
        )
    )
