"""Run the command line as ``python -m personascope``."""

from personascope.cli import main

if __name__ == "__main__":
    main()
