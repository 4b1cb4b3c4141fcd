"""The commands that this package adds to ``salad`` (entry-point group ``salad.commands``).

select.py     ``salad select``: its options
synthesise.py ``salad synthesise``
train.py      ``salad train``
loop.py       ``salad loop``
nano.py       ``salad nano``: the embedded world
options.py    options as one frozen record
"""
