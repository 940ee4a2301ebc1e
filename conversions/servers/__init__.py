"""Saved sources: vCenter, ESXi and Xen as servers on the network.

reach.py, trust.py, pinning.py, ssh.py     reaching one within a limit of time, and whether it is the one that a person meant
programs.py                                programs of this server that are asked about one
connection.py                              Test connection, step by step
vsphere*.py, libvirt_uri.py                its language: properties into records, the addresses that virt-v2v wants
esxi_shell.py, vmx.py, esxi_guests.py      the same of an ESXi host over SSH alone: its files into records
inventory.py, refresh*.py, guest_table.py  its guests: the record, the cache that follows changes, the table
concerns.py                                what speaks against moving one
saved_access.py                            whose sources somebody may use
power.py, esxi_power.py, power_answers.py  one guest's switch
source_steps.py, source_work.py, restarts.py   what a conversion does with it: before, and after it failed
"""
