"""The commands, one per file. `add` declares the options; the command's function returns the exit
code.

Slow imports are inside that function, so --help and errors about pipelines appear at once.
"""
