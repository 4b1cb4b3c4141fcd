"""A text corpus, row by row: read, filtered for counted reasons, kept free of the benchmark.

rows.py          rows of JSONL, Parquet, datasets
read.py          rows → documents
filters.py       which texts are left out, and why: a corpus filter is added here
decontaminate.py which texts hold a benchmark's questions

    sources.py  documents by the name of where they are
    documents.py  documents on disk, memory-mapped
"""
