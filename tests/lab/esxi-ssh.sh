#!/bin/bash
# The SSH side of an "ESXi host" for tests: a real sshd on loopback that offers /vmfs/volumes/DATASTORE/GUEST/GUEST.vmx
# with its disk, and nothing else of an ESXi; its API is the simulator of vsphere.sh.
#
#   esxi-ssh.sh start FOLDER IMAGE DATASTORE GUEST PORT
#     then: virt-v2v -i vmx -it ssh "ssh://root@127.0.0.1:PORT/vmfs/volumes/DATASTORE/GUEST/GUEST.vmx" ...
#   esxi-ssh.sh stop FOLDER
#
# Needs root, qemu-img and what sshd.sh needs.  IMAGE is a raw disk; it becomes GUEST-flat.vmdk and is only read.
# The sshd has a /vmfs of its own that nobody else sees; only the empty folder /vmfs is there for all, until it stops.
set -euo pipefail
here=$(dirname "$(realpath "$0")") dir=$(realpath -m "$2")
case $1 in
stop)
    [ -e "$dir/sshd.pid" ] && kill "$(cat "$dir/sshd.pid")" || true
    rmdir /vmfs 2>/dev/null || true
    exit
    ;;
start)
    mkdir -p /vmfs "$dir"
    exec unshare --mount "$(realpath "$0")" inside "$dir" "$(realpath "$3")" "$4" "$5" "$6"
    ;;
esac
image=$3 datastore=$4 guest=$5 port=$6 folder="$dir/vmfs/volumes/$4/$5"
mkdir -p "$folder"
mount --bind "$dir/vmfs" /vmfs
qemu-img create -q -f vmdk -o subformat=monolithicFlat,adapter_type=lsilogic "$folder/$guest.vmdk" "$(stat -c %s "$image")"
ln -sf "$image" "$folder/$guest-flat.vmdk"
cat >"$folder/$guest.vmx" <<V
.encoding = "UTF-8"
config.version = "8"
virtualHW.version = "15"
displayName = "$guest"
guestOS = "debian11-64"
memSize = "1024"
numvcpus = "2"
scsi0.present = "TRUE"
scsi0.virtualDev = "pvscsi"
scsi0:0.present = "TRUE"
scsi0:0.deviceType = "scsi-hardDisk"
scsi0:0.fileName = "$guest.vmdk"
ethernet0.present = "TRUE"
ethernet0.virtualDev = "vmxnet3"
ethernet0.networkName = "VM Network"
ethernet0.addressType = "generated"
ethernet0.generatedAddress = "00:0c:29:12:34:56"
V
exec "$here/sshd.sh" "$dir" "$port"
