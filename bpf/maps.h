/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * All maps. Names and types are what operators see in
 * `bpftool map dump pinned /sys/fs/bpf/kerngate/<name>`, so every key and value has BTF.
 *
 * "Sealed" maps are frozen (BPF_MAP_FREEZE) before anybody gets a descriptor: from then
 * on no system call and no writable mmap can change them, only kg_publish can, and only
 * the agent can run that. So their descriptors can be given to a proxy, which maps them
 * read-only. (A BPF_F_RDONLY descriptor would not do: the kernel refuses to mmap it.)
 *
 * Sizes marked "flag" are defaults, changed at load; loader/datapath checks the relations
 * between them (kg_service_names = kg_services; kg_backend_load = KG_GENERATIONS *
 * kg_backends).
 */
#ifndef KG_MAPS_H
#define KG_MAPS_H

#include "kernel.h"
#include "reasons.h"
#include "types.h"

/* Which addresses, ports and protocols are ours. Written by the agent; read by
 * kg_lookup, kg_xdp and kg_ingress. Full: the listener is not published and the agent says so;
 * the others stand. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, KG_LISTENERS);
	__type(key, struct kg_listener_key);
	__type(value, struct kg_listener);
} kg_listeners SEC(".maps");

/* The ingress addresses, for programs that judge packets before ports matter. Written by
 * the agent; read by kg_xdp, kg_ingress and kg_lookup. Full: as kg_listeners. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, KG_ADDRESSES);
	__type(key, struct kg_address);
	__type(value, struct kg_address_info);
} kg_addresses SEC(".maps");

/* The same by one look, for the programs on uplinks: index = address_slot(address). Written by
 * the agent from what kg_addresses holds. Cannot be full. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KG_ADDRESS_SLOTS);
	__type(key, __u32);
	__type(value, struct kg_address_slot);
} kg_address_slots SEC(".maps");

/* Listening sockets; index = worker id * KG_WORKER_SOCKETS + enum kg_socket, value = the
 * socket's cookie when read. Written by the agent; read by kg_lookup. A closed socket
 * leaves by itself; the map keeps none alive. Cannot be full: every index has its place. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, KG_SOCKETS);
	__type(key, __u32);
	__type(value, __u64);
} kg_sockets SEC(".maps");

/* Listening sockets of the agent whose filter drops every packet: what a SYN is given to while
 * no proxy serves, because sk_lookup itself can refuse but not drop; index = enum kg_socket, TCP
 * alone. Written by the agent; read by kg_lookup. Empty while no agent runs: SYNs are refused
 * then, unless an uplink has dropped them. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, KG_WORKER_SOCKETS);
	__type(key, __u32);
	__type(value, __u64);
} kg_sinks SEC(".maps");

/* How busy each worker is; index = worker id. Written by the proxies (each worker its own
 * line, through mmap); read by kg_lookup. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, KG_WORKERS);
	__type(key, kg_worker_id);
	__type(value, struct kg_worker);
} kg_workers SEC(".maps");

/* Sealed. Services by id (flag --max-services). Written by kg_publish; read by proxies.
 * Full: a further service is refused by name and answered with 503; the others stand. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, KG_SERVICES);
	__type(key, kg_service_id);
	__type(value, struct kg_service);
} kg_services SEC(".maps");

/* The services' names, same ids. Written by the agent before the id is used; read by
 * people, kerngatectl, and the next agent, which takes the ids over from it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KG_SERVICES);
	__type(key, kg_service_id);
	__type(value, struct kg_service_name);
} kg_service_names SEC(".maps");

/* Sealed. Blocks of backend ids, one block per published service (flag --max-slots).
 * Written by kg_publish where no published block lies; read by proxies. Full (or too
 * fragmented): the service keeps its previous block and the agent says so. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, KG_SLOTS);
	__type(key, __u32);
	__type(value, struct kg_slot);
} kg_slots SEC(".maps");

/* Sealed. Backends by id (flag --max-backends). Written by kg_publish; read by proxies.
 * Full: as kg_slots. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, KG_BACKENDS);
	__type(key, kg_backend_id);
	__type(value, struct kg_backend);
} kg_backends SEC(".maps");

/* Load per backend and proxy generation; index = generation slot * size of kg_backends +
 * backend id. Written by the proxies (through mmap); read by them, kerngatectl and the
 * agent's metrics. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, KG_GENERATIONS *KG_BACKENDS);
	__type(key, __u32);
	__type(value, struct kg_backend_load);
} kg_backend_load SEC(".maps");

/* Sealed. Proxy generations by slot. Written by kg_publish; read by kg_lookup and proxies. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, KG_GENERATIONS);
	__type(key, __u32);
	__type(value, struct kg_generation);
} kg_generations SEC(".maps");

/* Sealed. One entry: layout version, the serving generation. Written by kg_publish; read
 * by kg_lookup and everybody who opens the maps. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct kg_meta);
} kg_meta SEC(".maps");

/* Source prefixes whose packets to an ingress address are dropped (flag --max-prefixes;
 * memory is taken as entries come). Written by the agent and kerngatectl; read by kg_xdp.
 * Full: the prefix is refused by name; the others stand. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, KG_PREFIXES);
	__type(key, struct kg_prefix);
	__type(value, struct kg_prefix_info);
} kg_deny SEC(".maps");

/* Exceptions from kg_deny: a source in both passes. As kg_deny. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, KG_PREFIXES);
	__type(key, struct kg_prefix);
	__type(value, struct kg_prefix_info);
} kg_allow SEC(".maps");

/* One entry: what one source may send. Written by the agent, or by who changes the limits;
 * read by kg_xdp and kg_ingress. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct kg_defence);
} kg_defence SEC(".maps");

/* What sources have sent; two halves, by two hashes of the source (flag --max-sources).
 * Written by kg_xdp and kg_ingress. Cannot be full: sources share cells; see rate.h. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KG_RATES);
	__type(key, __u32);
	__type(value, struct kg_rate);
} kg_rate SEC(".maps");

/* What kg_deny and kg_allow say about each IPv4 network of 24 bits, 32 to a word, the lowest
 * two bits first (enum kg_sieved); index = network / 32. Written through mmap by whoever
 * changes the lists, after them. Cannot be full. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, KG_SIEVE_WORDS);
	__type(key, __u32);
	__type(value, __u64);
} kg_sieve_v4 SEC(".maps");

/* The same about IPv6 prefixes; index = sieve_slot(prefix, bits). */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, KG_SIEVE_SLOTS + 1);
	__type(key, __u32);
	__type(value, struct kg_sieve_slot);
} kg_sieve_v6 SEC(".maps");

