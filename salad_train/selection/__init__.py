"""What to speak next: embed, cluster, probe, score, weigh, draw.

select.py    the line of Stage II's choice: start here
embedders.py texts → vectors (group ``salad.embedders``)
embed.py     the whole corpus, chunk by chunk, wherever an engine works
kmeans.py    balanced clusters
balance.py   assignments of equal size
clusters.py  what clusters are about, and which domains they are like
probe.py     a few documents of each cluster, spoken and measured
signals.py   a cluster's worth (group ``salad.signals``): a signal is added here
weigh.py     scores → shares → documents
files.py     what is written, and how it is read
views.py     for a terminal and as Markdown
figure.py    the picture

    terms.py  the words that say what texts are about
"""
