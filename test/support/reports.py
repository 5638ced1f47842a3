"""Waiting for what the node of `support.harness` reports in /diagnostics."""


def wait_for_report(robot, level: bytes, *words: str) -> str:
    """Wait until the last report says this; returns its sentence."""

    said: list[str] = []

    def found() -> bool:
        if robot.diagnostics:
            status = robot.diagnostics[-1].status[0]
            if status.level == level and all(word in status.message for word in words):
                said.append(status.message)
        return bool(said)

    robot.wait(found, f"a report with {words}")
    return said[0]


def assert_well_again(robot) -> None:
    def said() -> bool:
        robot.chunk()
        status = robot.diagnostics[-1].status[0]
        return (status.level, status.message) == (b"\x00", "publishing")

    robot.wait(said, "a good report while chunks come")
