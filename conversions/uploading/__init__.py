"""Files that people upload, over days if need be, judged while they come.

uploads.py      an upload from its first byte to its last
room.py         quota, free space, and how far each has come
refusals.py     what several steps say when they refuse
stores/         where the bytes lie: a folder, or an S3 bucket
verdict.py      what is said about a file: from its first bytes, while it arrives, and at the end
follow.py       reads behind an upload: checksums, members, the verdict
uploaded.py     what has arrived, as a source of conversions
autostart.py    converts it at once, for somebody who has gone home
sweeper.py      removes what nobody went on with or uses any more
"""
