# pi0_ros on a Jetson Orin (JetPack 6, Ubuntu 22.04) with ROS 2 Humble. Not built or run by this
# project: see docs/nvidia.md.
#
#   docker build -f docker/jetson.Dockerfile --build-arg TORCH_WHEEL=URL -t pi0_ros .
#   docker run --rm -it --runtime nvidia --network host -v /data:/data pi0_ros \
#       ros2 launch pi0_ros pi0.launch.py checkpoint:=/data/my_pi0 params_file:=/data/my_arm.yaml
#
# TORCH_WHEEL: the wheel of torch that NVIDIA offers for the host's JetPack and Python 3.10.
FROM ros:humble-ros-base

ARG TORCH_WHEEL

RUN apt-get update && apt-get install -y --no-install-recommends python3-pip gcc python3-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /ws
COPY requirements/robot.txt /tmp/robot.txt
# CUDA's libraries are mounted by the runtime. apt's OpenCV needs NumPy 1.
RUN pip install --no-cache-dir "${TORCH_WHEEL}" && pip install --no-cache-dir -r /tmp/robot.txt 'numpy<2'
COPY . src/pi0_ros
RUN . /opt/ros/humble/setup.sh && apt-get update && rosdep install --from-paths src --ignore-src -y \
    && colcon build --packages-select pi0_ros && rm -rf /var/lib/apt/lists/*
RUN printf '%s\n' '#!/bin/bash' '. /opt/ros/humble/setup.bash' '. /ws/install/setup.bash' \
    'exec "$@"' > /entrypoint.sh && chmod +x /entrypoint.sh
ENTRYPOINT ["/entrypoint.sh"]
