"""Where the bytes of uploads lie, by the value of Upload.storage.  A new kind is one module here and one line below."""

from importlib import import_module

from .base import Store

STORES = {
    "local": "conversions.uploading.stores.local.LocalStore",
    "s3": "conversions.uploading.stores.s3.S3Store",
}


def get_store(kind: str) -> Store:
    """The store of a kind; KeyError for an unknown one."""
    module, _, name = STORES[kind].rpartition(".")
    store: Store = getattr(import_module(module), name)()
    return store
