"""The smallest trainer that trains something: word frequencies of the selected documents."""

import json
from collections import Counter
from pathlib import Path


class UnigramTrainer:
    """Args: smoothing: added to every word's count."""

    def __init__(self, smoothing: float = 1.0) -> None:
        self.smoothing = smoothing

    def fingerprint(self) -> str:
        return f"toy(smoothing={self.smoothing})"

    def fit(self, plan, selection, data, out: Path) -> Path:
        counts = Counter(word for document in data.selected.documents for word in document.text.lower().split())
        total = sum(count + self.smoothing for count in counts.values())
        folder = Path(out) / "model"
        folder.mkdir(parents=True)
        model = {word: (count + self.smoothing) / total for word, count in sorted(counts.items())}
        (folder / "unigrams.json").write_text(
            json.dumps({"of": selection.signature, "steps": plan.train.steps, "p": model})
        )
        return folder
