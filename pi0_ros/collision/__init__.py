"""The robot in space, by pinocchio: where its links are, and what they would hit."""
