/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The data layouts that the kernel programs, the agent and every proxy share.
 *
 * This is the one place where they are defined: loader/abi/types.go is generated
 * from the BTF of the compiled objects. Rules that all of them follow:
 *
 *  - Nothing is packed; padding is explicit and zero, because map keys are
 *    compared byte by byte.
 *  - Addresses are 16 bytes in network byte order, IPv4 as ::ffff:a.b.c.d, so that
 *    there is one key layout for both families.
 *  - A field that several parties read while one writes it fits one aligned
 *    machine word. Everything else is written before it is published (kg_block).
 *  - Any change of a layout or of a meaning raises KG_ABI.
 */
#ifndef KG_TYPES_H
#define KG_TYPES_H

#include <linux/types.h>

enum kg_constant {
	/* Version of everything below. Maps of another version are left alone and new ones
	 * are pinned in a folder beside them. */
	KG_ABI = 5,

	/* Proxy generations that can exist at once: the serving one and those draining. */
	KG_GENERATIONS = 4,
	/* Workers (reactors) of one generation. Worker ids are slot * this + index. */
	KG_GENERATION_WORKERS = 64,
	KG_WORKERS = KG_GENERATIONS * KG_GENERATION_WORKERS,
	/* A worker without work turns this often nevertheless, so that the agent sees it live. */
	KG_BEAT_MS = 200,
	/* Listening sockets of one worker; the socket's index is enum kg_socket. */
	KG_WORKER_SOCKETS = 4,
	KG_SOCKETS = KG_WORKERS * KG_WORKER_SOCKETS,

	/* Longest service name, "namespace/name:port", with its terminating zero. */
	KG_NAME_LEN = 256,

	/* Default sizes of the maps that --max-services etc. change at load. */
	KG_LISTENERS = 32768, /* two per service */
	KG_ADDRESSES = 4096,  /* one for each four services */
	KG_SERVICES = 16384,
	KG_BACKENDS = 32768,
	KG_SLOTS = 524288,
	KG_PREFIXES = 131072,
	/* Entries of kg_address_slots. */
	KG_ADDRESS_SLOTS = 1024,
	/* Words of kg_sieve_v4: two bits for each network of 24 bits. */
	KG_SIEVE_WORDS = 1 << 19,
	/* Entries of kg_sieve_v6 that are found by hash; one more says which lengths there are. */
	KG_SIEVE_SLOTS = 1 << 18,
	/* Entries of kg_sieve_hosts, and hosts of one: a line of the CPU's cache. */
	KG_SIEVE_BUCKETS = 1 << 16,
	KG_SIEVE_HOSTS = 4,
	KG_SOURCES = 16384,
	KG_FLOWS = 262144, /* entries: two per connection */
	KG_LOOSE = KG_FLOWS / 2,
	/* kg_flow.seen counts 2^this nanoseconds of CLOCK_MONOTONIC: 1.07 s, 146 years. */
	KG_FLOW_TICK = 30,
	KG_OPENING = 65536,
	KG_FRAGMENTS = 8192,
	KG_NODES = 1024,
	KG_LOCAL_BACKENDS = 16384,
	KG_RATES = 131072, /* cells: two per source */
	/* Uplinks of which kg_defence knows that kg_xdp counts there. */
	KG_COUNTED = 16,

	/* Bytes of kg_events. */
	KG_EVENT_BYTES = 1 << 18,
	/* Words of kg_watch.reasons. */
	KG_WATCH_WORDS = 2,

	/* Entries of kg_fabric: shares of the nodes come out even to a few percent. */
	KG_FABRIC_SLOTS = 16384,
	/* Nodes that may have a connection, by slot; see kg_owners. */
	KG_OWNERS = 3,

	/* Eight-byte words of one write to a sealed map. */
	KG_WRITE_WORDS = 4,
	/* Writes of one run of kg_publish: each makes the verifier follow the loop once more. */
	KG_WRITES = 64,
};

/* Ids start at 1; 0 means "none" everywhere. */
typedef __u32 kg_service_id;
typedef __u32 kg_backend_id;
typedef __u32 kg_worker_id;
/* A hash of the node's name, so that all nodes have the same for it. */
typedef __u32 kg_node_id;

enum kg_socket {
	KG_SOCKET_TCP4 = 0,
	KG_SOCKET_TCP6 = 1,
	KG_SOCKET_UDP4 = 2,
	KG_SOCKET_UDP6 = 3,
};

