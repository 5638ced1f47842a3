"""pi0 replay: plays a recording to the node, or steps through it deterministically."""
