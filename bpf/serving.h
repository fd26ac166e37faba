/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which proxy generation gets new connections, and whether it would answer: a proxy that is
 * killed takes its sockets along before the agent knows.
 */
#ifndef KG_SERVING_H
#define KG_SERVING_H

#include "listener.h"

/* A proxy generation's workers: ids [first, first + count). */
struct kg_workers_of {
	kg_worker_id first;
	__u32 count;
};

/* serving_workers reports whether a proxy generation serves, and which workers it has. */
static __always_inline bool serving_workers(struct kg_workers_of *workers)
{
	__u32 zero = 0, slot;
	struct kg_meta *meta = bpf_map_lookup_elem(&kg_meta, &zero);
	struct kg_generation *generation;

	if (!meta || !meta->serving)
		return false;
	slot = meta->serving % KG_GENERATIONS;
	generation = bpf_map_lookup_elem(&kg_generations, &slot);
	if (!generation || !generation->workers)
		return false;
	workers->first = slot * KG_GENERATION_WORKERS;
	workers->count = generation->workers;
	return workers->count <= KG_GENERATION_WORKERS;
}

/*
 * unanswered reports whether a SYN is for the proxies while none of them has an open socket for
 * it. The kernel would refuse it (kg_lookup can do no better without the agent), and the client
 * give up; dropped it comes again. Not static, so that it is verified once.
 */
__noinline int unanswered(const struct kg_flow_key *syn, int v6)
{
	struct kg_workers_of workers = {};
	struct kg_listener *listener;

	if (!syn)
		return false;
	if (!serving_workers(&workers))
		workers.count = 0;
	for (__u32 i = 0; i < KG_GENERATION_WORKERS && i < workers.count; i++) {
		__u32 index = (workers.first + i) * KG_WORKER_SOCKETS +
			      (v6 ? KG_SOCKET_TCP6 : KG_SOCKET_TCP4);
		struct bpf_sock *socket = bpf_map_lookup_elem(&kg_sockets, &index);

		if (socket) { /* the first worker's, but for moments */
			bpf_sk_release(socket);
			return false;
		}
	}
	listener = find_listener(syn);
	return listener && listener->mode == KG_MODE_L7;
}

#endif
