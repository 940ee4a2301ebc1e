"""v2vweb's one app: the way of a virtual machine from a form to a running guest, readable off the file names.

    request        plan            conversion        process                     events             result
    wizard,    ->  frozen     ->   row + state  ->   conductor starts a     ->   log file,     ->   manifest,
    upload, API    Plan (JSON)     machine           runner, runner an agent     events file        disks, VM

1. Request.     views/wizard.py saves each step of the wizard in a Draft (drafts.py, forms.py); views/api.py and
                management/commands/convert.py take the same forms.
2. Plan.        plan.py: what is to be done, frozen, without secrets.  sources/ and outputs/ know one kind each;
                planning.py is the one way in; command.py makes the exact virt-v2v call from a plan; space.py asks for
                room.  vetting.py looks at hostile disks first: images.py and peek.py by their bytes, sandbox.py with
                QEMU shut in, unpacking.py inside OVAs.
3. Conversion.  models.py: the row.  states.py: which moves are allowed.  Conversion.move() is the only writer.
4. Process.     management/commands/conduct.py: one leader loops; scheduler.py says who may start; runners/ start, stop
                and look at an agent; agent/ runs virt-v2v and writes two files in the job's folder (jobdir.py).
5. Events.      events.py: the shape of events.jsonl.  logs.py and consumers.py: a socket is a view on the log file.
6. Result.      manifest.py makes KubeVirt's objects from virt-v2v's YAML; results.py hands out the files and the evidence.

roles.py says who may do what; credentials.py keeps secrets; checks.py, capabilities.py, machine.py and
installation.py say what is there and what is missing, system.py measures it for a page; terminal.py follows a log.
Imports point one way only: tests/test_layers.py has the table.
"""
