"""The web sockets."""

from typing import Any

from django.urls import path

from .consumers import BoardSocket, LogSocket

websocket_urlpatterns: list[Any] = [
    path("ws/board", BoardSocket.as_asgi()),
    path("ws/conversions/<int:pk>/log", LogSocket.as_asgi()),
]
