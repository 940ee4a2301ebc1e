"""Django's settings, from the environment (environment.py) and nothing else."""

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

import dj_database_url
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from .environment import PROJECT, WrongSettingError, read_environment
from .s3 import storage_of_uploads

try:
    ENV = read_environment()
except WrongSettingError as error:
    raise ImproperlyConfigured(str(error)) from None

BASE_DIR = PROJECT
DATA_DIR = ENV.data_dir
try:
    DATA_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
except OSError as error:
    raise ImproperlyConfigured(
        f'V2VWEB_DATA_DIR is "{DATA_DIR}": the folder cannot be made ({error.strerror}).'
    ) from None
SOURCE_ROOTS = ENV.source_roots
UPLOAD_DIR = ENV.upload_dir or DATA_DIR / "uploads"
SECRETS_KEY_FILE = DATA_DIR / "secrets.key"
DATA_UPLOAD_MAX_NUMBER_FIELDS = 20_000  # 500 guests of a batch have a name and the addresses of several cards each


def _secret_key(path: Path) -> str:
    """Django's signing key, made at the first start and kept beside the data."""
    try:
        if not path.exists():
            # link() and not rename(): of two processes that start at once, the first one's key stays, seen whole.
            fd, name = tempfile.mkstemp(dir=path.parent, prefix=".django.")
            with os.fdopen(fd, "w") as file:
                file.write(secrets.token_urlsafe(50))
            with contextlib.suppress(FileExistsError):
                os.link(name, path)
            Path(name).unlink()
        return path.read_text()
    except OSError as error:
        raise ImproperlyConfigured(
            f'V2VWEB_DATA_DIR is "{DATA_DIR}": {path.name} in it cannot be made or read ({error.strerror}).'
        ) from None


SECRET_KEY = _secret_key(DATA_DIR / "django.key")
DEBUG = ENV.debug
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", *ENV.allowed_hosts]
if ENV.bind not in ("0.0.0.0", "::"):
    ALLOWED_HOSTS.append(f"[{ENV.bind}]" if ":" in ENV.bind else ENV.bind)
CSRF_TRUSTED_ORIGINS = [f"https://{host}" for host in ENV.allowed_hosts] if ENV.https else []
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if ENV.https else None
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = ENV.https
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

# Without "daphne": as an app it only changes runserver, and costs every command 0.3 s (v2vweb/web.py runs it).
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "axes",
    "channels",
    "csp",
    "django_htmx",
    "ninja",
    "rules",
    "storages",
    "conversions",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "conversions.people.LoginMiddleware",
    "conversions.people.FirstLoginMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "v2vweb.urls"
ASGI_APPLICATION = "v2vweb.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [PROJECT / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

FORM_RENDERER = "conversions.patternfly.PatternFly"

if ENV.database_url:
    # No persistent connections: each thread of the web server would hold on to one, and PostgreSQL has few to give.
    DATABASES = {"default": dj_database_url.parse(ENV.database_url, conn_max_age=0)}
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(DATA_DIR / "v2vweb.sqlite3"),
            "CONN_MAX_AGE": None,  # v2vweb/handler.py keeps its threads: opening costs more than a page asks
            # A file and not memory: there threads share one cache and lock whole tables, which no installation does.
            "TEST": {"NAME": str(DATA_DIR / "test.sqlite3")},
            "OPTIONS": {
                # IMMEDIATE: a transaction that reads and then writes waits for its turn instead of failing at once.
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;",
            },
        }
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [ENV.redis_url]},
    }
    if ENV.redis_url
    else {"BACKEND": "channels.layers.InMemoryChannelLayer"}
}

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "rules.permissions.ObjectPermissionBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "board"
LOGOUT_REDIRECT_URL = "login"
# By name and address: behind a proxy or NAT the default (address alone) locks everybody out.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = 0.25  # hours
AXES_RESET_ON_SUCCESS = True  # a typo a day must not add up
AXES_LOCKOUT_TEMPLATE = "registration/locked.html"

LANGUAGE_CODE = "en-gb"
TIME_ZONE = ENV.time_zone
USE_TZ = True
USE_I18N = False

STATIC_URL = "/static/"
STATIC_ROOT = PROJECT / "static_collected"
STATICFILES_DIRS = [PROJECT / "static", ("vendor", PROJECT / "static_vendor")]
try:
    _uploads_storage = storage_of_uploads(ENV, UPLOAD_DIR)
except WrongSettingError as error:
    raise ImproperlyConfigured(str(error)) from None
STORAGES = {
    # "default" is where uploads go.
    "default": _uploads_storage,
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "font-src": [SELF],
        "img-src": [SELF, "data:"],  # data: for the favicon that shows progress
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {
        "daphne": {"level": "WARNING"},
        "django.channels.server": {"level": "WARNING"},
        "axes": {"level": "WARNING"},
    },
}
