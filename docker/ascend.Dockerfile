# pi0_ros on an Ascend host with ROS 2 Jazzy. Not built or run by this project: see docs/ascend.md.
#
#   docker build -f docker/ascend.Dockerfile -t pi0_ros .
#   docker run --rm -it --network host \
#       --device /dev/davinci0 --device /dev/davinci_manager --device /dev/devmm_svm \
#       --device /dev/hisi_hdc -v /usr/local/Ascend/driver:/usr/local/Ascend/driver:ro \
#       -v /usr/local/dcmi:/usr/local/dcmi:ro -v /usr/local/bin/npu-smi:/usr/local/bin/npu-smi:ro \
#       -v /usr/local/Ascend/ascend-toolkit:/usr/local/Ascend/ascend-toolkit:ro \
#       -v /data:/data pi0_ros \
#       ros2 launch pi0_ros pi0.launch.py checkpoint:=/data/my_pi0 params_file:=/data/my_arm.yaml
#
# CANN's toolkit is mounted from the host; it must pair with TORCH_NPU.
FROM ros:jazzy-ros-base

ARG TORCH=2.9.0
ARG TORCH_NPU=2.9.0.post6

RUN apt-get update && apt-get install -y --no-install-recommends python3-pip && rm -rf /var/lib/apt/lists/*
WORKDIR /ws
COPY requirements/robot.txt /tmp/robot.txt
# The system's Python is ROS's: torch_npu has to be importable from it. apt's OpenCV needs NumPy 1.
RUN pip install --no-cache-dir --break-system-packages \
    torch==${TORCH} torch_npu==${TORCH_NPU} -r /tmp/robot.txt 'numpy<2' decorator attrs psutil scipy
COPY . src/pi0_ros
RUN . /opt/ros/jazzy/setup.sh && apt-get update && rosdep install --from-paths src --ignore-src -y \
    && colcon build --packages-select pi0_ros && rm -rf /var/lib/apt/lists/*
ENV TORCH_DEVICE_BACKEND_AUTOLOAD=0
RUN printf '%s\n' '#!/bin/bash' '. /opt/ros/jazzy/setup.bash' '. /ws/install/setup.bash' \
    '. /usr/local/Ascend/ascend-toolkit/set_env.sh' 'exec "$@"' > /entrypoint.sh && chmod +x /entrypoint.sh
ENTRYPOINT ["/entrypoint.sh"]
