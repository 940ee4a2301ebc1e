"""v2vweb's one app: the way of a virtual machine from a form to a running guest, readable off the file names.

    request        plan            conversion        process                     events             result
    wizard,    ->  frozen     ->   row + state  ->   conductor starts a     ->   log file,     ->   manifest,
    upload, API    Plan (JSON)     machine           runner, runner an agent     events file        disks, VM

1. Request.     views/wizard*.py saves each step in a Draft (drafts.py, options.py, target_form.py); views/choose.py, many.py
                do so for many guests; address_form.py, addresses.py and clevis.py are options; views/api*.py and
                management/commands/convert.py take the same forms.
   Files        uploads.py, follow.py, verdict.py: what people upload, judged while it comes.  ova.py, tar.py, packed.py,
                ovf.py: archives and what they describe.  peek.py, images.py: what a disk's first bytes tell.
   Servers      trust.py, pinning.py, connection.py, ssh.py, vsphere*.py, inventory.py, refresh*.py, concerns.py: saved
                sources, their guests and what speaks against moving one.
2. Plan.        plan.py: what is to be done, frozen, without secrets.  sources/ and outputs/ know one kind each;
                planning.py is the one way in, command.py makes the exact virt-v2v call from a plan.
3. Conversion.  models.py: the row.  states.py: which moves are allowed.  Conversion.move() is the only writer.
4. Process.     conductor.py: one leader loops; scheduler.py says who may start; source_work.py shuts a guest down first,
                restarts.py starts it again, both by power.py; jobs.py prepares a folder (jobdir.py); intake.py takes in events;
                runners/ start, stop and look at an agent; agent/ vets the disks (vetting.py, sandbox.py) and runs virt-v2v.
5. Events.      events.py: the shape of events.jsonl.  progress.py, known_errors.py: what virt-v2v's words mean.
                logs.py, rooms.py, watch.py and consumers.py: a socket is a view on the log file and the rows.
6. Result.      manifest/ makes KubeVirt's objects from virt-v2v's YAML; handover.py keeps and hands them out; boot/ and
                boot_tests.py prove that the guest starts; results.py has the files and the evidence.

roles.py and access.py say who may do what; credentials.py keeps secrets; checks.py, system.py, machine.py, installation.py
and capabilities.py say what the machine can do.  Imports point one way only: tests/test_layers.py has the table.
"""
