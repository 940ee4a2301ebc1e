"""The rows.  Each is one class; who may write which is said there."""

from .beside import BootTest, SourceWork
from .conversion import Batch, Conversion, Event
from .lease import Lease
from .people import ApiToken, OneTimePassword
from .request import Draft, SavedTarget, Upload
from .source import InventoryGuest, SavedSource

__all__ = [
    "ApiToken",
    "Batch",
    "BootTest",
    "Conversion",
    "Draft",
    "Event",
    "InventoryGuest",
    "Lease",
    "OneTimePassword",
    "SavedSource",
    "SavedTarget",
    "SourceWork",
    "Upload",
]
