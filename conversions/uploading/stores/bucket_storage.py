"""django-storages' S3 with less patience: a bucket that does not answer must not hold up the web server's threads."""

from typing import Any

from botocore.config import Config
from storages.backends.s3 import S3Storage

#: botocore would try five times for a minute each.  Reading may take long: to put a large file together takes S3 minutes,
#: during which it sends blanks.
_PATIENCE = Config(connect_timeout=5, read_timeout=60, retries={"total_max_attempts": 2})


class BucketStorage(S3Storage):  # type: ignore[misc]  # django-storages has no types
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.client_config = self.client_config.merge(_PATIENCE)  # type: ignore[has-type]
