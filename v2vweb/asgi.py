"""HTTP goes to Django; a web socket must come from our own pages, from somebody who is logged in."""

import os

from .handler import get_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "v2vweb.settings")
http = get_application()  # before the consumers are imported: it loads the apps

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from channels.sessions import CookieMiddleware  # noqa: E402

from conversions.routing import websocket_urlpatterns  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": http,
        # The consumers read session, person and permission themselves, in one trip to the database; and Channels' session
        # middleware would be in the way of each frame that they send.
        "websocket": AllowedHostsOriginValidator(CookieMiddleware(URLRouter(websocket_urlpatterns))),
    }
)
