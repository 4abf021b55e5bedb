#!/bin/bash
# Real container runtimes run cnikit's plugins: Debian's containerd (`ctr run --cni`) and podman with its CNI backend.
#
#   tests/e2e-runtimes.sh                                    builds cnikit, and tests that
#   CNIKIT=target/HOST/debug/cnikit tests/e2e-runtimes.sh    tests that one, and the cnikit-plugins beside it
#
# As root; needs containerd runc podman crun conmon busybox-static containernetworking-plugins iptables nftables iproute2
# curl jq; takes a quarter of a minute. No internet: the image is Debian's static busybox. All processes, interfaces, mounts
# and files are in namespaces of their own, the files in memory, so nothing is left however this ends.
#
# bridge, host-local and loopback are cnikit's, put in place by `cnikit install`; portmap, firewall and tuning are the
# reference's, for the two are mixed on every node that changes from one to the other.
set -euo pipefail

REFERENCE=${CNIKIT_REFERENCE:-/usr/lib/cni}
IMAGE=docker.io/library/busybox:test

ok() { echo "ok: $*"; }
skip() { echo "SKIPPED: $*"; }
fail() { echo "FAIL: $*" >&2; exit 1; }

# expect WHAT WANTED GOT
expect() { [ "$3" = "$2" ] && ok "$1: ${2:-none}" || fail "$1: should be ${2:-none}, is ${3:-none}"; }

# eventually COMMAND...: until it succeeds, for 10 seconds.
eventually() {
    local deadline=$((SECONDS + 10))
    until "$@"; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.1
    done
}

#------------------------------------------------------------------------------------------- outside of the namespaces

if [ "${1-}" != inside ]; then
    [ "$(id -u)" = 0 ] || fail 'this must run as root: it makes namespaces, and containers in them'
    for program in ctr containerd runc podman crun conmon busybox iptables nft ip unshare nsenter curl jq \
        "$REFERENCE/portmap"; do
        command -v "$program" >/dev/null || fail "there is no $program"
    done
    if [ -z "${CNIKIT-}" ]; then
        cd "$(dirname "${BASH_SOURCE[0]}")/.."
        CNIKIT=$(cargo build --release --locked --package cnikit --bins --message-format json-render-diagnostics |
            jq --raw-output 'select(.reason == "compiler-artifact" and .target.name == "cnikit").executable // empty')
    fi
    # A runtime's environment would decide what it does; the time limit is for a runtime that hangs.
    exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
        CNIKIT="$(realpath "$CNIKIT")" CNIKIT_REFERENCE="$REFERENCE" \
        timeout --kill-after=5s 3m unshare --net --mount --uts --ipc --pid --fork --kill-child --mount-proc \
        --propagation private "$(realpath "${BASH_SOURCE[0]}")" inside
fi

#--------------------------------------------------------------------------------------------------------------- the node

# The first process of a PID namespace ignores what it has not asked for. Only cgroups are the whole machine's.
trap 'rmdir /sys/fs/cgroup/*/cnikit-e2e /sys/fs/cgroup/cnikit-e2e 2>/dev/null || true' EXIT
trap 'exit 143' TERM INT HUP

hostname node
ip link set lo up
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/lock /run/etc/{upper,work} /run/work
mount --bind /run/netns /run/netns
mount --make-shared /run/netns
mount -t tmpfs -o mode=755 tmpfs /var/lib
mount -t tmpfs -o mode=755 tmpfs /opt
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work overlay /etc
rm -rf /etc/cni
mkdir -p /etc/cni/net.d /opt/cni/bin
# crun 1.8 refuses a machine with both versions of cgroups.
! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified
cd /run/work

# A machine that is not a node, and sees with which address somebody comes. `cgi-bin/who` says that.
ip netns add outside
in_outside() { nsenter --net=/run/netns/outside "$@"; }
ip link add uplink type veth peer name eth0 netns outside
ip address add 192.0.2.1/24 dev uplink
ip address add 2001:db8::1/64 dev uplink nodad
ip link set uplink up
in_outside ip address add 192.0.2.2/24 dev eth0
in_outside ip address add 2001:db8::2/64 dev eth0 nodad
in_outside ip link set eth0 up

