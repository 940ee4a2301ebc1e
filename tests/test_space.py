import pytest

from conversions.host import space
from conversions.models import Conversion
from conversions.plan import Disk, Guest, Output, Plan, Source
from conversions.problems import RefusedError, size_words
from conversions.states import State

GIB = 1 << 30


def plan(*disks: Disk, **output: str) -> Plan:
    return Plan(
        name="web01",
        source=Source(kind="disk", settings={"paths": ["/x"], "format": "raw"}),
        guest=Guest(disks=disks),
        output=Output(settings=output),
    )


BIG = Disk(name="a", size=40 * GIB, allocated=5 * GIB)


def test_sparse_disks_need_what_the_source_uses_and_preallocated_ones_all():
    assert space.needed(plan(BIG, allocation="sparse")).disks == 5 * GIB
    assert space.needed(plan(BIG, allocation="preallocated")).disks == 40 * GIB
    assert space.needed(plan(Disk(name="b", size=3 * GIB))).disks == 3 * GIB, "unknown use: the whole disk"
    assert space.needed(plan(Disk(name="b", size=3 * GIB, allocated=9 * GIB))).disks == 3 * GIB


def test_each_disk_needs_room_for_what_virt_v2v_changes_and_packed_ovas_for_unpacking():
    assert space.needed(plan(BIG, BIG)).overlay == 2 * space.OVERLAY
    ova = plan(BIG).model_copy(update={"source": Source(kind="ova", settings={"path": "/x", "scratch": 7 * GIB})})
    assert space.needed(ova).scratch == 7 * GIB


@pytest.mark.django_db
def test_what_others_will_still_take_is_not_free(alice, settings, tmp_path, monkeypatch):
    settings.DATA_DIR = tmp_path
    each = space.needed(plan(BIG)).total
    running, waiting, ended = (
        Conversion.objects.create(name="web01", owner=alice, plan_json=plan(BIG).model_dump(mode="json"), state=state)
        for state in (State.RUNNING, State.QUEUED, State.FAILED)
    )
    assert ended
    assert space.reserved() == 2 * each
    running.output_dir.mkdir(parents=True)
    (running.output_dir / "web01-sda").write_bytes(b"x" * (1 << 20))
    assert space.reserved() == 2 * each - (1 << 20)
    monkeypatch.setattr(space, "free", lambda folder=None: 3 * each + space.RESERVE)
    space.check(plan(BIG))
    monkeypatch.setattr(space, "free", lambda folder=None: 3 * each + space.RESERVE - (2 << 20))
    with pytest.raises(RefusedError) as refused:
        space.check(plan(BIG))
    problem = refused.value.problem
    assert (problem.code, problem.whose, refused.value.status) == ("no-space", "administrator", 409)
    assert size_words(2 * each) in problem.text
    waiting.delete()
    space.check(plan(BIG))


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (10 << 30, "10 GiB"), (1 << 60, "1.0 EiB")],
)
def test_sizes_are_said_in_words(size, words):
    assert size_words(size) == words
