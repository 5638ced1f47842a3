import struct
from pathlib import Path

import numpy as np
import pytest
import yaml

from pi0_ros.bags.bag import Bag, BagError, BagTopic, Message, header_stamp, open_bag
from pi0_ros.bags.messages import joint_positions
from pi0_ros.bags.topics import match_topics
from pi0_ros.node.interface import Topic

IMAGE = "sensor_msgs/msg/Image"
STATES = "sensor_msgs/msg/JointState"
STRING = "std_msgs/msg/String"
NEEDED = (
    Topic("/front/image_raw", IMAGE, "camera front"),
    Topic("/joint_states", STATES, "joint states"),
    Topic("/instruction", STRING, "task", required=False),
)


def bag_of(*topics: tuple[str, str, int]) -> Bag:
    return Bag(Path("rec"), "mcap", 0, 1, tuple(BagTopic(*topic) for topic in topics))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_open_lists_topics_types_counts_and_times(make_bag, storage):
    bag = open_bag(make_bag(seconds=1.0, storage=storage))
    assert bag.storage == storage
    assert (bag.end - bag.start) == 990_000_000
    assert bag.topics == (
        BagTopic("/front/image_raw", IMAGE, 30),
        BagTopic("/instruction", STRING, 1),
        BagTopic("/joint_states", STATES, 100),
        BagTopic("/wrist/image_raw", IMAGE, 30),
    )


def test_a_storage_file_alone_opens_too(recording):
    assert open_bag(next(recording.glob("*.mcap"))).topics == open_bag(recording).topics


