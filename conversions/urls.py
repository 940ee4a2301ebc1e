"""Every page's address, by group."""

from django.contrib.auth import views as auth
from django.urls import path

from .views import api, board, conversion, people, picker, sources, system, uploads, wizard

urlpatterns = [
    path("", board.board, name="board"),
    path("conversions/<int:pk>/", conversion.page, name="conversion"),
    path("conversions/<int:pk>/cancel/", conversion.cancel, name="conversion-cancel"),
    path("conversions/<int:pk>/retry/", conversion.retry, name="conversion-retry"),
    path("conversions/<int:pk>/log/", conversion.log, name="conversion-log"),
    path("conversions/<int:pk>/files/<path:name>", conversion.file, name="conversion-file"),
    path("conversions/<int:pk>/evidence/", conversion.evidence, name="conversion-evidence"),
    path("api/", api.urls),
    path("api/<path:rest>", api.not_found, name="api-not-found"),
    path("new/", wizard.new, name="wizard-new"),
    path("new/<uuid:draft_id>/files/", picker.files, name="wizard-files"),
    path("new/<uuid:draft_id>/discard/", wizard.discard, name="wizard-discard"),
    path("new/<uuid:draft_id>/<str:step>/", wizard.step, name="wizard-step"),
    path("uploads/", uploads.collection, name="uploads"),
    path("uploads/opinion/", uploads.opinion, name="upload-opinion"),
    path("uploads/<uuid:pk>", uploads.file, name="upload-file"),
    path("uploads/<uuid:pk>/", uploads.page, name="upload"),
    path("uploads/<uuid:pk>/convert/", uploads.convert, name="upload-convert"),
    path("uploads/<uuid:pk>/checksum/", uploads.expect, name="upload-checksum"),
    path("uploads/<uuid:pk>/remove/", uploads.remove, name="upload-remove"),
    path("sources/", sources.collection, name="sources"),
    path("sources/add/<str:kind>/", sources.add, name="source-add"),
    path("sources/<int:pk>/", sources.page, name="source"),
    path("sources/<int:pk>/edit/", sources.edit, name="source-edit"),
    path("sources/<int:pk>/trust/", sources.trust_page, name="source-trust"),
    path("sources/<int:pk>/test/", sources.test, name="source-test"),
    path("sources/<int:pk>/refresh/", sources.refresh, name="source-refresh"),
    path("sources/<int:pk>/delete/", sources.delete, name="source-delete"),
    path("system/", system.page, name="system"),
    path("people/", people.people_list, name="people"),
    path("people/add/", people.person_add, name="person-add"),
    path("people/<int:pk>/", people.person, name="person"),
    path("account/tokens/", people.token_list, name="tokens"),
    path("account/tokens/<int:pk>/revoke/", people.token_revoke, name="token-revoke"),
    path("account/password/", people.password, name="password"),
    path("login/", auth.LoginView.as_view(), name="login"),
    path("logout/", auth.LogoutView.as_view(), name="logout"),
]
