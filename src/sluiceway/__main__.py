"""Start the command line with `python -m sluiceway`."""

from sluiceway.cli import main

if __name__ == "__main__":
    main()
