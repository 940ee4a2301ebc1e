"""What a person reads when a conversion could not be started, or ended without its agent's saying how."""

from .credentials import WrongKeyError
from .problems import Problem, RefusedError


def cannot_start(error: Exception) -> Problem:
    """Why no agent could be started at all."""
    if isinstance(error, RefusedError):
        return error.problem
    if isinstance(error, WrongKeyError):
        return Problem(
            "wrong-key",
            "The stored passwords cannot be read",
            "The key that protects stored passwords is not the one they were saved with.",
            "Ask your administrator to put back the key file (secrets.key in the data folder), then press Retry.",
            "administrator",
        )
    if isinstance(error, OSError):
        return Problem(
            "cannot-start",
            "The conversion could not be started",
            f"The operating system refused: {error.strerror or error}.",
            "Ask your administrator to look at the data folder (free space, permissions), then press Retry.",
            "administrator",
        )
    return Problem(
        "cannot-start",
        "The conversion could not be started",
        f"v2vweb itself made a mistake: {type(error).__name__}: {error}",
        "Press Retry. If it comes again, give this text to your administrator.",
        "v2vweb",
    )


def agent_will_not_start(words: str, times: int) -> Problem:
    last = words.strip().rpartition("\n")[2]
    return Problem(
        "agent-does-not-start",
        "The conversion could not be started",
        f"The program that runs a conversion ended at once, {times} times. Its last words: “{last[:300]}”",
        "Ask your administrator to check v2vweb's installation (make run mends it), then press Retry.",
        "administrator",
    )


def agent_is_gone() -> Problem:
    return Problem(
        "interrupted",
        "The conversion was interrupted",
        "The program that ran it is gone and left no result: the server was switched off or started again, or the program "
        "was killed. What it had left running or half-written was removed.",
        "Press Retry to start again from the beginning. The source was not changed.",
        "you",
    )


def stopped_from_outside() -> Problem:
    return Problem(
        "stopped-from-outside",
        "The conversion was stopped from outside v2vweb",
        "Somebody, or the server while shutting down, told the program that ran it to end. It has cleaned up behind itself.",
        "Press Retry to start again from the beginning. The source was not changed.",
        "you",
    )
