"""Many conversions in every state, as rows alone.  Needs Django to be set up."""

import random
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import Group, User
from django.utils import timezone

from conversions.models import Conversion
from conversions.plan import Guest, Output, Plan, Source
from conversions.problems import Problem
from conversions.states import Phase, State

GiB = 1 << 30


def people() -> list[Any]:
    users = []
    for name, role in (("alice", "operator"), ("charlie", "requester")):
        user = User.objects.create_user(name)
        user.groups.add(Group.objects.get_or_create(name=role)[0])
        users.append(user)
    return users


def make_rows(count: int, owners: list[Any]) -> None:
    rng = random.Random(1)
    now = timezone.now()
    weights = {
        State.SUCCEEDED: 70,
        State.FAILED: 15,
        State.CANCELLED: 7,
        State.LOST: 1,
        State.QUEUED: 5,
        State.RUNNING: 2,
    }
    rows = []
    for number in range(count):
        state = rng.choices(list(weights), list(weights.values()))[0]
        created = now - timedelta(minutes=count - number)
        started = None if state == State.QUEUED else created + timedelta(seconds=5)
        done = rng.random()
        plan = Plan(
            name=f"web{number:05}",
            source=Source(kind="disk", settings={"paths": [f"/srv/images/web{number:05}.raw"]}),
            guest=Guest(name=f"web{number:05}"),
            output=Output(kind="files", settings={"format": "raw", "allocation": "sparse"}),
        )
        rows.append(
            Conversion(
                name=plan.name,
                owner=rng.choice(owners),
                plan_json=plan.model_dump(mode="json"),
                state=state,
                phase="" if state == State.QUEUED else Phase.COPYING,
                waiting_for="3 of 3 places for conversions are in use" if state == State.QUEUED else "",
                progress={
                    "bytes_done": int(done * 20 * GiB),
                    "bytes_total": 20 * GiB,
                    "rate": 2e8,
                    "eta": [60, 120],
                    "disks": [],
                }
                if state == State.RUNNING
                else {},
                error=Problem("disk-unreadable", "The disk cannot be read", "It ended too early.").as_dict()
                if state == State.FAILED
                else None,
                created=created,
                started=started,
                ended=created + timedelta(minutes=8) if state not in (State.QUEUED, State.RUNNING) else None,
            )
        )
    Conversion.objects.bulk_create(rows, batch_size=500)
