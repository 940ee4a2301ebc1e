"""The fields of the objects that leave v2vweb, in the shape of an OpenAPI schema.

The table is ours, so that an edit is checked on every installation; a test holds it against KubeVirt's own documents.
"""

from typing import Any

Schema = dict[str, Any]

# The table, in the shape of an OpenAPI schema.  ANY: KubeVirt knows the field, and what is in it is for the cluster to judge.

ANY: Schema = {}
S: Schema = {"type": "string"}
I: Schema = {"type": "integer"}  # noqa: E741
B: Schema = {"type": "boolean"}
Q: Schema = {"type": "quantity"}
MAP: Schema = {"type": "object", "additionalProperties": S}
QUANTITIES: Schema = {"type": "object", "additionalProperties": Q}


def _object(fields: dict[str, Schema] | None = None, *, need: tuple[str, ...] = ()) -> Schema:
    return {"type": "object", "properties": fields or {}, "required": list(need)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _all(schema: Schema, names: str) -> dict[str, Schema]:
    return dict.fromkeys(names.split(), schema)


def _any(names: str) -> dict[str, Schema]:
    return _all(ANY, names)


STATE = _object({"enabled": B})
TIMER = {"present": B, "tickPolicy": S}

META = _object({"name": S, "namespace": S, "labels": MAP, "annotations": MAP, "generateName": S, "finalizers": _list(S),
                **_any("creationTimestamp deletionGracePeriodSeconds deletionTimestamp generation managedFields "
                       "ownerReferences resourceVersion selfLink uid")})  # fmt: skip

FEATURES = _object({"acpi": STATE, "apic": _object({"enabled": B, "endOfInterrupt": B}), "smm": STATE,
                    "kvm": _object({"hidden": B}), "pvspinlock": STATE, "hypervPassthrough": STATE,
                    "hyperv": _object(_any("evmcs frequencies ipi reenlightenment relaxed reset runtime spinlocks synic "
                                           "synictimer tlbflush vapic vendorid vpindex"))})  # fmt: skip

CLOCK = _object({"timezone": S, "utc": _object({"offsetSeconds": I}),
                 "timer": _object({"hpet": _object(TIMER), "pit": _object(TIMER), "rtc": _object({**TIMER, "track": S}),
                                   "hyperv": _object({"present": B}), "kvm": _object({"present": B})})})  # fmt: skip

CPU = _object({"cores": I, "sockets": I, "threads": I, "maxSockets": I, "model": S, "dedicatedCpuPlacement": B,
               "isolateEmulatorThread": B, "features": _list(_object({"name": S, "policy": S}, need=("name",))),
               **_any("numa realtime")})  # fmt: skip

FIRMWARE = _object({"bootloader": _object({"bios": _object({"useSerial": B}),
                                           "efi": _object({"persistent": B, "secureBoot": B})}),
                    "uuid": S, "serial": S, **_any("acpi kernelBoot")})  # fmt: skip

DISK = _object({"name": S, "bootOrder": I, "cache": S, "io": S, "serial": S, "tag": S, "errorPolicy": S, "shareable": B,
                "dedicatedIOThread": B, "changedBlockTracking": B, "blockSize": ANY,
                "disk": _object({"bus": S, "readonly": B, "pciAddress": S}),
                "lun": _object({"bus": S, "readonly": B, "reservation": B}),
                "cdrom": _object({"bus": S, "readonly": B, "tray": S})}, need=("name",))  # fmt: skip

INTERFACE = _object({"name": S, "model": S, "macAddress": S, "bootOrder": I, "pciAddress": S, "acpiIndex": I, "tag": S,
                     "state": S, "bridge": _object(), "masquerade": _object(), "sriov": _object(),
                     **_any("binding dhcpOptions macvtap passt passtBinding portRanges ports slirp")},
                    need=("name",))  # fmt: skip

DEVICES = _object({"disks": _list(DISK), "interfaces": _list(INTERFACE), "rng": _object(),
                   "sound": _object({"name": S, "model": S}, need=("name",)),
                   "tpm": _object({"enabled": B, "persistent": B}), "video": _object({"type": S}),
                   "inputs": _list(_object({"name": S, "type": S, "bus": S}, need=("name", "type"))),
                   **_all(B, "autoattachGraphicsDevice autoattachInputDevice autoattachMemBalloon autoattachVSOCK "
                             "autoattachPodInterface autoattachSerialConsole blockMultiQueue disableHotplug "
                             "logSerialConsole networkInterfaceMultiqueue useVirtioTransitional"),
                   **_any("clientPassthrough downwardMetrics filesystems gpus hostDevices panicDevices "
                          "watchdog")})  # fmt: skip

DOMAIN_FIELDS = _object({"devices": DEVICES, "cpu": CPU, "features": FEATURES, "clock": CLOCK, "firmware": FIRMWARE,
                         "machine": _object({"type": S}), "ioThreadsPolicy": S, "rebootPolicy": S,
                         "memory": _object({"guest": Q, "maxGuest": Q, "hugepages": _object({"pageSize": S}),
                                            "reservedOverhead": ANY}),
                         "resources": _object({"requests": QUANTITIES, "limits": QUANTITIES,
                                               "overcommitGuestOverhead": B}),
                         **_any("chassis ioThreads launchSecurity")}, need=("devices",))  # fmt: skip

NETWORK = _object({"name": S, "resourceClaim": ANY, "pod": _object({"vmNetworkCIDR": S, "vmIPv6NetworkCIDR": S}),
                   "multus": _object({"networkName": S, "default": B}, need=("networkName",))},
                  need=("name",))  # fmt: skip

VOLUME = _object({"name": S,
                  "persistentVolumeClaim": _object({"claimName": S, "readOnly": B, "hotpluggable": B},
                                                   need=("claimName",)),
                  "dataVolume": _object({"name": S, "hotpluggable": B}, need=("name",)),
                  **_any("cloudInitConfigDrive cloudInitNoCloud configMap containerDisk containerPath downwardAPI "
                         "downwardMetrics emptyDisk ephemeral hostDisk memoryDump secret serviceAccount sysprep")},
                 need=("name",))  # fmt: skip

INSTANCE = _object({"domain": DOMAIN_FIELDS, "networks": _list(NETWORK), "volumes": _list(VOLUME), "hostname": S,
                    "subdomain": S, "architecture": S, "evictionStrategy": S, "terminationGracePeriodSeconds": I,
                    "nodeSelector": MAP, "priorityClassName": S, "schedulerName": S, "serviceAccountName": S,
                    "startStrategy": S, "dnsPolicy": S,
                    **_any("accessCredentials affinity dnsConfig livenessProbe readinessProbe resourceClaims tolerations "
                           "topologySpreadConstraints utilityVolumes")}, need=("domain",))  # fmt: skip

MATCHER = {"kind": S, "name": S, "revisionName": S, "inferFromVolume": S, "inferFromVolumeFailurePolicy": S}

MACHINE = _object({"apiVersion": S, "kind": S, "metadata": META, "status": ANY,
                   "spec": _object({"runStrategy": S, "running": B, "instancetype": _object(MATCHER),
                                    "preference": _object(MATCHER), "updateVolumesStrategy": S,
                                    "dataVolumeTemplates": ANY,
                                    "template": _object({"metadata": META, "spec": INSTANCE})},
                                   need=("template",))}, need=("spec",))  # fmt: skip

CLAIM_SPEC: dict[str, Schema] = {"accessModes": _list(S), "storageClassName": S, "volumeMode": S, "volumeName": S,
                                 "resources": _object({"requests": QUANTITIES, "limits": QUANTITIES}),
                                 **_any("dataSource dataSourceRef selector")}  # fmt: skip

CLAIM = _object({"apiVersion": S, "kind": S, "metadata": META, "status": ANY,
                 "spec": _object({**CLAIM_SPEC, "volumeAttributesClassName": S})}, need=("spec",))  # fmt: skip

DATA_VOLUME = _object({"apiVersion": S, "kind": S, "metadata": META, "status": ANY,
                       "spec": _object({"source": _object({"blank": _object(), "upload": _object(),
                                                           **_any("gcs http imageio pvc registry s3 snapshot vddk")}),
                                        "pvc": _object({**CLAIM_SPEC, "volumeAttributesClassName": S}),
                                        "storage": _object(CLAIM_SPEC), "contentType": S, "preallocation": B,
                                        "priorityClassName": S, "serviceAccountName": S,
                                        **_any("checkpoints finalCheckpoint sourceRef")})}, need=("spec",))  # fmt: skip

#: what an object may be, and which table it is held against
KINDS: dict[tuple[str, str], Schema] = {
    ("kubevirt.io/v1", "VirtualMachine"): MACHINE,
    ("v1", "PersistentVolumeClaim"): CLAIM,
    ("cdi.kubevirt.io/v1beta1", "DataVolume"): DATA_VOLUME,
}
