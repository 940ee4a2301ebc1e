"""v2vweb's one app: the way of a virtual machine from a form to a running guest, readable off the file names.

    request        plan            conversion        process                     events             result
    wizard,    ->  frozen     ->   row + state  ->   conductor starts a     ->   log file,     ->   manifest,
    upload, API    Plan (JSON)     machine           runner, runner an agent     events file        disks, VM

1. Request.     views/wizard*.py saves each step in a Draft (drafts.py, options.py, target_form.py); views/choose.py, many.py
                do so for many guests; address_form.py, addresses.py and clevis.py are options; views/api*.py and
                management/commands/convert.py take the same forms.
   Files        uploading/ receives what people upload and judges it while it comes (bucket/: when it lies in S3);
                archives/ reads OVAs, disks/ looks at disk images before anything else does.
   Servers      servers/: saved sources, whether they are the right ones, their guests, what speaks against moving one.
2. Plan.        plan.py: what is to be done, frozen, without secrets.  sources/ and outputs/ know one kind each;
                planning.py is the one way in, command.py makes the exact virt-v2v call from a plan.
3. Conversion.  models/conversion.py: the row.  states.py: which moves are allowed.  Conversion.move() is the only writer.
4. Process.     conductor.py: one leader loops; scheduler.py says who may start; servers/source_work.py shuts a guest down
                first; jobs.py prepares a folder (jobdir.py); runners/ start, stop and look at an agent; agent/ vets the disks
                and runs virt-v2v; intake.py takes in its events.
5. Events.      events.py: the shape of events.jsonl.  progress.py, known_errors.py: what virt-v2v's words mean.
                logs.py, rooms.py, watch.py and consumers.py: a socket is a view on the log file and the rows.
6. Result.      manifest/ makes KubeVirt's objects from virt-v2v's YAML; handover.py keeps and hands them out; boot/ and
                boot_tests.py prove that the guest starts; results.py has the files and the evidence.

roles.py and access.py say who may do what; credentials.py keeps secrets; host/ says what the machine can do.  Imports
point one way only: tests/test_layers.py has the table.
"""
