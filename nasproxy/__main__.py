"""``python -m nasproxy``: the console script, also for ``torchrun -m nasproxy``."""

from nasproxy.cli import main

if __name__ == "__main__":
    main()