/* Network byte order; IPv4 is ::ffff:a.b.c.d. Aligned, because it is copied byte by byte
 * otherwise; it stands at multiples of 4 everywhere, as Go lays it out too. */
struct kg_address {
	__u8 bytes[16];
} __attribute__((aligned(4)));

enum kg_address_flag {
	KG_ADDRESS_L4 = 1, /* has listeners of mode L4: look for them */
	/* is on no interface of this node: only its listeners' ports answer */
	KG_ADDRESS_CLOSED = 2,
};

struct kg_address_info {
	__u32 flags; /* enum kg_address_flag */
	/* A bit for each ingress address, by a hash of its last 4 bytes (bit_of in strict.h):
	 * spares most packets the question whether their source is one. */
	__u32 others;
	/* Bit port * 40503 mod 65536 / 1024 for each port (host byte order) with an L4 listener:
	 * spares packets for the proxy the look into kg_flows. */
	__u64 l4_ports;
};

/* What an entry of kg_address_slots says about the addresses that belong there. */
enum kg_place {
	KG_PLACE_EMPTY = 0,   /* none of them is ours */
	KG_PLACE_ONE = 1,     /* this one is, no other */
	KG_PLACE_SEVERAL = 2, /* more than one is: ask kg_addresses */
};

/* Changes while programs read it: place is SEVERAL before and while the rest is written. */
struct kg_address_slot {
	struct kg_address address;
	struct kg_address_info info;
	__u32 place; /* enum kg_place */
	__u32 pad;
};

/* What makes a listener: exact address, port and protocol. */
struct kg_listener_key {
	struct kg_address address;
	__be16 port;   /* network byte order */
	__u8 protocol; /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 pad;
};

enum kg_mode {
	KG_MODE_L7 = 1, /* to a proxy worker, by sk_lookup */
	KG_MODE_L4 = 2, /* to a backend of .service, by kg_xdp or kg_ingress */
};

struct kg_listener {
	__u32 mode;            /* enum kg_mode */
	kg_service_id service; /* L4 only, else 0 */
};

/* LPM trie key: prefix_len counts from the first bit of the 16 bytes, so an IPv4
 * prefix of n bits has 96 + n. */
struct kg_prefix {
	__u32 prefix_len; /* bits, host byte order */
	struct kg_address address;
};

struct kg_prefix_info {
	__u32 source; /* bits of enum kg_prefix_source: who declares it */
};

enum kg_prefix_source {
	KG_PREFIX_CONFIG = 1,   /* flag, config file or ConfigMap */
	KG_PREFIX_OPERATOR = 2, /* kerngatectl */
};

/* How many connections clients begin, on one CPU; see cookie.h. */
struct kg_syns {
	__u64 since_ns;   /* CLOCK_MONOTONIC: when counting began */
	__u64 doubted_ns; /* until when they are taken for a flood */
	__u32 seen;       /* SYNs since then */
	__u32 pad;
};

/* What the sieve says about a source. It is computed from kg_deny and kg_allow, and never says
 * what they would not: it spares most packets the look into them. */
enum kg_sieved {
	KG_SIEVED_PASSES = 0, /* no prefix of kg_deny holds it */
	KG_SIEVED_HOSTS = 1,  /* one does if it is in kg_sieve_hosts, and none of kg_allow */
	KG_SIEVED_ASK = 2,    /* one may: ask kg_deny and kg_allow */
	KG_SIEVED_DENIED = 3, /* one does, and none of kg_allow */
};

/*
 * An entry of kg_sieve_v6, where prefixes of 16, 32, 48 and 64 bits are found by their hash.
 * Others stand for themselves by a shorter one of these, which says ASK. The last entry's
 * prefix has bit 0 for 16 bits, bit 1 for 32, ... if there are any.
 */
struct kg_sieve_slot {
	__u64 prefix; /* the first 64 bits, host byte order */
	/* Bits of the prefix, and enum kg_sieved * 2^32. No bits: several belong here, ASK. In one
	 * word, and without bits while the prefix is written: programs read meanwhile. */
	__u64 state;
};

/*
 * An entry of kg_sieve_hosts: denied addresses that belong there by their hash, each by its two
 * halves as they lie in memory. None ends in 64 zeroes: a place is free while its second half
 * is 0, which is so while the first is written.
 */
struct kg_host {
	__u64 first;
	__u64 second;
};

