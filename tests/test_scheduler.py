"""Who may start and what the others wait for: decisions without a database."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from conversions.scheduler import Limits, Power, Queued, schedule

QUEUES = st.lists(st.integers(1, 1000), unique=True, max_size=20).map(lambda ids: [Queued(id) for id in ids])


@given(QUEUES, st.integers(0, 10), st.integers(1, 10), st.sampled_from(["", "a test"]))
def test_everyone_either_starts_or_is_told_what_it_waits_for(
    queued: list[Queued], running: int, places: int, hold: str
) -> None:
    decision = schedule(queued, running, Limits(places, hold))
    assert sorted([*decision.start, *decision.waiting]) == sorted(conversion.id for conversion in queued)
    assert all(decision.waiting.values())
    assert len(decision.start) <= max(0, places - running)
    if hold:
        assert decision.start == ()
    else:  # no place stays empty while somebody waits
        assert not decision.waiting or running + len(decision.start) >= places


@given(QUEUES, st.integers(0, 10), st.integers(1, 10))
def test_those_who_came_first_go_first(queued: list[Queued], running: int, places: int) -> None:
    decision = schedule(queued, running, Limits(places))
    ids = [conversion.id for conversion in queued]
    assert list(decision.start) == ids[: len(decision.start)]


def test_the_words_are_for_people() -> None:
    two = schedule([Queued(1), Queued(2), Queued(3)], 1, Limits(2))
    assert two.start == (1,)
    assert two.waiting == {
        2: "a free place: 2 of 2 are taken; next in the queue",
        3: "a free place: 2 of 2 are taken; 1 before it in the queue",
    }
    assert schedule([Queued(1)], 1, Limits(1)).waiting == {1: "a free place: the only one is taken; next in the queue"}
    assert schedule([Queued(1)], 0, Limits(1, "a test")).waiting == {1: "a test; next in the queue"}


def test_a_busy_source_lets_others_pass_and_says_so() -> None:
    queued = [Queued(1, 7, "vCenter Berlin", 1), Queued(2, 7, "vCenter Berlin", 1), Queued(3)]
    decision = schedule(queued, 0, Limits(4))
    assert decision.start == (1, 3)
    assert decision.waiting == {2: "a place at vCenter Berlin: 1 of 1 there are taken; next in the queue"}
    assert schedule(queued[:1], 1, Limits(4), {7: 1}).start == ()


def waits(id: int, power: Power, source: int | None = None, limit: int | None = None) -> Queued:
    return Queued(id, source, "vCenter Berlin", limit, power, f"guest {id} to shut down")


POWERS = st.lists(st.sampled_from(Power), max_size=20).map(lambda all: [waits(i, p) for i, p in enumerate(all)])


@given(POWERS, st.integers(0, 10), st.integers(1, 10))
def test_a_guest_that_is_not_off_takes_no_place_and_keeps_nobody_from_one(
    queued: list[Queued], running: int, places: int
) -> None:
    decision, power = schedule(queued, running, Limits(places)), {each.id: each.power for each in queued}
    assert all(power[id] == Power.OFF for id in decision.start)
    assert all(power[id] == Power.ON for id in decision.shut_down)
    assert len(decision.start) == min(max(0, places - running), list(power.values()).count(Power.OFF))
    assert len(decision.shut_down) <= max(0, places - running)
    left = set(power) - set(decision.start) - set(decision.shut_down)
    assert set(decision.waiting) == left and all(decision.waiting.values())


def test_only_as_many_guests_are_shut_down_as_there_are_places_for() -> None:
    fifty = [waits(id, Power.ON) for id in range(50)]
    assert schedule(fifty, 0, Limits(2)).shut_down == (0, 1)
    assert schedule(fifty, 1, Limits(2)).shut_down == (0,)
    assert schedule(fifty, 2, Limits(2)).shut_down == ()
    decision = schedule([waits(0, Power.GOING), waits(1, Power.GOING), *fifty[2:]], 0, Limits(2))
    assert decision.shut_down == () and decision.waiting[0] == "guest 0 to shut down"
    assert decision.waiting[2] == "the guests before it to shut down; next in the queue"


def test_a_guest_that_takes_its_time_does_not_keep_the_next_from_being_shut_down() -> None:
    decision = schedule([waits(1, Power.SLOW), waits(2, Power.ON), waits(3, Power.ON)], 0, Limits(1))
    assert decision.shut_down == (2,) and decision.waiting[1] == "guest 1 to shut down"


def test_a_busy_source_has_no_more_guests_shut_down_than_it_may_have_running() -> None:
    queued = [waits(1, Power.GOING, 7, 1), waits(2, Power.ON, 7, 1), waits(3, Power.ON, 8, 1)]
    assert schedule(queued, 0, Limits(4)).shut_down == (3,)
    assert schedule(queued[1:], 1, Limits(4), {7: 1}).shut_down == (3,)


class Site(RuleBasedStateMachine):
    """Conversions come, start, end and are cancelled in any order, while the number of places changes."""

    def __init__(self) -> None:
        super().__init__()
        self.queued: list[int] = []
        self.running: list[int] = []
        self.places = 2
        self.next = 1
        self.started: list[int] = []

    @rule()
    def come(self) -> None:
        self.queued.append(self.next)
        self.next += 1

    @rule(places=st.integers(1, 4))
    def change_the_setting(self, places: int) -> None:
        self.places = places

    @rule()
    def tick(self) -> None:
        before = len(self.running)
        decision = schedule([Queued(id) for id in self.queued], len(self.running), Limits(self.places))
        for id in decision.start:
            self.queued.remove(id)
            self.running.append(id)
            self.started.append(id)
        assert len(self.running) <= max(self.places, before)
        assert not self.queued or len(self.running) >= self.places

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.running.remove(data.draw(st.sampled_from(self.running)))

    @precondition(lambda self: self.queued)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.queued.remove(data.draw(st.sampled_from(self.queued)))

    @invariant()
    def nothing_starts_twice_or_out_of_turn(self) -> None:
        assert self.started == sorted(set(self.started))


TestSite = Site.TestCase
TestSite.settings = settings(max_examples=50, deadline=None)
