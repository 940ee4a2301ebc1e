"""The states of a conversion and the moves between them, as data."""

from enum import StrEnum


class State(StrEnum):
    #: Waits for a place, or first for its guest to shut down, which takes no place; Conversion.waiting_for says for what.
    QUEUED = "queued"
    RUNNING = "running"  #: claimed by the conductor: an agent runs or is about to
    CANCELLING = "cancelling"  #: somebody asked to stop; the agent is ending its processes
    SUCCEEDED = "succeeded"  #: disks and YAML are there
    FAILED = "failed"  #: virt-v2v or a step before it said no; Conversion.error says what and what next
    CANCELLED = "cancelled"  #: stopped on request, nothing of it runs any more
    LOST = "lost"  #: the agent is gone and left no result (power cut, kill -9); a person decides on a retry


#: state -> the states it may move to.  Retry is the move back to QUEUED, with a new attempt number.
MOVES: dict[State, frozenset[State]] = {
    # It fails from here when its guest does not shut down or is not there any more.
    State.QUEUED: frozenset({State.RUNNING, State.FAILED, State.CANCELLED}),
    State.RUNNING: frozenset({State.CANCELLING, State.SUCCEEDED, State.FAILED, State.LOST}),
    # A cancel can come too late (the agent had already finished) or find the agent dead.
    State.CANCELLING: frozenset({State.CANCELLED, State.SUCCEEDED, State.FAILED, State.LOST}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset({State.QUEUED}),
    State.CANCELLED: frozenset({State.QUEUED}),
    State.LOST: frozenset({State.QUEUED}),
}

ACTIVE = frozenset({State.RUNNING, State.CANCELLING})
FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.LOST})
RETRYABLE = frozenset(state for state, to in MOVES.items() if State.QUEUED in to)
CANCELLABLE = frozenset({State.QUEUED, State.RUNNING})


class Phase(StrEnum):
    """What a running conversion is at, in the order in which they come."""

    CHECKING = "checking"  #: vetting the source's disks, looking for space
    OPENING = "opening"  #: virt-v2v connects to the source and starts its appliance
    INSPECTING = "inspecting"  #: which operating system, which file systems
    CONVERTING = "converting"  #: drivers, boot loader, initramfs, in an overlay
    COPYING = "copying"  #: disks to the target
    FINISHING = "finishing"  #: metadata, sizes, cleaning up


PHASE_WORDS: dict[Phase, str] = {
    Phase.CHECKING: "Checking the source's disks",
    Phase.OPENING: "Opening the source",
    Phase.INSPECTING: "Looking for the operating system",
    Phase.CONVERTING: "Preparing the guest for KubeVirt",
    Phase.COPYING: "Copying the disks",
    Phase.FINISHING: "Writing the results",
}