struct kg_sieve_bucket {
	struct kg_host hosts[KG_SIEVE_HOSTS];
};

/* LPM trie key of the sources that a restricted service takes. prefix_len counts from the
 * first bit of service, so that an IPv4 prefix of n bits has 32 + 96 + n. */
struct kg_source {
	__u32 prefix_len; /* bits, host byte order */
	kg_service_id service;
	struct kg_address address;
};

/*
 * A service's block of backend slots, as one 64-bit word so that a single aligned
 * store publishes a new block: bits 0-31 offset into kg_slots, 32-47 number of
 * slots, 48-63 generation (raised by each publication of this service).
 *
 * Reading protocol, the same in C and Go: load the word; read the slot and the
 * backend it names; load the word again. If it is unchanged, what was read belonged
 * to that block; if not, start again. The writer never touches a block or a backend
 * that a published word still reaches.
 */
enum kg_algorithm {
	KG_ALGORITHM_P2C = 0, /* power of two choices over requests in flight */
	KG_ALGORITHM_ROUND_ROBIN = 1,
	/* The block is a consistent-hash table: slot hash * count / 2^32 of a flow's hash. L4 only. */
	KG_ALGORITHM_MAGLEV = 2,
};

enum kg_service_flag {
	KG_SERVICE_IN_USE = 1,       /* the id is taken */
	KG_SERVICE_PREFER_LOCAL = 2, /* the block holds ready pods of this node alone, if any */
	KG_SERVICE_LOCAL_ONLY = 4,   /* the block holds pods of this node alone */
	KG_SERVICE_AFFINITY = 8,     /* L4: hash the client's address without its port */
	KG_SERVICE_RESTRICTED = 16,  /* L4: only sources in kg_sources */
};

struct kg_service {
	__u64 block;     /* see above; 0 slots = no endpoint */
	__u32 flags;     /* enum kg_service_flag */
	__u16 algorithm; /* enum kg_algorithm */
	__u16 pad;
};

/* "namespace/name:port", zero-terminated; what ids are restored from. */
struct kg_service_name {
	char name[KG_NAME_LEN];
};

/* Eight bytes, because the kernel lays out array entries in multiples of that. */
struct kg_slot {
	kg_backend_id backend;
	__u32 generation; /* kg_backend.generation when the block was written */
};

enum kg_backend_flag {
	KG_BACKEND_IN_USE = 1,
	KG_BACKEND_LOCAL = 2,    /* the pod runs on this node */
	KG_BACKEND_DRAINING = 4, /* terminating, but still serving */
};

/* Written by the agent alone. */
struct kg_backend {
	struct kg_address address;
	__be16 port; /* network byte order */
	__u8 protocol;
	__u8 flags;       /* enum kg_backend_flag */
	__u32 generation; /* raised when the id is given to another address and port */
	__u16 weight;     /* relative; 1 = normal */
	__u16 pad;
	kg_node_id node; /* 0 = unknown */
};

/* Which way a packet of an L4 flow goes. */
enum kg_direction {
	KG_TO_BACKEND = 0,
	KG_TO_CLIENT = 1,
};

/* A connection, or a UDP conversation, as the packets of one direction show it before they
 * are translated. Ports are in network byte order. */
struct kg_flow_key {
	struct kg_address source;
	struct kg_address destination;
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 direction; /* enum kg_direction */
	__u16 pad;
};

enum kg_flow_state {
	KG_FLOW_OPENING = 1, /* in kg_opening: nothing has confirmed it yet */
	KG_FLOW_OPEN = 2,
	KG_FLOW_HALF_CLOSED = 3, /* TCP: one side has sent FIN */
	KG_FLOW_CLOSED = 4,      /* TCP: both have, or one has sent RST */
	KG_FLOW_MOVED =
		5, /* left in kg_opening by earlier programs: the flow is in another table */
};

enum kg_flow_mark {
	KG_FLOW_CLIENT_FIN = 1, /* the client has sent FIN */
	KG_FLOW_BACKEND_FIN = 2,
	KG_FLOW_SUCCEEDED = 4, /* a SYN came for a new connection with the same addresses and
				* ports: kg_opening may hold its flow */
	KG_FLOW_ANSWERED = 8,  /* in kg_opening: .expected is valid; UDP: the backend has replied */
	KG_FLOW_FROM_SYN = 16, /* in kg_opening: the first packet was a SYN */
};

