"""`python -m unsmear`."""

from unsmear.cli import main

main()
