"""``python -m handspan.cli``"""

import sys

from handspan.cli import main

sys.exit(main())