def test_open_says_what_is_wrong(tmp_path, make_bag):
    with pytest.raises(BagError, match="nowhere: no such recording"):
        open_bag(tmp_path / "nowhere")
    with pytest.raises(BagError, match=r"no metadata\.yaml"):
        open_bag(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(BagError, match=r"notes\.txt: cannot be opened"):
        open_bag(tmp_path / "notes.txt")
    with pytest.raises(BagError, match="holds no messages"):
        open_bag(make_bag(topics=["/joint_states"], seconds=0.0))


def test_hostile_metadata_is_refused_before_rosbags_reads_it(make_bag):
    path = make_bag(seconds=1.0) / "metadata.yaml"
    for text, says in (
        ("a: " + "9" * 5000, "a number of 5000 characters"),
        ("[" * 100_000, "deeper than 50 levels"),
        ("a: 1\na: 2", "line 2: a is declared twice"),
    ):
        path.write_text(text)
        with pytest.raises(BagError, match=says):
            open_bag(path.parent)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_recording_cut_in_the_middle_is_a_bag_error(make_bag, storage):
    path = make_bag(seconds=1.0, storage=storage)
    file = next(file for file in path.iterdir() if file.name != "metadata.yaml")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(BagError, match="bag"):
        bag = open_bag(path)
        list(bag.messages({"/front/image_raw": IMAGE}))


def test_damage_found_while_reading_is_a_bag_error(make_bag):
    path = make_bag(seconds=1.0)
    file = next(path.glob("*.mcap"))
    data = bytearray(file.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 30_000] = b"\xff" * 30_000  # more than an image: record headers too
    file.write_bytes(data)
    bag = open_bag(path)
    with pytest.raises(BagError, match="the recording is damaged"):
        list(bag.messages({"/front/image_raw": IMAGE}))


QOS_BY_HAND = """- history: 3
  depth: 0
  reliability: 2
  durability: 2
  deadline: {sec: 0, nsec: 0}
  lifespan: {sec: 0, nsec: 0}
  liveliness: 1
  liveliness_lease_duration: {sec: 0, nsec: 0}
  avoid_ros_namespace_conventions: false"""


def edit_topics(recording: Path, **values: object) -> None:
    """Changes every topic in metadata.yaml, as people do by hand."""
    file = recording / "metadata.yaml"
    document = yaml.safe_load(file.read_text())
    for topic in document["rosbag2_bagfile_information"]["topics_with_message_count"]:
        topic["topic_metadata"].update(values)
    file.write_text(yaml.safe_dump(document))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize(
    "edit", [{"offered_qos_profiles": QOS_BY_HAND}, {"type_description_hash": "RIHS01_00"}]
)
def test_metadata_that_was_edited_does_not_hide_messages(make_bag, storage, edit):
    path = make_bag(topics=["/joint_states"], seconds=0.2, storage=storage)
    edit_topics(path, **edit)
    assert len(list(open_bag(path).messages({"/joint_states": STATES}))) == 20


@pytest.mark.parametrize("qos", ["- [", [{"history": 1}], "- history: 1"])
def test_a_quality_of_service_that_cannot_be_read_is_told(make_bag, qos):
    path = make_bag(topics=["/joint_states"], seconds=0.2)
    edit_topics(path, offered_qos_profiles=qos)
    with pytest.raises(BagError, match=r"if metadata\.yaml was edited, `ros2 bag reindex`"):
        open_bag(path)


def test_topics_that_the_data_files_lack_are_told(make_bag):
    path = make_bag(topics=["/joint_states"], seconds=0.2)
    edit_topics(path, name="/arm/joint_states")
    with pytest.raises(BagError, match=r"says that /arm/joint_states .* 20 messages.*--remap"):
        list(open_bag(path).messages({"/arm/joint_states": STATES}))


def test_of_no_topic_there_are_no_messages(recording):
    assert not list(open_bag(recording).messages({"/nothing": STRING}))


def test_match_names_the_namespace_that_everything_is_in():
    bag = bag_of(("/left/front/image_raw", IMAGE, 3), ("/left/joint_states", STATES, 9))
    with pytest.raises(BagError, match="--ros-args -r __ns:=/left"):
        match_topics(bag, NEEDED)


def test_match_finds_topics_by_name_and_type():
    bag = bag_of(
        ("/front/image_raw", IMAGE, 3), ("/joint_states", STATES, 9), ("/tf", "x/msg/X", 1)
    )
    matches = match_topics(bag, NEEDED)
    assert {topic: need.purpose for topic, need in matches.items()} == {
        "/front/image_raw": "camera front",
        "/joint_states": "joint states",
    }


def test_match_names_what_is_missing_and_lists_what_is_there():
    bag = bag_of(("/cam0/image", IMAGE, 3), ("/joint_states", STATES, 0))
    with pytest.raises(BagError) as caught:
        match_topics(bag, NEEDED)
    text = str(caught.value)
    assert f"/front/image_raw (camera front, {IMAGE}) is missing" in text
    assert "/joint_states (joint states) is there but holds no messages" in text
    assert f"/cam0/image    {IMAGE}, 3 messages" in text
    assert "/instruction" not in text


def test_match_names_both_types_of_a_topic_with_the_wrong_one():
    bag = bag_of(
        ("/front/image_raw", "sensor_msgs/msg/CompressedImage", 3), ("/joint_states", STATES, 1)
    )
    with pytest.raises(BagError, match=f"holds sensor_msgs/msg/CompressedImage.* to {IMAGE}"):
        match_topics(bag, NEEDED)


def test_match_needs_the_instruction_only_where_it_is_required():
    bag = bag_of(("/front/image_raw", IMAGE, 3), ("/joint_states", STATES, 1))
    need = Topic("/instruction", STRING, "task", required=True)
    assert "/instruction" not in match_topics(bag, NEEDED)
    with pytest.raises(BagError, match=r"/instruction \(task, std_msgs/msg/String\) is missing"):
        match_topics(bag, (*NEEDED[:2], need))


def test_remaps_play_a_topic_under_another_name():
    bag = bag_of(("/cam0/image", IMAGE, 3), ("/joint_states", STATES, 1))
    remaps = {"/cam0/image": "/front/image_raw"}
    assert match_topics(bag, NEEDED, remaps)["/cam0/image"].name == "/front/image_raw"
    with pytest.raises(BagError, match="/cam9 is not in the recording"):
        match_topics(bag, NEEDED, {"/cam9": "/front/image_raw"})


def test_two_topics_cannot_be_played_on_one():
    bag = bag_of(
        ("/cam0/image", IMAGE, 3), ("/front/image_raw", IMAGE, 3), ("/joint_states", STATES, 1)
    )
    with pytest.raises(BagError, match="/cam0/image and /front/image_raw would both be played"):
        match_topics(bag, NEEDED, {"/cam0/image": "/front/image_raw"})


def test_header_stamp_reads_both_byte_orders():
    body = (1_700_000_000, 123_456_789, 0)
    expected = 1_700_000_000_123_456_789
    for start, layout in ((b"\x00\x01\x00\x00", "<iII"), (b"\x00\x00\x00\x00", ">iII")):
        assert header_stamp(Message("/t", 0, start + struct.pack(layout, *body))) == expected


@pytest.mark.parametrize("size", [0, 1, 6, 12, 15])
def test_a_message_shorter_than_a_header_is_a_bag_error(size):
    text = f"a message of {size} bytes on /front/image_raw cannot hold a header"
    with pytest.raises(BagError, match=text):
        header_stamp(Message("/front/image_raw", 0, bytes(size)))


@pytest.mark.parametrize("size", [0, 6, 40])
def test_a_joint_state_cut_short_is_a_bag_error(make_bag, size):
    bag = make_bag(["/joint_states"], seconds=0.1, cut={"/joint_states": size})
    with pytest.raises(BagError, match=r"a message o.*/joint_states.*the recording is damaged"):
        joint_positions(open_bag(bag), ["/joint_states"])


def test_messages_come_in_order_and_only_from_the_topics_asked_for(recording):
    bag = open_bag(recording)
    messages = list(bag.messages({"/front/image_raw": IMAGE, "/joint_states": STATES}))
    times = [message.time for message in messages]
    assert times == sorted(times)
    assert {message.topic for message in messages} == {"/front/image_raw", "/joint_states"}
    assert len(messages) == 60 + 200
    assert all(header_stamp(message) == message.time for message in messages)


def test_joint_positions_are_sorted_out_by_name(recording):
    series = joint_positions(open_bag(recording), ["/joint_states"])
    assert list(series) == ["shoulder", "elbow", "gripper"]
    times, positions = series["elbow"]
    np.testing.assert_allclose(positions, np.sin(np.arange(200) / 30 + 1))
    assert times[100] - times[0] == 1_000_000_000
