"""Python -m search is the caddie command, for where no scripts are installed."""

from search.cli import main

main()