#-------------------------------------------------------------------------------------------------------------- the image

mkdir -p image/root/{bin,etc,tmp,proc,sys,dev,www/cgi-bin}
cp "$(command -v busybox)" image/root/bin/busybox
busybox --list | grep -vx busybox | while read -r name; do ln -s busybox "image/root/bin/$name"; done
echo 'root:x:0:0:root:/:/bin/sh' >image/root/etc/passwd
echo hello >image/root/www/index.html
printf '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n%%s\\n" "$REMOTE_ADDR"\n' >image/root/www/cgi-bin/who
chmod 755 image/root/www/cgi-bin/who
tar -C image/root -cf image/layer.tar .
layer=$(sha256sum <image/layer.tar | cut -d ' ' -f 1)
jq --null-input --arg layer "sha256:$layer" --arg architecture "$(dpkg --print-architecture)" \
    '{ $architecture, os: "linux", config: { Env: ["PATH=/bin"], Cmd: ["sleep", "infinity"] },
       rootfs: { type: "layers", diff_ids: [$layer] } }' >image/config.json
config=$(sha256sum <image/config.json | cut -d ' ' -f 1)
mv image/config.json "image/$config.json"
jq --null-input --arg image "$IMAGE" --arg config "$config.json" \
    '[{ Config: $config, RepoTags: [$image], Layers: ["layer.tar"] }]' >image/manifest.json
tar -C image -cf image.tar manifest.json "$config.json" layer.tar

in_outside busybox httpd -p 8000 -h image/root/www
SERVE=(httpd -f -p 8000 -h /www)
# The address that a server has seen, without the form that IPv4 has on a socket of IPv6.
seen() { tr -d '[]' | sed 's/^::ffff://'; }

#------------------------------------------------------------------------------------------------------------ the plugins

"$CNIKIT" install --bin-dir /opt/cni/bin --plugin bridge --plugin host-local --plugin loopback --json >installed.json
expect 'installed' 'bridge cnikit-plugins host-local loopback' "$(jq --raw-output '[.[].name] | sort | join(" ")' installed.json)"
for plugin in portmap firewall tuning bandwidth; do
    ln -s "$REFERENCE/$plugin" /opt/cni/bin/
done


# The number of addresses that host-local has given out in a network.
leases() { find "/var/lib/cni/networks/$1" -type f -name '[0-9a-f]*[.:]*' 2>/dev/null | wc -l; }

# attached WHAT WANTED: what `cnikit list` says is attached to this node, all of it well.
attached() {
    "$CNIKIT" list --json >list.json
    jq --exit-status 'all(.[]; .healthy)' list.json >/dev/null || fail "$1: not well: $(jq --compact-output . list.json)"
    expect "$1" "$2" "$(jq --raw-output '[.[] | "\(.network)/\(.interface)"] | sort | join(" ")' list.json)"
}

# Interfaces of the node that were not there before.
interfaces() { ip -json link | jq --raw-output '[.[].ifname] - ["lo", "uplink"] | sort | join(" ")'; }

# The number of addresses that are masqueraded, each an element of a map.
masqueraded() { nft --json list table inet cnikit | jq '[.nftables[].map.elem // [] | length] | add'; }

#------------------------------------------------------------------------------------------------------------- containerd

cat >/etc/cni/net.d/10-pods.conflist <<'CONFLIST'
{ "cniVersion": "1.0.0", "name": "pods", "plugins": [
    { "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
      "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.244.7.0/24" }], [{ "subnet": "fd00:244:7::/64" }]],
                "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }] } },
    { "type": "portmap", "capabilities": { "portMappings": true } } ] }
CONFLIST
cat >containerd.toml <<'TOML'
version = 2
root = "/run/work/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
TOML
containerd --config containerd.toml >containerd.log 2>&1 &
containerd=$!
ctr() { command ctr --namespace cnikit-e2e "$@"; }
eventually ctr version >/dev/null 2>&1 || fail "containerd does not start: $(tail -n 5 containerd.log)"
ctr images import --snapshotter native image.tar >/dev/null