/* Denied addresses of networks of which nothing else is denied; index = host_bucket(address). */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, KG_SIEVE_BUCKETS);
	__type(key, __u32);
	__type(value, struct kg_sieve_bucket);
} kg_sieve_hosts SEC(".maps");

/* The rate of SYNs to the proxies, by CPU. Written and read by kg_xdp and kg_ingress. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct kg_syns);
} kg_syns SEC(".maps");

/* The sources that restricted L4 services take (loadBalancerSourceRanges; memory is taken
 * as entries come). Written by the agent; read by kg_xdp and kg_ingress for new flows.
 * Full: the range is refused by name, and so its sources; the others stand. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, KG_SOURCES);
	__type(key, struct kg_source);
	__type(value, struct kg_prefix_info);
} kg_sources SEC(".maps");

/* TCP connections of L4 services whose client has acknowledged what the backend sent, two
 * entries each: towards the backend and back (flag --max-flows). Nobody can do that with a
 * forged source address, so forged packets push out none of them. Written by kg_xdp, kg_ingress
 * and kg_egress; the agent removes what has expired. Full: the least recently used one is
 * forgotten; its next packet is placed by hash, which finds the same backend unless the ready
 * ones have changed. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, KG_FLOWS);
	__type(key, struct kg_flow_key);
	__type(value, struct kg_flow);
} kg_flows SEC(".maps");

/* Flows that cannot be confirmed like that: UDP flows whose backend has replied and whose
 * client was heard afterwards, and TCP connections of which this node sees one direction only,
 * because another node answers the client (DSR). Half the size of kg_flows. A flood of forged
 * packets can push out entries here. Everything else as kg_flows. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, KG_LOOSE);
	__type(key, struct kg_flow_key);
	__type(value, struct kg_flow);
} kg_loose SEC(".maps");

/* Flows that nothing has confirmed yet. A map of its own, so that a flood of SYNs or
 * datagrams pushes out nothing but its like. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, KG_OPENING);
	__type(key, struct kg_flow_key);
	__type(value, struct kg_flow);
} kg_opening SEC(".maps");

/* Where the first fragment of a packet went. Written and read by kg_xdp, kg_ingress and
 * kg_egress. Full: the least recently used one is forgotten; its later fragments are lost. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, KG_FRAGMENTS);
	__type(key, struct kg_fragment_key);
	__type(value, struct kg_fragment);
} kg_fragments SEC(".maps");

/* The nodes that run Kerngate (flag --fabric-peer, or the endpoints of --fabric-service).
 * Written by the agent; read by kg_xdp and kg_ingress. Full: the node is refused by name;
 * packets to it are dropped, and none taken from it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, KG_NODES);
	__type(key, kg_node_id);
	__type(value, struct kg_node);
} kg_nodes SEC(".maps");

/* Their addresses. As kg_nodes. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, KG_NODES * 2);
	__type(key, struct kg_address);
	__type(value, struct kg_node_address);
} kg_node_addresses SEC(".maps");

/* Which node has the connections of a slot. Written by the agent, slot by slot: each node
 * computes the same. Read by kg_xdp and kg_ingress. Cannot be full. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KG_FABRIC_SLOTS);
	__type(key, __u32);
	__type(value, struct kg_owners);
} kg_fabric SEC(".maps");

/* Pods of this node behind L4 services: what other nodes may name as the backend of a
 * packet. Written by the agent; read by kg_xdp and kg_ingress for new flows. Full: the pod
 * is refused by name, and with it packets that other nodes hand over for it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, KG_LOCAL_BACKENDS);
	__type(key, struct kg_listener_key);
	__type(value, struct kg_local_backend);
} kg_local_backends SEC(".maps");

/* What now_ns returned last on each CPU. Written and read by kg_xdp and kg_ingress. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct kg_clock);
} kg_clock SEC(".maps");

/* What becomes of single packets, while somebody watches. Written by kg_xdp and kg_ingress;
 * read by kerngatectl. Full: the event is left out and counted with the next. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, KG_EVENT_BYTES);
} kg_events SEC(".maps");

/* Which of them, how many and until when. Written by kerngatectl, and by the agent when
 * whoever asked is gone; read by kg_xdp and kg_ingress. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct kg_watch);
} kg_watch SEC(".maps");

/* How many have gone out this second. Written and read by kg_xdp and kg_ingress. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, KG_REASONS);
	__type(key, enum kg_reason);
	__type(value, struct kg_event_budget);
} kg_event_budgets SEC(".maps");

/* Packets or connection attempts per enum kg_reason. Written by every program; read by
 * metrics and kerngatectl, which add up the CPUs. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, KG_REASONS);
	__type(key, enum kg_reason);
	__type(value, __u64);
} kg_counters SEC(".maps");

/* count notes why a program ends (or what it met on its way). */
static __always_inline void count(enum kg_reason reason)
{
	__u32 key = reason;
	__u64 *packets = bpf_map_lookup_elem(&kg_counters, &key);

	if (packets)
		(*packets)++;
}

#endif
