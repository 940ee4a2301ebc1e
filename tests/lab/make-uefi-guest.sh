#!/bin/bash
# Makes a guest that starts with UEFI out of the BIOS guest of make-guest.sh: same root file system, a GPT and an EFI
# system partition with GRUB.
#
#   make-uefi-guest.sh BIOS-IMAGE NEW-IMAGE
#
# Needs Debian's grub-efi-amd64-bin, grub-common, dosfstools, mtools, e2fsprogs, fdisk.  Takes some seconds.
set -euo pipefail
from=$(realpath "$1") image=$(realpath -m "$2")
work=$(mktemp -d "$image.XXXX")
trap 'rm -rf "$work"' EXIT
esp_mib=64

# The root partition of the BIOS guest starts at 1 MiB.
size=$(($(stat -c %s "$from") - 1048576))
dd if="$from" of="$work/root" bs=1M skip=1 conv=sparse status=none
cat >"$work/fstab" <<'F'
LABEL=root / ext4 errors=remount-ro 0 1
LABEL=ESP /boot/efi vfat umask=0077,nofail 0 1
F
debugfs -w -f - "$work/root" >/dev/null 2>&1 <<D
mkdir /boot/efi
rm /etc/fstab
write $work/fstab /etc/fstab
D

cat >"$work/grub.cfg" <<'G'
search --no-floppy --label root --set=root
configfile ($root)/boot/grub/grub.cfg
G
# The prefix stays in the memory disk of grub.efi, where all modules are.
grub-mkstandalone -O x86_64-efi -o "$work/grub.efi" \
    --modules="part_gpt part_msdos ext2 fat search search_label normal configfile linux" \
    --locales= --themes= --fonts= "boot/grub/grub.cfg=$work/grub.cfg"
truncate -s ${esp_mib}M "$work/esp"
mkfs.vfat -F 32 -n ESP "$work/esp" >/dev/null
export MTOOLS_SKIP_CHECK=1
mmd -i "$work/esp" ::/EFI ::/EFI/BOOT ::/EFI/debian
mcopy -i "$work/esp" "$work/grub.efi" ::/EFI/BOOT/BOOTX64.EFI
mcopy -i "$work/esp" "$work/grub.efi" ::/EFI/debian/grubx64.efi
mcopy -i "$work/esp" "$work/grub.cfg" ::/EFI/debian/grub.cfg

truncate -s $((size + (esp_mib + 2) * 1048576)) "$image.new"
sfdisk -q "$image.new" <<P
label: gpt
start=1MiB, size=${esp_mib}MiB, type=uefi
start=$((esp_mib + 1))MiB, size=$((size / 512)), type=linux
P
dd if="$work/esp" of="$image.new" bs=1M seek=1 conv=notrunc,sparse status=none
dd if="$work/root" of="$image.new" bs=1M seek=$((esp_mib + 1)) conv=notrunc,sparse status=none
mv "$image.new" "$image"
