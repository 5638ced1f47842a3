"""The executor in a closed loop: an emulated controller, an arm that is not ideal, and a judge.

`conditions` draws what an episode is like, `episode` plays it, `judge` looks at the commands alone
and shares no code with `pi0_ros.motion`. `python -m support.closed_loop` plays many.
"""