# `ctr` attaches a container by /proc/PID/ns/net, after its program has started; it gives it no loopback. It detaches it
# when the program has ended, with an empty CNI_NETNS.
declare -A pods
start_pod() {
    ctr run --rm --cni --snapshotter native "$IMAGE" "$1" "${SERVE[@]}" </dev/null >"$1.log" 2>&1 &
    pods[$1]=$!
}
in_pod() { ctr tasks exec --exec-id "$RANDOM$RANDOM" "$@" </dev/null; }
addresses() { in_pod "$1" ip -o address show dev eth0 scope global | awk '{ print $4 }' | sort | paste -sd ' '; }
has_addresses() { [ "$(addresses "$1" 2>/dev/null | wc -w)" = 2 ]; }
start_pod one
eventually has_addresses one || fail "ctr run --cni: $(cat one.log)"
start_pod two
eventually has_addresses two || fail "ctr run --cni: $(cat two.log)"
expect 'ctr run --cni, the first container' '10.244.7.2/24 fd00:244:7::2/64' "$(addresses one)"
expect 'ctr run --cni, the second container' '10.244.7.3/24 fd00:244:7::3/64' "$(addresses two)"
in_pod two ping -c 1 -W 5 10.244.7.2 >/dev/null || fail 'ping from container to container'
in_pod two ping6 -c 1 -W 5 fd00:244:7::2 >/dev/null || fail 'ping from container to container (IPv6)'
ok 'ping from container to container, IPv4 and IPv6'
who_in_pod() { in_pod two wget -q -O - "http://$1:8000/cgi-bin/who" | seen; }
expect 'TCP from container to container, seen from' 10.244.7.3 "$(who_in_pod 10.244.7.2)"
expect 'the same, IPv6' fd00:244:7::3 "$(who_in_pod '[fd00:244:7::2]')"
expect 'TCP to the outside, seen from' 192.0.2.1 "$(who_in_pod 192.0.2.2)"
expect 'the same, IPv6' 2001:db8::1 "$(who_in_pod '[2001:db8::2]')"
attached 'cnikit list' 'pods/eth0 pods/eth0'
expect 'addresses masqueraded' 4 "$(masqueraded)"
for pod in one two; do
    ctr tasks kill --signal KILL "$pod"
    wait "${pods[$pod]}" || true
done
expect 'addresses after DEL with an empty CNI_NETNS' 0 "$(leases pods)"
attached 'attachments after it' ''
expect 'interfaces after it' cni0 "$(interfaces)"
kill "$containerd"
wait "$containerd" || true
skip 'CRI: no package of Debian 12 has a client for it'

#----------------------------------------------------------------------------------------------------------------- podman

# Rights that a container of a test may not have (CAP_SYS_RESOURCE, cgroups) are not asked for.
cat >containers.conf <<'CONF'
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
cgroups = "disabled"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
[network]
network_backend = "cni"
cni_plugin_dirs = ["/opt/cni/bin"]
network_config_dir = "/run/work/net.d"
CONF
cat >storage.conf <<'CONF'
[storage]
driver = "overlay"
graphroot = "/run/work/storage"
runroot = "/run/work/storage-run"
CONF
mkdir net.d
export CONTAINERS_CONF=$PWD/containers.conf CONTAINERS_STORAGE_CONF=$PWD/storage.conf
podman load --quiet --input image.tar >/dev/null
podman network create --subnet 10.90.1.0/24 first >/dev/null
podman network create --subnet 10.90.2.0/24 --ipv6 --subnet fd00:90:2::/64 second >/dev/null
for network in first second; do
    jq --exit-status '.plugins[0].type == "bridge"' "net.d/$network.conflist" >/dev/null || fail 'podman has not made a network of CNI'
done
# podman_addresses CONTAINER: with their interfaces, as its programs see them.
podman_addresses() { podman exec "$1" ip -o address show scope global | awk '{ print $2, $4 }' | sort | paste -sd ' '; }
mac() { podman exec "$1" cat /sys/class/net/eth0/address; }
who() { "$@" curl --silent --show-error --max-time 5 "$url/cgi-bin/who" | seen; }
who_in() { podman exec "$1" wget -q -O - "http://$2:8000/cgi-bin/who" | seen; }

