"""``python -m panfit`` is the command ``panfit``."""

from panfit.cli import main

if __name__ == "__main__":
    main()
