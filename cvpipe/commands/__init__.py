"""The commands, a file each: `add` says what can be asked for, and the function it names does it
and returns the exit code.

Every import that takes time is made inside that function, so that --help and wrong pipelines are
answered at once.
"""
