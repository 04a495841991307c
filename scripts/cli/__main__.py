"""Run the command line: `python -m everylabel.scripts.cli`."""

from everylabel.scripts.cli import main

if __name__ == "__main__":
    main()
