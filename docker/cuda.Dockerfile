# pi0_ros on an x86_64 host with a GPU of NVIDIA and ROS 2 Jazzy. Not built or run by this project: see
# docs/nvidia.md.
#
#   docker build -f docker/cuda.Dockerfile -t pi0_ros .
#   docker run --rm -it --gpus all --network host -v /data:/data pi0_ros \
#       ros2 launch pi0_ros pi0.launch.py checkpoint:=/data/my_pi0 params_file:=/data/my_arm.yaml
#
# torch's wheel brings CUDA; the driver is the host's, by NVIDIA's container toolkit.
FROM ros:jazzy-ros-base

ARG TORCH=2.13.0
# Another wheel index of PyTorch, where the host's driver is too old for the default's CUDA.
ARG TORCH_INDEX=

RUN apt-get update && apt-get install -y --no-install-recommends python3-pip gcc python3-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /ws
COPY requirements/robot.txt /tmp/robot.txt
# The system's Python is ROS's. apt's OpenCV needs NumPy 1. Triton compiles a launcher with gcc.
RUN pip install --no-cache-dir --break-system-packages ${TORCH_INDEX:+--index-url ${TORCH_INDEX}} \
    torch==${TORCH} && pip install --no-cache-dir --break-system-packages -r /tmp/robot.txt 'numpy<2'
COPY . src/pi0_ros
RUN . /opt/ros/jazzy/setup.sh && apt-get update && rosdep install --from-paths src --ignore-src -y \
    && colcon build --packages-select pi0_ros && rm -rf /var/lib/apt/lists/*
RUN printf '%s\n' '#!/bin/bash' '. /opt/ros/jazzy/setup.bash' '. /ws/install/setup.bash' \
    'exec "$@"' > /entrypoint.sh && chmod +x /entrypoint.sh
ENTRYPOINT ["/entrypoint.sh"]
