"""Talking to vCenter and ESXi: a session that checks the pin and never waits for ever, and the inventory in one question."""

import contextlib
import http.client
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import ParseError

from defusedxml.ElementTree import fromstring
from pyVmomi import VmomiSupport, vim, vmodl
from pyVmomi.SoapAdapter import SoapStubAdapter

from ..problems import Problem, RefusedError
from .inventory import GuestRecord
from .reach import open_port
from .trust import tls_context
from .vsphere_records import PROPERTIES, read_records

#: Seconds for one answer.  A property page of a large vCenter takes some; a dead server must not take more.
ANSWER_TIMEOUT = 60
FIRST_TIMEOUT = 8
PAGE = 1000  #: objects an answer


@dataclass(frozen=True)
class Endpoint:
    host: str
    port: int
    user: str
    pin: str = ""  #: PEM of the certificate that a person accepted
    ca: str = ""  #: PEM of a CA


def _unreachable(endpoint: Endpoint, error: Exception) -> RefusedError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return RefusedError(
            Problem(
                "certificate-untrusted",
                "The server's certificate is not trusted",
                f"{endpoint.host} showed a certificate that is not the pinned one and that no known CA signed: "
                f"{error.verify_message}.",
                "Look at the certificate on the source's page, ask its administrator, and trust it or give the CA.",
                "administrator",
            ),
            field="certificate",
        )
    return RefusedError(
        Problem(
            "no-answer",
            "The server stopped answering",
            f"{endpoint.host} broke off or did not answer in time: {error}.",
            "Try again; if it stays so, ask the source's administrator whether the service runs.",
            "source owner",
        )
    )


def _api_version(endpoint: Endpoint, context: ssl.SSLContext) -> str:
    """The newest API version that server and library both know, asked with a time limit.

    pyvmomi's SmartConnect asks the same without one: a server that accepts and never answers would hang it (seen).
    """
    connection = http.client.HTTPSConnection(endpoint.host, endpoint.port, context=context, timeout=FIRST_TIMEOUT)
    try:
        connection.request("GET", "/sdk/vimServiceVersions.xml")
        answer = connection.getresponse()
        body = answer.read(1 << 20)
    finally:
        connection.close()
    try:
        versions = [node.text or "" for node in fromstring(body).iter("version")]
    except ParseError:
        raise RefusedError(
            Problem(
                "no-vsphere",
                "This is no vCenter or ESXi",
                f"{endpoint.host} answers on port {endpoint.port}, but does not speak the vSphere API.",
                "Check the name and the port.",
            ),
            field="host",
        ) from None
    for version in versions:  # the newest comes first
        with contextlib.suppress(KeyError):
            return str(VmomiSupport.versionMap[f"vim25/{version}"])
    return "vim.version.version10"  # 6.0: all that anybody still runs understands it


@contextlib.contextmanager
def session(endpoint: Endpoint, password: str) -> Iterator[vim.ServiceInstance]:
    """A logged-in session, ended on the way out.  Raises RefusedError with what failed and what helps."""
    open_port(endpoint.host, endpoint.port, FIRST_TIMEOUT).close()
    context = tls_context(pin=endpoint.pin, ca=endpoint.ca)
    try:
        version = _api_version(endpoint, context)
        stub = SoapStubAdapter(
            host=endpoint.host,
            port=endpoint.port,
            version=version,
            path="/sdk",
            sslContext=context,
            httpConnectionTimeout=ANSWER_TIMEOUT,
        )
        instance = vim.ServiceInstance("ServiceInstance", stub)
        manager: Any = instance.RetrieveContent().sessionManager
        _login(manager, endpoint, password)
        try:
            yield instance
        finally:
            with contextlib.suppress(vmodl.RuntimeFault, OSError, http.client.HTTPException):
                manager.Logout()
            stub.DropConnections()
    except vim.fault.NotAuthenticated:
        raise RefusedError(
            Problem(
                "session-ended",
                "The session ended in the middle",
                f"{endpoint.host} ended v2vweb's session: an administrator did, or it was restarted.",
                "Try again.",
                "source owner",
            )
        ) from None
    except (TimeoutError, OSError, http.client.HTTPException) as error:
        raise _unreachable(endpoint, error) from error


def _login(manager: Any, endpoint: Endpoint, password: str) -> None:
    try:
        manager.Login(endpoint.user, password, None)
    except vim.fault.InvalidLogin:
        raise RefusedError(
            Problem(
                "login-refused",
                "User or password is wrong",
                f"{endpoint.host} refused the login of {endpoint.user}.",
                "Type the password again. At vCenter the user's name has its domain: administrator@vsphere.local.",
            ),
            field="password",
        ) from None
    except vim.fault.NoPermission:
        raise RefusedError(
            Problem(
                "login-not-permitted",
                "The user may not log in",
                f"{endpoint.user} has no permission on {endpoint.host}.",
                "Ask the source's administrator for a role there.",
                "source owner",
            ),
            field="user",
        ) from None


def retrieve(instance: vim.ServiceInstance) -> dict[type, dict[str, dict[str, Any]]]:
    """All objects that the inventory needs, in one question and as many pages as the server wants.

    Returns type -> object id -> {property: value}, with "self" the object.  A property that is not set is left out.
    """
    content: Any = instance.RetrieveContent()
    query = vmodl.query.PropertyCollector
    view = content.viewManager.CreateContainerView(content.rootFolder, list(PROPERTIES), True)
    try:
        traversal = query.TraversalSpec(type=vim.view.ContainerView, path="view", skip=False)
        spec = query.FilterSpec(
            objectSet=[query.ObjectSpec(obj=view, skip=True, selectSet=[traversal])],
            propSet=[query.PropertySpec(type=kind, pathSet=paths) for kind, paths in PROPERTIES.items()],
        )
        collector = content.propertyCollector
        found: dict[type, dict[str, dict[str, Any]]] = {kind: {} for kind in PROPERTIES}
        answer = collector.RetrievePropertiesEx([spec], query.RetrieveOptions(maxObjects=PAGE))
        while answer:
            for each in answer.objects:
                properties = {prop.name: prop.val for prop in each.propSet}
                properties["self"] = each.obj
                kind = next(kind for kind in PROPERTIES if isinstance(each.obj, kind))
                found[kind][each.obj._moId] = properties
            answer = collector.ContinueRetrievePropertiesEx(answer.token) if answer.token else None
        return found
    finally:
        with contextlib.suppress(vmodl.RuntimeFault):
            view.Destroy()


def list_guests(endpoint: Endpoint, password: str) -> list[GuestRecord]:
    """Every guest of a vCenter or an ESXi host."""
    with session(endpoint, password) as instance:
        return read_records(retrieve(instance))
