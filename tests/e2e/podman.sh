# shellcheck shell=bash
# podman with its CNI backend: what it writes into its configurations is bridge, portmap, firewall and tuning.

# test_podman POLICY: on a node whose firewall accepts or drops what it has no word for.
test_podman() {
    part "$(podman --version), iptables --policy FORWARD $1"
    iptables --policy FORWARD "$1"
    ip6tables --policy FORWARD "$1"
    case $1 in
    ACCEPT) from_outside=192.0.2.2 ;;
    # The reference lets pass what containers begin, and answers; nobody outside can begin.
    DROP) from_outside= ;;
    esac
    local before
    before=$(interfaces)
    configure_podman
    podman network create --subnet 10.90.1.0/24 first >/dev/null
    podman network create --subnet 10.90.2.0/24 --ipv6 --subnet fd00:90:2::/64 second >/dev/null
    podman network create --subnet 10.90.3.0/24 --internal closed >/dev/null
    expect 'plugins of a network of podman' 'bridge firewall portmap tuning' \
        "$(jq --raw-output '.plugins[].type' net.d/first.conflist | one_line)"
    containers_with_addresses
    published_ports
    networks_come_and_go
    containers_restart
    an_internal_network
    pods_of_podman
    refusals_of_podman
    podman rm --force --time 0 web plain >/dev/null
    expect 'addresses after podman rm' '0 0' "$(leases first) $(leases second)"
    attached 'attachments after it' ''
    podman network rm first second closed >/dev/null
    iptables --policy FORWARD ACCEPT
    ip6tables --policy FORWARD ACCEPT
    expect 'interfaces after podman network rm' "$before" "$(interfaces)"
}

# Rights that a container of a test may not have (CAP_SYS_RESOURCE, cgroups) are not asked for.
configure_podman() {
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
network_config_dir = "/run/e2e/net.d"
CONF
    cat >storage.conf <<'CONF'
[storage]
driver = "overlay"
graphroot = "/run/e2e/storage"
runroot = "/run/e2e/storage-run"
CONF
    mkdir -p net.d
    export CONTAINERS_CONF=$PWD/containers.conf CONTAINERS_STORAGE_CONF=$PWD/storage.conf
    podman load --quiet --input image.tar >/dev/null
}

# run_container NAME [OPTION...]
run_container() {
    local name=$1
    shift
    podman run --detach --name "$name" "$@" "$IMAGE" >/dev/null
}
# With their interfaces, as the container's programs see them.
podman_addresses() { podman exec "$1" ip -o address show scope global | awk '{ print $2, $4 }' | one_line; }
mac() { podman exec "$1" cat /sys/class/net/eth0/address; }
# who_in CONTAINER ADDRESS: as whom the container is seen there.
who_in() { podman exec "$1" timeout 5 wget -q -O - "http://$2:8000/cgi-bin/who" | seen; }
netns_of_container() { podman inspect --format '{{ .NetworkSettings.SandboxKey }}' "$1"; }

WEB='eth0 10.90.1.77/24 eth1 10.90.2.2/24 eth1 fd00:90:2::2/64'

containers_with_addresses() {
    # An address and a MAC come in CNI_ARGS.
    run_container web --network first:ip=10.90.1.77,mac=02:aa:bb:cc:dd:01,interface_name=eth0 \
        --network second:interface_name=eth1 \
        --publish 18081:8000 --publish 18082-18084:7999-8001 --publish 192.0.2.1:18085:8000 \
        --publish 127.0.0.1:18086:8000
    run_container plain --network first --ip 10.90.1.99 --mac-address 02:aa:bb:cc:dd:02 --publish 18087:9000/udp
    expect 'podman, two networks' "$WEB" "$(podman_addresses web)"
    expect 'podman --network name:mac=' 02:aa:bb:cc:dd:01 "$(mac web)"
    expect 'podman --ip' 'eth0 10.90.1.99/24' "$(podman_addresses plain)"
    expect 'podman --mac-address' 02:aa:bb:cc:dd:02 "$(mac plain)"
    attached 'cnikit list' 'first/eth0 first/eth0 second/eth1'
    eventually who_in plain 10.90.1.77 >/dev/null || fail 'the server does not answer'
    expect 'container to container, seen from' 10.90.1.99 "$(who_in plain 10.90.1.77)"
    expect 'container to the outside, seen from' 192.0.2.1 "$(who_in plain 192.0.2.2)"
    expect 'the same, IPv6' 2001:db8::1 "$(who_in web '[2001:db8::2]')"
}

