#!/bin/sh
# Stands in for an ESXi host's vim-cmd, with the words that real ones print (ESXi 6.7 and 7.0).
#
# It lies as vim-cmd in FOLDER/bin; FOLDER/guests/NUMBER holds a guest's row of the list, FOLDER/power/NUMBER whether it is
# "on", "off" or "suspended", and FOLDER/tools/NUMBER is there when VMware Tools run in it.
dir=$(dirname "$(dirname "$0")") number=$2
fault() { printf '(%s) {\n   faultCause = (vmodl.MethodFault) null, \n   faultMessage = <unset>\n   msg = "%s"\n}\n' "$1" "$2"; exit 1; }
if [ "$1" = vmsvc/getallvms ]; then
    echo 'Vmid           Name                                      File                                    Guest OS          Version   Annotation'
    cat "$dir"/guests/*
    exit
fi
[ -e "$dir/guests/$number" ] || fault vim.fault.NotFound "Unable to find a VM corresponding to \"$number\""
state=$(cat "$dir/power/$number")
case $1 in
vmsvc/power.getstate)
    echo 'Retrieved runtime info'
    [ "$state" = suspended ] && echo Suspended || echo "Powered $state"
    ;;
vmsvc/power.shutdown)
    [ "$state" = on ] || fault vim.fault.InvalidPowerState "The attempted operation cannot be performed in the current state (Powered off)."
    [ -e "$dir/tools/$number" ] || fault vim.fault.ToolsUnavailable "Cannot complete operation because VMware Tools is not running in this virtual machine."
    echo off >"$dir/power/$number"
    ;;
vmsvc/power.off)
    echo 'Powering off VM:'
    [ "$state" = off ] && echo 'Power off failed' && exit 1
    echo off >"$dir/power/$number"
    ;;
vmsvc/power.on)
    echo 'Powering on VM:'
    [ "$state" = on ] && echo 'Power on failed' && exit 1
    echo on >"$dir/power/$number"
    ;;
*) fault vmodl.fault.NotSupported "Invalid command '$1'." ;;
esac
