/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * L4 services, on the way in: a packet to a listener of mode L4 gets a backend's address
 * and port as its destination and goes on; the kernel routes it. The client's address
 * stays. kg_egress does the reverse for what comes back. A packet to a backend of another
 * node is handed to that node as it is, which then does the same.
 *
 * A connection keeps its backend: it is looked up in kg_flows before anything is chosen.
 */
#ifndef KG_L4_H
#define KG_L4_H

#include "fabric.h"
#include "listener.h"
#include "rate.h"
#include "translate.h"
#include "verdict.h"

/* remember_first lets later fragments of a packet follow its first, which goes to an address
 * or, if out is not NULL, to a node. Not static, so that it has a stack of its own. */
__noinline int remember_first(const struct kg_flow_key *first, __be32 id,
			      const struct kg_address *address, const struct passage *out)
{
	struct kg_fragment_key key = {};
	struct kg_fragment value = {};

	if (!first || !address)
		return -1;
	key.source = first->source;
	key.destination = first->destination;
	key.id = id;
	key.protocol = first->protocol;
	key.direction = first->direction;
	value.address = *address;
	if (out) {
		value.node = out->node;
		value.kind = out->kind;
	}
	return bpf_map_update_elem(&kg_fragments, &key, &value, BPF_ANY);
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
	struct kg_listener *listener = find_listener(&p->key);

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

/* forward sends a packet of a known or new flow to its backend, and returns how it ends:
 * as given, unless the backend is on another node. */
static __always_inline enum verdict forward(const struct hook *h, struct packet *p,
					    const struct kg_flow *flow, enum verdict here)
{
	struct translation t = {.address = flow->address, .port = flow->port};

	if (kg_tunnel_port && flow->node && flow->node != kg_self) {
		struct passage *out = h->out;

		out->node = flow->node;
		out->kind = KG_TUNNEL_BACKEND;
		out->hops = h->in->hops + 1;
		out->backend = flow->address;
		out->port = flow->port;
		if (p->fragment)
			remember_first(&p->key, p->fragment_id, &flow->address, out);
		return NODE_BACKEND;
	}
	if (p->fragment)
		remember_first(&p->key, p->fragment_id, &flow->address, NULL);
	translate(h, p, false, &t);
	return here;
}

/* to_owner returns how a packet ends that belongs on another node (see seek_owner), or
 * PASSED if it stays. */
static __always_inline enum verdict to_owner(const struct hook *h, const struct packet *p,
					     const struct kg_flow_key *key, bool connected)
{
	enum sought sought;

	if (!kg_fabric_on || !kg_tunnel_port || h->in->kind == KG_TUNNEL_BACKEND)
		return PASSED;
	sought = seek_owner(key, connected, h->in, h->out);
	if (sought == STAYS)
		return PASSED;
	if (p->fragment)
		remember_first(&p->key, p->fragment_id, &key->destination, h->out);
	return sought == WITH_OWNER ? NODE_OWNER : NODE_SECOND;
}

/* begins reports whether a packet may be the first of a flow: a SYN, or any datagram. */
static __always_inline bool begins(const struct packet *p)
{
	return p->key.protocol != IPPROTO_TCP || (p->syn && !p->ack);
}

/* store_new stores a flow that a packet opens, and reports whether there was room. */
static __always_inline bool store_new(const struct packet *p, struct kg_flow *flow,
				      enum claim claim)
{
	if (claim == SAME_LISTENER && !begins(p)) {
		flow->state = KG_FLOW_OPEN;
		flow->marks = 0;
		return store_settled(&p->key, flow, false);
	}
	return store_opening(&p->key, flow);
}

/*
 * open_flow chooses a backend for the first packet of a flow and sends it there. If that
 * backend knows the client's port from another listener (see taken), others are tried.
 *
 * A packet of a connection that we have forgotten, or that another node had before, ends
 * here as well; by its hash it goes to the backend that it had. If kg_flows still has the
 * entry of that backend's replies, the flow is proven. Only RST leaves no entry.
 */
static __always_inline enum verdict open_flow(const struct hook *h, struct packet *p, __u32 now)
{
	struct kg_flow flow = {.state = KG_FLOW_OPENING, .seen = now};
	kg_service_id id;
	struct kg_service *service = find_l4_service(p, &id);
	__u32 hash, flags;
	enum verdict verdict;

	if (!service)
		return PASSED;
	flags = service->flags;
	/* TCP's connections have been counted by their SYN. */
	if (p->key.protocol == IPPROTO_UDP && !h->in->kind &&
	    spend(&p->key.source, p->v6, LIMIT_CONNECTIONS))
		return RATE_CONNECTIONS;
	if (flags & KG_SERVICE_RESTRICTED && !takes(id, &p->key.source))
		return L4_SOURCE_REFUSED;
	/* What has pods of this node alone is served where the network brings it. */
	if (!(flags & KG_SERVICE_LOCAL_ONLY)) {
		verdict = to_owner(h, p, &p->key, is_connected(p));
		if (verdict != PASSED)
			return verdict;
	}
	hash = hash_flow(&p->key, flags & KG_SERVICE_AFFINITY);
	for (int i = 0; i < KG_TRIES; i++) {
		struct kg_backend *backend;
		enum claim claim;

		flow.backend = choose_backend(id, hash);
		backend = bpf_map_lookup_elem(&kg_backends, &flow.backend);
		if (!flow.backend || !backend)
			return L4_NO_BACKEND;
		claim = taken(&p->key, &backend->address, backend->port, now);
		if (claim != OTHER_LISTENER) {
			flow.address = backend->address;
			flow.port = backend->port;
			flow.generation = backend->generation;
			if (kg_dsr && !(backend->flags & KG_BACKEND_LOCAL))
				flow.node = backend->node;
			expect_next(p, &flow, h->end);
			if (!p->rst && !store_new(p, &flow, claim))
				return L4_NO_ROOM;
			return forward(h, p, &flow, L4_NEW);
		}
		hash = mix(hash, i);
	}
	return L4_NO_ROOM;
}

/*
 * take_over opens the flow of a packet for which another node has chosen the backend: a pod
 * of this node, and of an L4 service, or it is refused.
 */
static __always_inline enum verdict take_over(const struct hook *h, struct packet *p, __u32 now)
{
	struct kg_flow flow = {
		.address = h->in->backend,
		.port = h->in->port,
		.state = KG_FLOW_OPENING,
		.seen = now,
	};
	struct kg_listener_key key = {
		.address = h->in->backend,
		.port = h->in->port,
		.protocol = p->key.protocol,
	};
	struct kg_local_backend *local;
	struct kg_backend *backend;
	kg_service_id id;
	enum claim claim;

	if (!find_l4_service(p, &id))
		return NODE_TARGET;
	local = bpf_map_lookup_elem(&kg_local_backends, &key);
	if (!local)
		return NODE_TARGET;
	flow.backend = local->backend;
	backend = bpf_map_lookup_elem(&kg_backends, &flow.backend);
	if (!backend)
		return NODE_TARGET;
	flow.generation = backend->generation;
	claim = taken(&p->key, &flow.address, flow.port, now);
	if (claim == OTHER_LISTENER)
		return L4_NO_ROOM;
	expect_next(p, &flow, h->end);
	if (!p->rst && !store_new(p, &flow, claim))
		return L4_NO_ROOM;
	return forward(h, p, &flow, L4_NEW);
}

/*
 * belongs reports whether a packet belongs to a flow that we know, so that no backend is
 * chosen. A TCP connection stays with its backend even when that is no longer ready; a new
 * connection (a SYN) and UDP, which has no connections, do not. A packet that another node
 * has handed over belongs to the flow that leads to the backend named there.
 */
static __always_inline bool belongs(const struct hook *h, const struct packet *p,
				    const struct kg_flow *flow, __u32 now)
{
	bool named = kg_tunnel_port && h->in->kind == KG_TUNNEL_BACKEND;

	if (expired(flow, p->key.protocol, now))
		return false;
	if (named && !leads_to(flow, &h->in->backend, h->in->port))
		return false;
	if (!begins(p))
		return true;
	return flow->state < KG_FLOW_HALF_CLOSED &&
	       (named || is_current(flow->backend, flow->generation));
}

/* go_on sends a packet of a flow in kg_opening on, which may confirm the flow. */
static __always_inline enum verdict go_on(const struct hook *h, struct packet *p,
					  struct kg_flow *flow, bool confirmed, __u32 now)
{
	struct kg_flow copy;

	if (p->fin || p->rst)
		note_close(flow, p, KG_FLOW_CLIENT_FIN);
	flow->seen = now;
	copy = *flow; /* once it has moved, the entry may be another flow's */
	if (confirmed)
		settle(&p->key, &copy);
	else
		expect_again(p, flow, h->end);
	return forward(h, p, &copy, L4_FORWARDED);
}

/*
 * to_opening handles a packet that belongs to no settled flow, or may not: old is the one with
 * its key, or NULL.
 *
 * A SYN to an old flow that is closing, or whose backend is gone, opens a new flow beside it:
 * the old one is replaced when the new one is confirmed, and not by the SYN, which can be
 * forged. Until then the packets that do not confirm the new one belong to the old one.
 */
static __always_inline enum verdict to_opening(const struct hook *h, struct packet *p,
					       struct kg_flow *old, __u32 now)
{
	struct kg_flow *flow = find_opening(&p->key);
	bool confirmed;

	if (flow && !belongs(h, p, flow, now))
		flow = NULL;
	confirmed = flow && !p->syn && confirms(p, flow, h->end);
	if (old && (p->key.protocol == IPPROTO_UDP || has_ended(old, p->key.protocol, now))) {
		/* UDP leaves its backend only if that is gone or the flow expired. */
		delete_settled(&p->key);
		old = NULL;
	}
	if (old && !confirmed && belongs(h, p, old, now)) {
		if (!p->syn)
			keep(p, old, now);
		return forward(h, p, old, L4_FORWARDED);
	}
	if (old && p->syn)
		old->marks |= KG_FLOW_SUCCEEDED;
	if (flow)
		return go_on(h, p, flow, confirmed, now);
	if (kg_tunnel_port && h->in->kind == KG_TUNNEL_BACKEND)
		return take_over(h, p, now);
	return open_flow(h, p, now);
}

/* to_backend handles a TCP or UDP packet, or its first fragment, that may be for an L4
 * listener. */
static __always_inline enum verdict to_backend(const struct hook *h, struct packet *p)
{
	__u32 now = now_ticks();
	struct kg_flow *flow = find_settled(&p->key);

	if (!flow || flow->marks & KG_FLOW_SUCCEEDED || !belongs(h, p, flow, now))
		return to_opening(h, p, flow, now);
	/* A SYN that comes again says nothing about the client's having heard us. */
	if (!p->syn)
		keep(p, flow, now);
	return forward(h, p, flow, L4_FORWARDED);
}

/* follow_fragment sends a later fragment where its first went. Without that nobody can say
 * whose it is; the kernel drops it if it is nobody's. */
static __always_inline enum verdict follow_fragment(const struct hook *h, struct packet *p)
{
	struct kg_fragment *first = find_fragment(p, KG_TO_BACKEND);
	struct translation t = {};

	if (!first)
		return L4_FRAGMENT_LOST;
	if (kg_tunnel_port && first->node) {
		h->out->node = first->node;
		h->out->kind = first->kind;
		h->out->hops = h->in->hops + 1;
		h->out->tries = h->in->tries;
		return first->kind == KG_TUNNEL_BACKEND ? NODE_BACKEND : NODE_OWNER;
	}
	t.address = first->address;
	translate(h, p, false, &t);
	return L4_FRAGMENT;
}

#endif
