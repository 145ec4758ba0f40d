"""``python -m wavellama``: the command line, for torchrun and for machines without scripts."""

from wavellama.cli.main import main

if __name__ == "__main__":
    main()
