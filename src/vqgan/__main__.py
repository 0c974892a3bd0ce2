"""``python -m vqgan``."""

import sys

from vqgan.cli.main import main

sys.exit(main())
