"""The Python face: what `import slowthink as st` offers, and what the commands are built on.

`slowthink/__init__.py` lists the public names and loads each when it is first used. Until version
1.0 they may change; the changelog says how. A module here imports heavy packages inside functions,
so that `slowthink --help` answers at once.
"""
