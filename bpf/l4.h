/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * L4 services, on the way in: a packet to a listener of mode L4 gets a backend's address
 * and port as its destination and goes on; the kernel routes it. The client's address
 * stays. kg_egress does the reverse for what comes back.
 *
 * A connection keeps its backend: it is looked up in kg_flows before anything is chosen.
 */
#ifndef KG_L4_H
#define KG_L4_H

#include "flow.h"
#include "translate.h"

/* How a packet ends, relative to KG_XDP_NOT_IP or KG_INGRESS_NOT_IP. */
enum end {
	NOT_IP = 0,
	NOT_OURS,
	PASSED,
	ALLOWED,
	DENIED,
	MALFORMED,
	L4_FORWARDED,
	L4_NEW,
	L4_ICMP,
	L4_FRAGMENT,
	L4_FRAGMENT_LOST,
	L4_NO_BACKEND,
	L4_SOURCE_REFUSED,
	L4_NO_ROOM,
};
_Static_assert(KG_XDP_NOT_IP + (int)L4_NO_ROOM == (int)KG_XDP_L4_NO_ROOM, "reasons of kg_xdp");
_Static_assert(KG_INGRESS_NOT_IP + (int)L4_NO_ROOM == (int)KG_INGRESS_L4_NO_ROOM,
	       "reasons of kg_ingress");

/* drops reports whether a packet that ends so is dropped. */
static __always_inline bool drops(enum end end)
{
	return end == DENIED || end == L4_SOURCE_REFUSED || end == L4_NO_ROOM;
}

/* remember_fragment lets later fragments of a packet follow its first. */
static __always_inline void remember_fragment(const struct packet *p,
					      const struct kg_address *address,
					      enum kg_direction direction)
{
	struct kg_fragment_key key = {
		.source = p->key.source,
		.destination = p->key.destination,
		.id = p->fragment_id,
		.protocol = p->key.protocol,
		.direction = direction,
	};
	struct kg_fragment value = {.address = *address};

	bpf_map_update_elem(&kg_fragments, &key, &value, BPF_ANY);
}

/* find_fragment returns where the first fragment of the packet went, or NULL. */
static __always_inline struct kg_fragment *find_fragment(const struct packet *p,
							 enum kg_direction direction)
{
	struct kg_fragment_key key = {
		.source = p->key.source,
		.destination = p->key.destination,
		.id = p->fragment_id,
		.protocol = p->key.protocol,
		.direction = direction,
	};

	return bpf_map_lookup_elem(&kg_fragments, &key);
}

/* find_l4_service returns the service of the L4 listener that a packet is for, or NULL. */
static __always_inline struct kg_service *find_l4_service(const struct packet *p, kg_service_id *id)
{
	struct kg_listener_key key = {
		.address = p->key.destination,
		.port = p->key.destination_port,
		.protocol = p->key.protocol,
	};
	struct kg_listener *listener = bpf_map_lookup_elem(&kg_listeners, &key);

	if (!listener || listener->mode != KG_MODE_L4)
		return NULL;
	*id = listener->service;
	return bpf_map_lookup_elem(&kg_services, id);
}

/* takes reports whether a restricted service takes flows from this source. */
static __always_inline bool takes(kg_service_id service, const struct kg_address *source)
{
	struct kg_source key = {.prefix_len = 32 + 128, .service = service, .address = *source};

	return bpf_map_lookup_elem(&kg_sources, &key);
}

/* forward sends a packet of a known or new flow to its backend. */
static __always_inline void forward(const struct hook *h, struct packet *p,
				    const struct kg_address *address, __be16 port)
{
	struct translation t = {.address = *address, .port = port};

	if (p->fragment)
		remember_fragment(p, address, KG_TO_BACKEND);
	translate(h, p, false, &t);
}

/*
 * open_flow chooses a backend for the first packet of a flow and sends it there. If that
 * backend knows the client's port from another listener (see taken), others are tried.
 *
 * A packet of a connection that we have forgotten, or that another node had before, ends
 * here as well; by its hash it goes to the backend that it had. Only RST leaves no entry.
 */
static __always_inline enum end open_flow(const struct hook *h, struct packet *p, __u64 now)
{
	struct kg_flow flow = {.state = KG_FLOW_OPENING, .seen_ns = now};
	struct kg_service *service = find_l4_service(p, &flow.service);
	__u32 hash, flags;

	if (!service)
		return PASSED;
	flags = service->flags;
	if (flags & KG_SERVICE_RESTRICTED && !takes(flow.service, &p->key.source))
		return L4_SOURCE_REFUSED;
	hash = hash_flow(&p->key, flags & KG_SERVICE_AFFINITY);
	for (int i = 0; i < KG_TRIES; i++) {
		struct kg_backend *backend = backend_at(service, hash, &flow.backend);

		if (!backend)
			return L4_NO_BACKEND;
		if (!taken(&p->key, backend, now)) {
			flow.address = backend->address;
			flow.port = backend->port;
			flow.generation = backend->generation;
			if (!p->rst && !store_flow(&kg_opening, &p->key, &flow))
				return L4_NO_ROOM;
			forward(h, p, &flow.address, flow.port);
			return L4_NEW;
		}
		hash = mix(hash, i);
	}
	return L4_NO_ROOM;
}

/*
 * stays reports whether a packet belongs to a flow that we know, so that nothing is chosen
 * anew. A TCP connection stays with its backend also when that is not ready any more; a
 * new connection (a SYN) and UDP, which has no connections, do not.
 */
static __always_inline bool stays(const struct packet *p, const struct kg_flow *flow, __u64 now)
{
	if (expired(flow, p->key.protocol, now))
		return false;
	if (p->key.protocol == IPPROTO_TCP && !(p->syn && !p->ack))
		return true;
	return flow->state < KG_FLOW_HALF_CLOSED && is_current(flow->backend, flow->generation);
}

/* to_backend handles a TCP or UDP packet, or its first fragment, that may be for an L4
 * listener. */
static __always_inline enum end to_backend(const struct hook *h, struct packet *p)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	bool open;
	struct kg_flow *flow;

	flow = find_flow(&p->key, &open);
	if (!flow || !stays(p, flow, now))
		return open_flow(h, p, now);
	/* A SYN that comes again says nothing about the client's having heard us. */
	if (!p->syn)
		keep(p, flow, open, now);
	forward(h, p, &flow->address, flow->port);
	return L4_FORWARDED;
}

/* follow_fragment sends a later fragment where its first went. Without that nobody can say
 * whose it is; the kernel drops it if it is nobody's. */
static __always_inline enum end follow_fragment(const struct hook *h, struct packet *p)
{
	struct kg_fragment *first = find_fragment(p, KG_TO_BACKEND);
	struct translation t = {};

	if (!first)
		return L4_FRAGMENT_LOST;
	t.address = first->address;
	translate(h, p, false, &t);
	return L4_FRAGMENT;
}

#endif
