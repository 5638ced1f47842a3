"""python -m pi0_ros.node"""

import sys

from pi0_ros.node.main import main

sys.exit(main())
