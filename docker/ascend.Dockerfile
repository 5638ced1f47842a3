# pi0_ros on an Ascend host. Not built or run by this project: see docs/ascend.md.
#
#   docker build -f docker/ascend.Dockerfile -t pi0_ros .                          # Jazzy, Python 3.12
#   docker build -f docker/ascend.Dockerfile --build-arg ROS=humble -t pi0_ros .   # Python 3.10
#   docker build -f docker/ascend.Dockerfile --build-arg ROS=lyrical \
#       --build-arg TORCH=2.13.0 --build-arg TORCH_NPU=2.13.0 -t pi0_ros .         # Python 3.14
#   docker run --rm -it --network host --ipc=host \
#       --device /dev/davinci0 --device /dev/davinci_manager --device /dev/devmm_svm \
#       --device /dev/hisi_hdc -v /usr/local/Ascend/driver:/usr/local/Ascend/driver:ro \
#       -v /etc/ascend_install.info:/etc/ascend_install.info:ro \
#       -v /usr/local/dcmi:/usr/local/dcmi:ro -v /usr/local/bin/npu-smi:/usr/local/bin/npu-smi:ro \
#       -v /data:/data pi0_ros pi0 check --device npu:0 --out /data/check
#
# The driver is the host's; CANN is installed by pip into ROS's Python.
ARG ROS=jazzy
FROM ros:${ROS}-ros-base

ARG TORCH=2.12.0
ARG TORCH_NPU=2.12.0.post2
ARG CANN=9.1.0
# Operators of the card: 910b (Atlas A2) or a3.
ARG OPS=910b
# As Huawei's page "Installing CANN (Online Installation Using pip)" names it.
ARG CANN_INDEX=https://ascend.devcloud.huaweicloud.com/cann/pypi/simple
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

ENV PIP_NO_CACHE_DIR=1 PIP_BREAK_SYSTEM_PACKAGES=1
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /ws
COPY requirements/robot.txt /tmp/robot.txt
# The system's Python is ROS's: torch_npu has to be importable from it. apt's cv_bridge needs NumPy 1
# on Ubuntu 22.04 and 24.04. PyPI's torch is the build for CUDA, hence torch's own index.
RUN pip install --index-url ${TORCH_INDEX} torch==${TORCH} \
    && pip install torch_npu==${TORCH_NPU} -r /tmp/robot.txt \
        $(python3 -c 'import sys; print("numpy<2" if sys.version_info < (3, 13) else "numpy")') \
        decorator attrs psutil scipy \
    && pip install --extra-index-url ${CANN_INDEX} \
        ascend-cann-toolkit==${CANN} ascend-cann-${OPS}-ops==${CANN}
COPY . src/pi0_ros
RUN . /opt/ros/${ROS_DISTRO}/setup.sh && apt-get update \
    && rosdep install --from-paths src --ignore-src -y \
    && colcon build --packages-select pi0_ros && rm -rf /var/lib/apt/lists/*
ENV TORCH_DEVICE_BACKEND_AUTOLOAD=0
ENV LD_LIBRARY_PATH=/usr/local/Ascend/driver/lib64:/usr/local/Ascend/driver/lib64/common:/usr/local/Ascend/driver/lib64/driver
RUN python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > /site-packages
RUN printf '%s\n' '#!/bin/bash' '. /opt/ros/${ROS_DISTRO}/setup.bash' '. /ws/install/setup.bash' \
    ". $(cat /site-packages)/ascend/cann-${CANN}/set_env.sh" 'exec "$@"' > /entrypoint.sh \
    && chmod +x /entrypoint.sh
ENTRYPOINT ["/entrypoint.sh"]
