"""The forms that people have models in, each turned into what the rest of the package knows: a folder of transformers, or a path.

A foreign form is read once, into a cache, and from there on it is a checkpoint like any other: the same loading, the same errors,
the same identity by its bytes.
"""
