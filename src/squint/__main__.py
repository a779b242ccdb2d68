"""`python -m squint` and `torchrun … -m squint`: the command line."""

from squint.cli import entry

if __name__ == "__main__":
    entry()