/* What becomes of the packets of one direction. State and age are kept in the entry
 * towards the backend; the other's are not used. */
struct kg_flow {
	struct kg_address address; /* the new destination, or towards the client the new source */
	__be16 port;               /* and its port */
	__u8 state;                /* enum kg_flow_state */
	__u8 marks;                /* enum kg_flow_mark */
	kg_backend_id backend;
	__u32 generation; /* kg_backend.generation when it was chosen */
	/* TCP, in kg_opening: the acknowledgement number that confirms the flow; of a one-way
	 * flow the sequence number. Host byte order. See confirms in flow.h. */
	__u32 expected;
	__u32 seen;      /* when the client was last heard, in ticks: KG_FLOW_TICK */
	kg_node_id node; /* that the backend is on, if packets are handed to it; else 0 */
};
/* With its key and 48 bytes of the kernel's, two lines of the CPU's cache. */
_Static_assert(sizeof(struct kg_flow_key) + sizeof(struct kg_flow) + 48 == 128, "flows fit lines");

/* Fragments after the first have no ports: they follow the first by these. */
struct kg_fragment_key {
	struct kg_address source;
	struct kg_address destination;
	__be32 id;
	__u8 protocol;
	__u8 direction; /* enum kg_direction */
	__u16 pad;
};

struct kg_fragment {
	struct kg_address address; /* as in kg_flow; not used with a node */
	kg_node_id node;           /* to which the first was handed, else 0 */
	__u8 kind;                 /* enum kg_tunnel_kind */
	__u8 pad[3];
};

/* What one node asks of another that it hands a packet to (bpf/tunnel.h). */
enum kg_tunnel_kind {
	KG_TUNNEL_BACKEND = 1, /* give it to this backend, which is a pod of yours */
	KG_TUNNEL_OWNER = 2,   /* the connection is yours, or may be */
};

enum kg_node_state {
	KG_NODE_SERVING = 1,
	KG_NODE_DRAINING = 2, /* keeps its connections, gets no new ones */
	KG_NODE_UNREADY = 3,  /* the same, and may be dead: asked last for a connection */
	KG_NODE_GONE = 4,     /* not a member any more; keeps its L4 flows for a while */
};

/* A node that runs Kerngate, and between which addresses packets travel to it. An address
 * of zeros: the node, or this one, has none of that family. */
struct kg_node {
	struct kg_address to4;
	struct kg_address from4; /* this node's own */
	struct kg_address to6;
	struct kg_address from6;
	__u32 state; /* enum kg_node_state */
	__u32 pad;
};

enum kg_node_address_flag {
	KG_NODE_SELF = 1, /* this node's own */
};

/* Whose an address is: packets are taken from these, at those with KG_NODE_SELF. */
struct kg_node_address {
	kg_node_id node;
	__u32 flags; /* enum kg_node_address_flag */
};

/*
 * Who has the connections of one slot: slot = hash of the connection / 2^18. The first is
 * the owner, who gets new ones. The others may have older ones, the likeliest first: who
 * owned the slot before it drained, or would own it if the owner had not come. 0: none.
 */
struct kg_owners {
	kg_node_id nodes[KG_OWNERS];
	__u32 pad;
};

/* A pod of this node that other nodes may name; the key is that of a listener. */
struct kg_local_backend {
	kg_backend_id backend;
	__u32 pad;
};

/* What one source may send; see bpf/rate.h. */
struct kg_defence {
	__u64 packet_ns;       /* that one packet has at the limit's rate; 0: no limit */
	__u64 packet_burst_ns; /* the same for as many as may come at once */
	__u64 connection_ns;
	__u64 connection_burst_ns;
	struct kg_address mask_v4; /* bits of an address that make the source */
	struct kg_address mask_v6;
	__u32 counted[KG_COUNTED]; /* indices of interfaces on which kg_xdp counts, then zeros */
};

/* A cell of the limits: when what was let through will have been paid off, CLOCK_MONOTONIC. */
struct kg_rate {
	__u64 packets_ns;
	__u64 connections_ns;
};

/*
 * Load of one backend as one proxy generation sees it; index = generation slot *
 * number of backends + backend id. A cache line each; written by that generation's
 * proxy with atomic adds, zeroed by the agent when the generation is gone, so what
 * a dead proxy had in flight is taken back.
 */
