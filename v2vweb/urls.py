"""Everything is the conversions app's; Django's admin is for administrators."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("conversions.urls")),
]
