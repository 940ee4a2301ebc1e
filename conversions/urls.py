"""Every page's address, by group."""

from django.contrib.auth import views as auth
from django.urls import path

from .views import api

urlpatterns = [
    path("api/", api.urls),
    path("api/<path:rest>", api.not_found, name="api-not-found"),
    path("login/", auth.LoginView.as_view(), name="login"),
    path("logout/", auth.LogoutView.as_view(), name="logout"),
]
