#!/bin/bash
# An sshd on loopback for the lab's hosts, with a host key and a login key of its own:  sshd.sh FOLDER PORT [LINE OF CONFIG]
#
# Log-in is by key: FOLDER/key (load it into an ssh-agent; nbdkit's ssh plugin takes the agent's keys too) and
# FOLDER/known_hosts (append it to the user's known_hosts).  Its process number stands in FOLDER/sshd.pid.
# Needs root and Debian's openssh-server and openssh-client.
set -euo pipefail
dir=$1 port=$2
mkdir -p "$dir" /run/sshd
[ -e "$dir/hostkey" ] || ssh-keygen -q -t ed25519 -N '' -f "$dir/hostkey"
[ -e "$dir/key" ] || ssh-keygen -q -t ed25519 -N '' -f "$dir/key"
[ -e "$dir/authorized_keys" ] || cp "$dir/key.pub" "$dir/authorized_keys"
echo "[127.0.0.1]:$port,[127.0.0.2]:$port $(cut -d' ' -f1-2 "$dir/hostkey.pub")" >"$dir/known_hosts"
cat >"$dir/sshd_config" <<C
Port $port
ListenAddress 127.0.0.1
ListenAddress 127.0.0.2
HostKey $dir/hostkey
AuthorizedKeysFile $dir/authorized_keys
PasswordAuthentication no
PermitRootLogin yes
StrictModes no
UsePAM no
Subsystem sftp internal-sftp
PidFile $dir/sshd.pid
${3:-}
C
rm -f "$dir/sshd.pid"
/usr/sbin/sshd -f "$dir/sshd_config"
for _ in $(seq 100); do [ -s "$dir/sshd.pid" ] && exit; sleep 0.1; done   # written when it listens
echo "sshd did not start in $dir" >&2
exit 1
