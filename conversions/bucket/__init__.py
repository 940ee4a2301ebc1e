"""Files that lie in an S3 bucket, shown to programs that want a file: mounted with FUSE, else downloaded.

    mount.py      an object as a regular file: nbdfuse over nbdkit's curl plugin.  Standard library only: the agent uses it.
    relay.py      the program between nbdkit and the bucket, so that the object's address is in nobody's command line
    fetch.py      the other way: the whole object into a file.  Standard library only.
    planned.py    what a plan and a job say about such files, and how they are shown to whoever plans
    checks.py     is the bucket there, can it be read in place: for the System page

stores/s3.py puts them there and reads them by ranges; agent/objects.py shows them in an attempt.

An object's address is presigned: whoever knows it can read the object.  So it is a secret, and only ever in a 0600 file.
"""