struct kg_backend_load {
	__u64 requests;   /* since the generation began */
	__u64 failures;   /* of these: no or broken response */
	__u32 in_flight;  /* now */
	__u32 latency_us; /* moving average of time to first byte */
	__u32 health; /* 0 = usable, else enum kg_health: give it nothing while others are usable */
	__u32 generation; /* kg_backend.generation these counts and the verdict belong to */
	/* What was found, enum kg_health. It differs from health, which is 0 then, while so
	 * many pods of its services are ill that passing over them would overload the rest. */
	__u32 verdict;
	__u32 ejections; /* of late, for answering badly: each makes the next last longer */
	__u64 found_ns;  /* CLOCK_MONOTONIC when the verdict changed last, 0 = never */
	__u64 pad[2];
};

/* Why a backend is not usable. The serving generation's verdict counts: it alone asks pods,
 * and those that drain or start copy it. */
enum kg_health {
	KG_HEALTH_EJECTED = 1, /* requests to it failed, one after the other */
	KG_HEALTH_CHECK = 2,   /* it fails the health check */
};

/* CLOCK_MONOTONIC, and the tick of the kernel's timer at which it was read. */
struct kg_clock {
	__u64 tick;
	__u64 ns;
};

/* What events are asked for. */
struct kg_watch {
	__u64 until_ns;                /* CLOCK_MONOTONIC; 0: nobody watches */
	__u64 since_ns;                /* when this watcher came */
	__u64 reasons[KG_WATCH_WORDS]; /* bit = enum kg_reason */
	__u32 per_second;              /* events per reason and CPU, at most */
	__u32 pad;
};

/* How much of per_second a reason has had on a CPU. */
struct kg_event_budget {
	__u64 since_ns; /* when this second began */
	__u32 spent;
	__u32 skipped; /* since the last event that went out */
};

/* What became of one packet. Addresses and ports as the packet has them when the program
 * ends; zero: it has none, or they were not found. */
struct kg_event {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	struct kg_address source;
	struct kg_address destination;
	__be16 source_port;
	__be16 destination_port;
	__u32 reason; /* enum kg_reason */
	__u32 ifindex;
	__u32 length;  /* bytes, from the Ethernet header on */
	__u32 skipped; /* packets of that reason since the CPU's last event that got none */
	__u8 protocol;
	__u8 pad[3];
};

/* One proxy worker; a cache line each; written by that worker alone. */
struct kg_worker {
	__u64 busy_since_ns; /* CLOCK_MONOTONIC when it left epoll_wait, 0 = waiting */
	__u32 connections;   /* open client connections */
	__u32 pending;       /* ready events of this turn not yet handled */
	__u64 accepted;      /* client connections ever */
	__u64 seen_ns;       /* CLOCK_MONOTONIC of its last turn; 0: it does not tell */
	__u64 pad[4];
};

enum kg_generation_state {
	KG_GENERATION_FREE = 0,
	KG_GENERATION_STARTING = 1,
	KG_GENERATION_SERVING = 2,
	KG_GENERATION_DRAINING = 3,
};

struct kg_generation {
	__u32 number; /* 1, 2, 3, ...; slot = number % KG_GENERATIONS */
	__u16 workers;
	__u16 state; /* enum kg_generation_state */
};

struct kg_meta {
	__u32 abi;           /* KG_ABI */
	__u32 serving;       /* generation number that gets new connections, 0 = none */
	__u64 agent_seen_ns; /* CLOCK_MONOTONIC of the agent's last write */
};

enum kg_table {
	KG_TABLE_SERVICES = 1,
	KG_TABLE_SLOTS = 2,
	KG_TABLE_BACKENDS = 3,
	KG_TABLE_GENERATIONS = 4,
	KG_TABLE_META = 5,
};

/* One write to a sealed map: the entry as it lies in memory, cut into the words that are
 * stored one by one. For kg_slots it is up to KG_WRITE_WORDS entries from index on. */
struct kg_write {
	__u32 table; /* enum kg_table */
	__u32 index;
	__u32 count; /* KG_TABLE_SLOTS only: entries, 1 to KG_WRITE_WORDS */
	__u32 pad;
	__u64 words[KG_WRITE_WORDS];
};

/* The argument of kg_publish. */
struct kg_write_list {
	__u64 list;  /* address of the struct kg_write[] in the agent */
	__u32 count; /* in: length of the list, at most KG_WRITES; out: how many were done */
	__u32 pad;
};

#endif
