#!/bin/bash
# An "ESXi host" whose HTTPS is closed, for tests: a real sshd on loopback that offers a datastore under /vmfs/volumes as
# ESXi has it (a folder with a number for a name, and a link with the datastore's), and a stand-in for vim-cmd.
#
#   esxi-ssh.sh start FOLDER IMAGE DATASTORE GUEST PORT
#     then: virt-v2v -i vmx -it ssh "ssh://root@127.0.0.1:PORT/vmfs/volumes/DATASTORE/GUEST/GUEST.vmx" ...
#   esxi-ssh.sh stop FOLDER
#
# GUEST is registered as number 4 and shut down.  A second guest lies there only, registered nowhere, with a snapshot and a
# strange name.  Needs root, qemu-img and what sshd.sh needs.  IMAGE is a raw disk; it becomes GUEST-flat.vmdk and is only read.
# The sshd has a /vmfs of its own that nobody else sees; only the empty folder /vmfs is there for all, and stays: with it the
# kernel would take away what other such hosts have mounted on it.
set -euo pipefail
here=$(dirname "$(realpath "$0")") dir=$(realpath -m "$2")
case $1 in
stop)
    [ -e "$dir/sshd.pid" ] && kill "$(cat "$dir/sshd.pid")" || true
    exit
    ;;
start)
    mkdir -p /vmfs "$dir"
    exec unshare --mount "$(realpath "$0")" inside "$dir" "$(realpath "$3")" "$4" "$5" "$6"
    ;;
esac
image=$3 datastore=$4 guest=$5 port=$6 volumes="$dir/vmfs/volumes" number=5f3c1a2b-11223344-5566-0050569a0001
folder="$volumes/$number/$guest"
mkdir -p "$folder" "$dir"/{bin,guests,power,tools}
ln -sfn "$number" "$volumes/$datastore"
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
uuid.bios = "56 4d 1c 2a 3b 4c 5d 6e-7f 80 91 a2 b3 c4 d5 e6"
scsi0.present = "TRUE"
scsi0.virtualDev = "pvscsi"
scsi0:0.present = "TRUE"
scsi0:0.deviceType = "scsi-hardDisk"
scsi0:0.fileName = "$guest.vmdk"
sata0.present = "TRUE"
sata0:0.present = "TRUE"
sata0:0.deviceType = "cdrom-image"
sata0:0.fileName = "/vmfs/volumes/$number/iso/debian.iso"
ethernet0.present = "TRUE"
ethernet0.virtualDev = "vmxnet3"
ethernet0.networkName = "VM Network"
ethernet0.addressType = "generated"
ethernet0.generatedAddress = "00:0c:29:12:34:56"
V
printf '%-6s %-30s [%s] %-50s debian11_64Guest   vmx-15    Note of an appliance.\n\n   9    a second line that looks like a row\n' \
    4 "$guest" "$datastore" "$guest/$guest.vmx" >"$dir/guests/4"
echo off >"$dir/power/4"
touch "$dir/tools/4"

strange="Übung #2 (50%)" folder="$volumes/$number/alt/Übung #2 (50%)"
mkdir -p "$folder"
qemu-img create -q -f vmdk -o subformat=monolithicFlat "$folder/$strange.vmdk" 1M
sed -e 's/^parentCID=.*/parentCID=1234abcd/' -e 's/-flat/-000001-delta/' "$folder/$strange.vmdk" >"$folder/$strange-000001.vmdk"
cat >"$folder/$strange.vmsd" <<V
snapshot.numSnapshots = "2"
V
cat >"$folder/$strange.vmx" <<V
.encoding = "UTF-8"
config.version = "8"
displayName = "$strange"
guestOS = "windows9-64"
memSize = "2048"
firmware = "efi"
uefi.secureBoot.enabled = "TRUE"
nvme0.present = "TRUE"
sata0.present = "TRUE"
sata0:1.present = "TRUE"
sata0:1.fileName = "$strange-000001.vmdk"
ethernet0.present = "TRUE"
ethernet0.virtualDev = "e1000e"
ethernet0.dvs.portgroupId = "dvportgroup-7"
ethernet0.addressType = "static"
ethernet0.address = "00:50:56:AB:CD:EF"
V
install "$here/vim-cmd-standin.sh" "$dir/bin/vim-cmd"
exec "$here/sshd.sh" "$dir" "$port" "SetEnv PATH=$dir/bin:/usr/sbin:/usr/bin:/sbin:/bin"
