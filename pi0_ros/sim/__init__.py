"""A simulated SO-101 arm: the scene, a scripted reach, and the demo bag made from them."""
