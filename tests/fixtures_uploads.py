"""What the tests of uploads share: a small tus client on Django's test client."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TUS = {"HTTP_TUS_RESUMABLE": "1.0.0"}


class Tus:
    """Speaks tus with one person's session; answers are Django's responses."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def create(self, name: str, size: int, **metadata: str) -> Any:
        pairs = {"filename": name, **metadata}
        said = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in pairs.items())
        return self.client.post(
            "/uploads/", **TUS, HTTP_UPLOAD_LENGTH=str(size), HTTP_UPLOAD_METADATA=said, content_type="text/plain"
        )

    def patch(self, url: str, offset: int, data: bytes, **headers: str) -> Any:
        headers["CONTENT_TYPE"] = "application/offset+octet-stream"  # sent even when there is no body
        return self.client.patch(
            url,
            data,
            content_type="application/offset+octet-stream",
            **(TUS | {"HTTP_UPLOAD_OFFSET": str(offset)} | headers),
        )

    def head(self, url: str) -> Any:
        return self.client.head(url, **TUS)

    def send(self, name: str, data: bytes, chunk: int = 1 << 20, **metadata: str) -> Any:
        """Sends all of it and returns the row."""
        from conversions.models import Upload

        created = self.create(name, len(data), **metadata)
        assert created.status_code == 201, created.content
        url = created["Location"]
        for at in range(0, len(data), chunk):
            response = self.patch(url, at, data[at : at + chunk])
            assert response.status_code == 204, response.content
        return Upload.objects.get(pk=url.rsplit("/", 1)[-1])


@pytest.fixture
def tus(log_in: Callable[[Any], Any]) -> Callable[[Any], Tus]:
    """tus(alice) speaks tus as alice."""
    return lambda user: Tus(log_in(user))


@pytest.fixture
def env(settings: Any, tmp_path: Path) -> Callable[..., None]:
    """env(upload_quota=100) is another environment; uploads go to a folder of the test's own, with no reserve."""

    def change(**values: Any) -> None:
        settings.ENV = settings.ENV.model_copy(update=values)

    settings.UPLOAD_DIR = tmp_path / "uploads"
    change(upload_reserve=0)
    return change
