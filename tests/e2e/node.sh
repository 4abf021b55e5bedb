# shellcheck shell=bash
# The node, and what is around it.

IMAGE=docker.io/library/busybox:test
# Every container's program, and that of a pod: it serves `hello`, and at `cgi-bin/who` the address of who asks.
SERVE=(httpd -f -p 8000 -h /www)

in_outside() { nsenter --net=/run/netns/outside "$@"; }

make_node() {
    hostname node
    ip link set lo up
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -p /run/netns /run/lock /run/etc/{upper,work} /run/e2e
    mount --bind /run/netns /run/netns
    mount --make-shared /run/netns
    mount -t tmpfs -o mode=755 tmpfs /var/lib
    mount -t tmpfs -o mode=755 tmpfs /opt
    mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work overlay /etc
    rm -rf /etc/cni
    mkdir -p /etc/cni/net.d /opt/cni/bin
    # crun 1.8 refuses a machine with both versions of cgroups.
    ! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified
    cd /run/e2e || exit
    make_outside
    make_image
}

# A machine that is not a node, and sees with which address somebody comes.
make_outside() {
    ip netns add outside
    ip link add uplink type veth peer name eth0 netns outside
    ip address add 192.0.2.1/24 dev uplink
    ip address add 2001:db8::1/64 dev uplink nodad
    ip link set uplink up
    in_outside ip address add 192.0.2.2/24 dev eth0
    in_outside ip address add 2001:db8::2/64 dev eth0 nodad
    in_outside ip link set eth0 up
    in_outside ip link set lo up
}

make_image() {
    local layer config
    mkdir -p image/root/{bin,etc,tmp,proc,sys,dev,www/cgi-bin}
    cp "$(command -v busybox)" image/root/bin/busybox
    busybox --list | grep -vx busybox | while read -r name; do ln -s busybox "image/root/bin/$name"; done
    echo 'root:x:0:0:root:/:/bin/sh' >image/root/etc/passwd
    echo hello >image/root/www/index.html
    # shellcheck disable=SC2016 # the server's shell expands that
    printf '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n%%s\\n" "$REMOTE_ADDR"\n' >image/root/www/cgi-bin/who
    chmod 755 image/root/www/cgi-bin/who
    tar -C image/root -cf image/layer.tar .
    layer=$(sha256sum <image/layer.tar | cut -d ' ' -f 1)
    jq --null-input --arg layer "sha256:$layer" --arg architecture "$(dpkg --print-architecture)" --arg command "${SERVE[*]}" \
        '{ $architecture, os: "linux", config: { Env: ["PATH=/bin"], Cmd: $command | split(" ") },
           rootfs: { type: "layers", diff_ids: [$layer] } }' >image/config.json
    config=$(sha256sum <image/config.json | cut -d ' ' -f 1)
    mv image/config.json "image/$config.json"
    jq --null-input --arg image "$IMAGE" --arg config "$config.json" \
        '[{ Config: $config, RepoTags: [$image], Layers: ["layer.tar"] }]' >image/manifest.json
    tar -C image -cf image.tar manifest.json "$config.json" layer.tar
    in_outside busybox httpd -p 8000 -h image/root/www
}

# The address that a server has seen, without the form that IPv4 has on a socket of IPv6.
seen() { tr -d '[]' | sed 's/^::ffff://'; }
# fetch URL [COMMAND...]: with a command before curl, where that runs. After an ADD of the reference's the node may still
# look for an earlier owner of the address, and what is sent is lost.
fetch() {
    local url=$1 patience=()
    ours || patience=(--retry 3 --retry-delay 1)
    shift
    "$@" curl --silent --show-error --connect-timeout 1 --max-time 5 "${patience[@]}" "$url"
}
# A server that says over UDP who asks. busybox has none, and so this one enters a container's network.
serve_udp() {
    # shellcheck disable=SC2016 # socat's shell expands that
    nsenter --net="$1" socat "UDP6-RECVFROM:$2,fork" 'SYSTEM:read -r question; echo "$SOCAT_PEERADDR"' &
    UDP_SERVER=$!
}
end_udp() {
    kill "$UDP_SERVER"
    wait "$UDP_SERVER" || true
}
# ask_udp ADDRESS PORT [COMMAND...]: the address that such a server sees, once it is there. Always from the same port: what
# the kernel remembers of earlier questions must not matter.
ask_udp() {
    local to="UDP:$1:$2,sourceport=40000,reuseaddr" answer=
    shift 2
    # shellcheck disable=SC2317 # it is called
    answered() {
        answer=$(echo who | "$@" socat -t 1 -T 1 - "$to" 2>/dev/null | tr -d '[]')
        [ -n "$answer" ]
    }
    eventually answered "$@" || return 0
    # socat writes all digits of an address.
    getent ahosts "$answer" | awk 'NR == 1 { print $1 }' | seen
}

# Which plugins there are.
install_plugins() {
    part "the plugins: $PLUGINS"
    if ours; then
        "$CNIKIT" install --bin-dir /opt/cni/bin >/dev/null
        # Nothing else can be executed.
        mount -t tmpfs tmpfs "$REFERENCE"
    else
        cp "$REFERENCE"/{bridge,host-local,loopback,portmap,firewall,tuning,bandwidth} /opt/cni/bin/
    fi
}

# The number of addresses that host-local has given out in a network.
leases() { find "/var/lib/cni/networks/$1" -maxdepth 1 -type f -name '[0-9a-f]*[.:]*' 2>/dev/null | wc -l; }

# attached WHAT WANTED: what `cnikit list` says is attached to this node, all of it well.
attached() {
    ours || return 0
    "$CNIKIT" list --json >list.json
    jq --exit-status 'all(.[]; .healthy)' list.json >/dev/null || fail "$1: not well: $(jq --compact-output . list.json)"
    expect "$1" "$2" "$(jq --raw-output '[.[] | "\(.network)/\(.interface)"] | sort | join(" ")' list.json)"
}

# Interfaces of the node that were not there before.
interfaces() { ip -json link | jq --raw-output '[.[].ifname] - ["lo", "uplink"] | sort | join(" ")'; }
