"""The method, reproduced in small: every claim of the paper that the embedded world can test, with intervals over seeds.

``plan`` says which runs there are, ``runs`` makes one of them, ``execute`` makes them all and keeps each as it is done,
``analysis`` turns records into findings, ``page`` shows them.
"""
