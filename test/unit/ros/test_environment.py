import os
import socket

import pytest

from pi0_ros import share
from pi0_ros.ros import environment as env
from pi0_ros.share import find_shared_file


def test_the_replay_gets_a_domain_on_the_loopback_and_the_allocator():
    variables = env.private_graph({})
    assert 1 <= int(variables["ROS_DOMAIN_ID"]) <= 101
    assert variables["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert variables["MALLOC_MMAP_THRESHOLD_"] == "16777216"
    assert variables["MALLOC_TRIM_THRESHOLD_"] == "268435456"
    assert env.private_graph({"ROS_DISTRO": "humble"})["ROS_LOCALHOST_ONLY"] == "1"


def test_what_the_user_has_set_stays(tmp_path, monkeypatch):
    given = {"ROS_DOMAIN_ID": "7", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}
    assert not given.keys() & env.private_graph(given).keys()


def test_the_fast_dds_profile_is_set_under_both_names_unless_the_user_has_one(
    tmp_path, monkeypatch
):
    profile = tmp_path / "share" / "pi0_ros" / "config" / "fastdds.xml"
    profile.parent.mkdir(parents=True)
    profile.write_text("<profiles/>")
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere{os.pathsep}{tmp_path}")
    monkeypatch.setattr(share, "TREE", tmp_path / "site-packages")
    variables = env.private_graph({})
    assert variables["FASTRTPS_DEFAULT_PROFILES_FILE"] == str(profile)
    assert variables["FASTDDS_DEFAULT_PROFILES_FILE"] == str(profile)
    own = env.private_graph({"FASTRTPS_DEFAULT_PROFILES_FILE": "mine.xml"})
    assert not any(name.startswith("FAST") for name in own)


def test_shared_files_are_found_in_the_source_tree(monkeypatch):
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    path = find_shared_file("msg/ActionChunk.msg")
    assert path is not None and "positions" in path.read_text()
    assert find_shared_file("msg/Nothing.msg") is None


def test_a_domain_in_use_is_not_free(monkeypatch):
    monkeypatch.setattr(env, "LAST_DOMAIN", 2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as first:
        first.bind(("", 7400 + 250 * 1 + 10))
        assert env.free_domain() == 2
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second:
            second.bind(("", 7400 + 250 * 2 + 10))
            with pytest.raises(RuntimeError, match="in use"):
                env.free_domain()


def test_variables_are_taken_back(monkeypatch):
    monkeypatch.setenv("PI0_TEST_OLD", "old")
    monkeypatch.delenv("PI0_TEST_NEW", raising=False)
    with env.environment({"PI0_TEST_OLD": "1", "PI0_TEST_NEW": "2"}):
        assert (os.environ["PI0_TEST_OLD"], os.environ["PI0_TEST_NEW"]) == ("1", "2")
    assert os.environ["PI0_TEST_OLD"] == "old"
    assert "PI0_TEST_NEW" not in os.environ
