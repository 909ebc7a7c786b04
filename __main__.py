"""`python -m mmdf`, the same as the command `mmdf`."""

from mmdf.cli import main

if __name__ == "__main__":
    main()