# An address and a MAC come in CNI_ARGS.
podman run --detach --name web --network first:ip=10.90.1.77,mac=02:aa:bb:cc:dd:01 --network second \
    --publish 18081:8000 "$IMAGE" "${SERVE[@]}" >/dev/null
podman run --detach --name plain --network first --ip 10.90.1.99 --mac-address 02:aa:bb:cc:dd:02 "$IMAGE" >/dev/null
web='eth0 10.90.1.77/24 eth1 10.90.2.2/24 eth1 fd00:90:2::2/64'
expect 'podman, two networks' "$web" "$(podman_addresses web)"
expect 'podman --network name:mac=' 02:aa:bb:cc:dd:01 "$(mac web)"
expect 'podman --ip' 'eth0 10.90.1.99/24' "$(podman_addresses plain)"
expect 'podman --mac-address' 02:aa:bb:cc:dd:02 "$(mac plain)"
attached 'cnikit list' 'first/eth0 first/eth0 second/eth1'
eventually who_in plain 10.90.1.77 >/dev/null || fail 'the server does not answer'
expect 'container to container, seen from' 10.90.1.99 "$(who_in plain 10.90.1.77)"
expect 'container to the outside, seen from' 192.0.2.1 "$(who_in plain 192.0.2.2)"
expect 'the same, IPv6' 2001:db8::1 "$(who_in web '[2001:db8::2]')"

# published WHEN: the reference's portmap leads through our bridge.
published() {
    local body
    body=$(in_outside curl --silent --max-time 5 http://192.0.2.1:18081/) || true
    expect "published port, from the outside, $1" hello "$body"
    body=$(curl --silent --max-time 5 http://127.0.0.1:18081/) || true
    expect "published port, from the node, $1" hello "$body"
}
published 'after run'

podman network connect second plain
expect 'podman network connect' 'eth0 10.90.1.99/24 eth1 10.90.2.3/24 eth1 fd00:90:2::3/64' "$(podman_addresses plain)"
expect 'through the second network, seen from' 10.90.2.3 "$(who_in plain 10.90.2.2)"
expect 'the same, IPv6' fd00:90:2::3 "$(who_in plain '[fd00:90:2::2]')"
podman network disconnect second plain
expect 'podman network disconnect' 'eth0 10.90.1.99/24' "$(podman_addresses plain)"
podman network reload web >/dev/null
expect 'podman network reload' "$web" "$(podman_addresses web)"
published 'after reload'
podman restart --time 0 web >/dev/null
eventually who_in plain 10.90.1.77 >/dev/null || fail 'the server does not answer after a restart'
expect 'podman restart, the address asked for' 10.90.1.77/24 "$(podman_addresses web | awk '{ print $2 }')"
published 'after restart'
attached 'cnikit list' 'first/eth0 first/eth0 second/eth1'

# A plugin that refuses: an address that another container has.
if podman run --rm --name late --network first --ip 10.90.1.77 "$IMAGE" true >/dev/null 2>late.log; then
    fail 'podman gave one address to two containers'
fi
ok "the same address once more: $(tail -n 1 late.log)"

podman rm --force --time 0 web plain >/dev/null
expect 'addresses after podman rm' '0 0' "$(leases first) $(leases second)"
attached 'attachments after it' ''
podman network rm first second >/dev/null
expect 'interfaces after podman network rm' cni0 "$(interfaces)"

#----------------------------------------------------------------------------------------------------------- what is left

expect 'results in the cache' '' "$(find /var/lib/cni/results -type f -printf '%f ' 2>/dev/null || true)"
# The chains of networks stay, as their bridges do.
expect 'addresses masqueraded' 0 "$(masqueraded)"
# What there is of the reference's, it has made through iptables.
left=$({ iptables-save; ip6tables-save; } 2>/dev/null | grep --extended-regexp '10\.90\.|fd00:90:|18081' || true)
expect 'rules of iptables about containers' '' "$left"
echo PASS
