"""Where uploads go, for Django's STORAGES: the folder, or a bucket with the key from a file."""

import configparser
from pathlib import Path
from typing import Any

from .environment import Environment, WrongSettingError

_EXAMPLE = "[default], aws_access_key_id = ... and aws_secret_access_key = ... on a line each"


def storage_of_uploads(env: Environment, folder: Path) -> dict[str, Any]:
    """Raises WrongSettingError when the key's file cannot be used; what stands in it is never repeated."""
    if not env.s3_bucket:
        return {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": folder}}
    access, secret, token = read_key(env.s3_key_file) if env.s3_key_file else (None, None, None)
    options: dict[str, Any] = {
        "bucket_name": env.s3_bucket,
        "endpoint_url": env.s3_endpoint or None,
        "region_name": env.s3_region,
        "access_key": access,
        "secret_key": secret,
        "security_token": token,
        # Servers other than Amazon's often have no name for each bucket.
        "addressing_style": "path" if env.s3_endpoint else "virtual",
        "signature_version": "s3v4",
        "default_acl": None,
    }
    return {"BACKEND": "conversions.uploading.stores.bucket_storage.BucketStorage", "OPTIONS": options}


def read_key(path: Path) -> tuple[str, str, str | None]:
    """Access key, secret key and session token from the first section of a file like ~/.aws/credentials."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text())
        section = parser[(parser.sections() or ["default"])[0]]
        return section["aws_access_key_id"], section["aws_secret_access_key"], section.get("aws_session_token")
    except OSError as error:
        raise WrongSettingError(f'V2VWEB_S3_KEY_FILE is "{path}", which cannot be read ({error.strerror}).') from None
    except (configparser.Error, KeyError, UnicodeDecodeError):
        raise WrongSettingError(f'V2VWEB_S3_KEY_FILE is "{path}": it must have {_EXAMPLE}.') from None