# published WHEN
published() {
    expect "published port, from the outside, $1" "$from_outside" "$(fetch http://192.0.2.1:18081/cgi-bin/who in_outside 2>/dev/null | seen)"
    expect "published port, from the node, $1" hello "$(fetch http://127.0.0.1:18081/)"
}

published_ports() {
    published 'after run'
    expect 'of a range' hello "$(fetch http://192.0.2.1:18083/)"
    expect 'of a host address' hello "$(fetch http://192.0.2.1:18085/)"
    refused fetch http://127.0.0.1:18085/
    expect 'the same, 127.0.0.1' hello "$(fetch http://127.0.0.1:18086/)"
    refused fetch http://192.0.2.1:18086/
    expect 'from another container' hello "$(podman exec plain wget -q -O - http://192.0.2.1:18081/)"
    serve_udp "$(netns_of_container plain)" 9000
    expect 'UDP' 192.0.2.1 "$(ask_udp 192.0.2.1 18087)"
    end_udp
}

networks_come_and_go() {
    podman network connect second plain
    expect 'podman network connect' 'eth0 10.90.1.99/24 eth1 10.90.2.3/24 eth1 fd00:90:2::3/64' "$(podman_addresses plain)"
    expect 'through the second network, seen from' 10.90.2.3 "$(who_in plain 10.90.2.2)"
    expect 'the same, IPv6' fd00:90:2::3 "$(who_in plain '[fd00:90:2::2]')"
    podman network disconnect second plain
    expect 'podman network disconnect' 'eth0 10.90.1.99/24' "$(podman_addresses plain)"
    podman network reload web >/dev/null
    expect 'podman network reload' "$WEB" "$(podman_addresses web)"
    published 'after reload'
    # Both networks have the ports; now the second has them alone.
    podman network disconnect first web
    published 'through the second network, without the first'
    # With the same MAC address: a container that talked to it remembers that.
    podman network connect --ip 10.90.1.77 --mac-address 02:aa:bb:cc:dd:01 first web
    published 'after the first is there again'
}

containers_restart() {
    podman restart --time 0 web >/dev/null
    eventually who_in plain 10.90.1.77 >/dev/null || fail 'the server does not answer after a restart'
    published 'after restart'
    attached 'cnikit list' 'first/eth0 first/eth0 second/eth1'
}

an_internal_network() {
    run_container inner --network closed
    run_container inner-client --network closed
    expect 'podman network create --internal, routes' '10.90.3.0/24' "$(podman exec inner ip route | cut -d ' ' -f 1)"
    eventually who_in inner-client "$(podman_addresses inner | sed 's/.* \(.*\)\/.*/\1/')" >/dev/null || fail 'the server does not answer inside'
    ok 'containers of an internal network talk'
    refused podman exec inner wget -q -O - http://192.0.2.2:8000/
    podman rm --force --time 0 inner inner-client >/dev/null
}

pods_of_podman() {
    podman pod create --name pod --infra-image "$IMAGE" --network second --publish 18090:8000 >/dev/null
    podman run --detach --pod pod --name member "$IMAGE" sleep infinity >/dev/null
    expect 'pod, the addresses of a container' 'eth0 10.90.2.4/24 eth0 fd00:90:2::4/64' "$(podman_addresses member)"
    # The infra container's program is the image's, the server.
    eventually fetch http://127.0.0.1:18090/ >/dev/null 2>&1 || fail 'the port of a pod does not answer'
    expect 'published port of a pod' hello "$(fetch http://192.0.2.1:18090/)"
    podman pod rm --force --time 0 pod >/dev/null
    refused fetch http://192.0.2.1:18090/
}

refusals_of_podman() {
    # An address that another container has.
    refused podman run --rm --name late --network first --ip 10.90.1.77 "$IMAGE" true
    # A configuration in which a later plugin refuses.
    jq '.name = "broken" | .plugins[0].bridge = "cni-broken" | .plugins[0].ipam.ranges = [[{ "subnet": "10.90.4.0/24" }]]
        | (.plugins[] | select(.type == "tuning")) |= . + { "sysctl": { "net.ipv4.conf.none.nothing": "1" } }' \
        net.d/first.conflist >net.d/broken.conflist
    refused podman run --rm --name late --network broken "$IMAGE" true
    ! ours || expect 'addresses after it' 0 "$(leases broken)"
    podman network rm broken >/dev/null
}
