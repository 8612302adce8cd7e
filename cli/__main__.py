"""python -m xtgeo.cli"""

from xtgeo.cli import main

main()
