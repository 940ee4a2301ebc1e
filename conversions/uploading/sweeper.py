"""Removes uploads that nobody went on with or uses any more, and bytes that belong to nobody."""

import contextlib
import logging
import re
import shutil
import time
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db.models import Max
from django.utils import timezone

from ..agent.processes import unmount_below
from ..models import Conversion, Upload
from ..problems import RefusedError
from ..states import ACTIVE, State
from . import uploads
from .stores import get_store
from .stores.base import Place, UnreachableError

logger = logging.getLogger(__name__)

VIEW_SECONDS = 24 * 3600
ORPHAN_SECONDS = 3600  #: a folder is there before its row is seen
_FOLDER = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}")


def sweep() -> int:
    """Removes what is over; returns how many uploads that were."""
    removed = 0
    for upload in Upload.objects.filter(expires__lt=timezone.now()):
        later = _later(upload)
        if later:
            Upload.objects.filter(pk=upload.pk).update(expires=later)
            continue
        # Somebody may have gone on with it this very moment.
        if Upload.objects.filter(pk=upload.pk, expires__lt=timezone.now()).exists():
            with contextlib.suppress(RefusedError):
                uploads.remove(upload)
                removed += 1
                logger.info("upload %s of %s removed: it had expired", upload.pk, upload.owner_id)
    _remove_orphans()
    _remove_bodies()
    _remove_views()
    _remove_shown()
    return removed


def _later(upload: Upload) -> datetime | None:
    """When to look again: a file that is converted, or was of late, is kept."""
    if upload.state != Upload.State.READY:
        return None
    now, keep = timezone.now(), timedelta(days=settings.ENV.upload_keep_days)
    if upload.conversions.filter(state__in=[*ACTIVE, State.QUEUED]).exists():
        return now + keep
    last = upload.conversions.aggregate(last=Max("ended"))["last"]
    return last + keep if last and last + keep > now else None


def _remove_orphans() -> None:
    """Folders without a row: their person was removed, or the database was put back to an earlier day."""
    root: Path = settings.UPLOAD_DIR
    if not root.is_dir():
        return
    folders = [entry for entry in root.iterdir() if _FOLDER.fullmatch(entry.name) and not entry.is_symlink()]
    names = {str(pk) for pk in Upload.objects.values_list("pk", flat=True)}
    names |= {str(bundle) for bundle in Upload.objects.exclude(bundle=None).values_list("bundle", flat=True)}
    for folder in folders:
        with contextlib.suppress(OSError, UnreachableError):
            if folder.name not in names and time.time() - folder.stat().st_mtime > ORPHAN_SECONDS:
                _remove_objects(folder)
                shutil.rmtree(folder)
                logger.info("%s removed: it belongs to no upload", folder)


def _remove_objects(folder: Path) -> None:
    """What stands in a bucket under this folder's name; only a folder of ours tells, so nothing of others is touched."""
    for parts in folder.glob("*.parts"):
        get_store("s3").remove(Place(folder.name, parts.name.removesuffix(".parts"), 0))


def _remove_shown() -> None:
    """Files of a bucket that were shown for a look, by a process that was killed meanwhile."""
    folder: Path = settings.DATA_DIR / "shown"
    for entry in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(OSError):
            if time.time() - entry.lstat().st_mtime > ORPHAN_SECONDS:
                unmount_below(entry)
                shutil.rmtree(entry)


def _remove_bodies() -> None:
    """What nginx has left in its folder when it was killed."""
    folder: Path | None = settings.ENV.upload_body_dir
    if folder is None or not folder.is_dir():
        return
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if re.fullmatch(r"\d{10}", path.name) and time.time() - path.lstat().st_mtime > ORPHAN_SECONDS:
                path.unlink()


def _remove_views() -> None:
    """Views on odd OVAs (ova_view.py) that no conversion has needed for long; the next one makes its own anew."""
    folder: Path = settings.DATA_DIR / "views"
    if not folder.is_dir() or Conversion.objects.filter(state__in=[*ACTIVE, State.QUEUED]).exists():
        return
    for view in folder.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - view.lstat().st_mtime > VIEW_SECONDS:
                shutil.rmtree(view)
