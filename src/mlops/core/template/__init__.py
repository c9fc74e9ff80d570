"""`make update`: merges a newer version of the template into a project that was made from it.

`record` knows where the template is and which version the project has, `versions` finds versions in the template's
history, `merge` merges files as data, `text` describes the result. `__main__` is the command for a person, `propose`
the one for the workflow. No file of the template is run or loaded. Needs Git and Python's standard library only.
"""
