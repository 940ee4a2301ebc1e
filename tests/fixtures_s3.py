"""moto's server as the S3 of tests: a bucket of the test's own, and uploads that go there."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from v2vweb.s3 import storage_of_uploads

KEY = "[default]\naws_access_key_id = test\naws_secret_access_key = a-key-that-nobody-may-see\n"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server; it forgets everything at the end."""
    moto_server = pytest.importorskip("moto.server")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def make_bucket(s3_server: str, tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """make_bucket("uploads") makes one and returns the environment for a v2vweb that uses it."""
    import boto3

    def make(name: str) -> dict[str, str]:
        key = tmp_path / "s3.key"
        key.write_text(KEY)
        key.chmod(0o600)
        boto3.client(
            "s3",
            endpoint_url=s3_server,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        ).create_bucket(Bucket=name)
        return {"V2VWEB_S3_BUCKET": name, "V2VWEB_S3_ENDPOINT": s3_server, "V2VWEB_S3_KEY_FILE": str(key)}

    return make


@pytest.fixture
def s3(make_bucket: Any, env: Any, settings: Any) -> Iterator[Any]:
    """Uploads of this test go to a bucket; the store."""
    from conversions.uploading.stores.s3 import S3Store

    made = make_bucket("uploads")
    env(
        upload_chunk=5 << 20,
        s3_bucket=made["V2VWEB_S3_BUCKET"],
        s3_endpoint=made["V2VWEB_S3_ENDPOINT"],
        s3_key_file=Path(made["V2VWEB_S3_KEY_FILE"]),
    )
    default = storage_of_uploads(settings.ENV, settings.UPLOAD_DIR)
    with override_settings(STORAGES=settings.STORAGES | {"default": default}):
        store = S3Store()
        yield store
        for item in store.client.list_objects_v2(Bucket="uploads").get("Contents", []):
            store.client.delete_object(Bucket="uploads", Key=item["Key"])
