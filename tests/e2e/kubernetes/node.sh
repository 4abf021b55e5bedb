#!/bin/bash
# A node: containerd and a kubelet, in namespaces that the caller has made. The cable is there already.
#
#   node.sh NUMBER
set -euo pipefail
n=$1
cd "$WORK"
hostname "n$n"
for hierarchy in /sys/fs/cgroup/*/; do mkdir -p "$hierarchy/cnikit-e2e-n$n"; done
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/lock /run/etc/{upper,work} /run/e2e
mount --bind /run/netns /run/netns
mount --make-shared /run/netns
# Of /var/log, too: a kubelet removes logs of pods that it does not know.
for own in /var/lib /var/log /opt; do mount -t tmpfs -o mode=755 tmpfs "$own"; done
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work overlay /etc
rm -rf /etc/cni
mkdir -p /etc/cni/net.d /opt/cni/bin /var/lib/kubelet
# A plugin that was here before.
printf '#!/bin/sh\necho somebody elses\n' >/opt/cni/bin/portmap
chmod +x /opt/cni/bin/portmap
printf '%032x\n' "$n" >/etc/machine-id
ip link set lo up
ip address add "192.168.1.1$n/24" dev eth0
ip link set eth0 up
ip route add default via 192.168.1.1
# Of kube-proxy, what agents need.
nft "add table ip services; add chain ip services output { type nat hook output priority -100; }
     add rule ip services output ip daddr 10.96.0.1 tcp dport 443 dnat to 192.168.1.1:6443"
cat >/run/e2e/containerd.toml <<TOML
version = 2
root = "/run/e2e/containerd"
state = "/run/containerd"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "docker.io/library/busybox:test"
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
TOML
containerd --config /run/e2e/containerd.toml >"containerd-$n.log" 2>&1 &
until ctr version >/dev/null 2>&1; do sleep 0.2; done
for image in busybox.tar "$IMAGE_FILE"; do ctr -n k8s.io images import --snapshotter native "$image" >/dev/null; done
cat >/run/e2e/kubelet.yaml <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $WORK/ca.crt}}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
cgroupRoot: /cnikit-e2e-n$n
enforceNodeAllocatable: []
failSwapOn: false
resolvConf: ""
evictionHard: {memory.available: 1Mi}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
YAML
exec kubelet --config /run/e2e/kubelet.yaml --kubeconfig "node-$n.kubeconfig" --hostname-override "n$n" --node-ip "192.168.1.1$n" \
    --container-runtime remote --container-runtime-endpoint unix:///run/containerd/containerd.sock --cert-dir /run/e2e/pki \
    >"kubelet-$n.log" 2>&1
