"""``salad train`` under a launcher: ``accelerate launch -m salad_train.cli_train``, or torchrun. The command is ``cli.train``."""

from salad_train.cli.train import app, main

__all__ = ["app", "main"]

if __name__ == "__main__":
    main()
