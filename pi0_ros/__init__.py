"""pi0_ros: the pi0 vision-language-action model as a ROS 2 node.

The generated messages (`pi0_ros.msg`) are installed apart from the source tree; extending the
path lets both resolve when tests run from the tree.
"""

__path__ = __import__("pkgutil").extend_path(__path__, __name__)
