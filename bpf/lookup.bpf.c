/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kg_lookup: which of the proxy's sockets takes a new connection (TCP SYN, or datagram
 * to no connected socket) to one of our listeners. Established connections never come
 * here.
 */
#include "net.h"
#include "serving.h"

/* read_key writes the local address, port and protocol of the connection. */
static __always_inline void read_key(const struct bpf_sk_lookup *ctx, struct kg_listener_key *key)
{
	if (ctx->family == AF_INET) {
		__be32 v4 = ctx->local_ip4;

		/* Keeps the two branches' loads apart: the verifier knows no field of the context
		 * by a computed offset. */
		asm volatile("" : "+r"(v4));
		address_of_v4(&key->address, v4);
	} else {
		__u32 v6[4] = {ctx->local_ip6[0], ctx->local_ip6[1], ctx->local_ip6[2],
			       ctx->local_ip6[3]};
		__builtin_memcpy(&key->address, v6, sizeof(v6));
	}
	key->port = bpf_htons(ctx->local_port);
	key->protocol = ctx->protocol;
}

/* is_closed reports whether only the ports of its listeners answer at an address. */
static __always_inline bool is_closed(const struct kg_address *address)
{
	struct kg_address_info *info = bpf_map_lookup_elem(&kg_addresses, address);

	return info && info->flags & KG_ADDRESS_CLOSED;
}

/* socket_kind returns which of a worker's sockets takes this connection. */
static __always_inline enum kg_socket socket_kind(const struct bpf_sk_lookup *ctx)
{
	bool v6 = ctx->family != AF_INET;

	if (ctx->protocol == IPPROTO_UDP)
		return v6 ? KG_SOCKET_UDP6 : KG_SOCKET_UDP4;
	return v6 ? KG_SOCKET_TCP6 : KG_SOCKET_TCP4;
}

/* hung reports whether a worker has not come back to its event loop for too long. */
static __always_inline bool hung(const struct kg_worker *worker, __u64 now)
{
	__u64 since = *(volatile __u64 *)&worker->busy_since_ns;

	return since && since < now && now - since > kg_hung_after_ns;
}

/*
 * choose returns the index (below workers->count) of the worker that should get the
 * connection: of two drawn at random the one with fewer connections. A hung one loses
 * to any that is not.
 */
static __always_inline __u32 choose(const struct kg_workers_of *workers, __u64 now)
{
	__u32 a = bpf_get_prandom_u32() % workers->count;
	__u32 b = bpf_get_prandom_u32() % workers->count;
	kg_worker_id id_a = workers->first + a, id_b = workers->first + b;
	struct kg_worker *wa = bpf_map_lookup_elem(&kg_workers, &id_a);
	struct kg_worker *wb = bpf_map_lookup_elem(&kg_workers, &id_b);
	bool hung_a, hung_b;

	if (!wa || !wb || a == b)
		return a;
	hung_a = hung(wa, now);
	hung_b = hung(wb, now);
	if (hung_a != hung_b)
		return hung_a ? b : a;
	return *(volatile __u32 *)&wa->connections <= *(volatile __u32 *)&wb->connections ? a : b;
}

/* What one attempt to place the connection came to; the greatest is the one to report. */
enum attempt {
	TAKEN,
	NO_MORE,     /* all have been tried */
	PASSED_OVER, /* hung, or tried before */
	NO_SOCKET,   /* the worker has none of this kind (any more) */
	REFUSED,     /* by bpf_sk_assign */
};

static __always_inline enum attempt assign(struct bpf_sk_lookup *ctx, kg_worker_id worker)
{
	__u32 index = worker * KG_WORKER_SOCKETS + socket_kind(ctx);
	struct bpf_sock *socket = bpf_map_lookup_elem(&kg_sockets, &index);
	/* The socket was chosen by load; a hash over its reuseport group must not undo it. For
	 * a datagram the group has the last word: there kg_quic is asked. */
	__u64 flags = ctx->protocol == IPPROTO_UDP ? 0 : BPF_SK_LOOKUP_F_NO_REUSEPORT;
	long err;

	if (!socket)
		return NO_SOCKET;
	err = bpf_sk_assign(ctx, socket, flags);
	bpf_sk_release(socket);
	return err ? REFUSED : TAKEN;
}

/*
 * try_worker makes the i-th attempt: twice round the workers [first, first + count),
 * beginning with chosen; first those that answer, then the hung ones, because waiting in
 * a backlog beats being refused. Not static, so that the verifier checks it once and not
 * for each turn of the loop.
 */
__noinline enum attempt try_worker(struct bpf_sk_lookup *ctx, kg_worker_id first, __u32 count_all,
				   __u32 chosen, __u32 i)
{
	struct kg_worker *worker;
	kg_worker_id id;
	bool is_hung;

	if (!ctx || !count_all || i >= 2 * count_all)
		return NO_MORE;
	id = first + (chosen + i) % count_all;
	worker = bpf_map_lookup_elem(&kg_workers, &id);
	if (!worker)
		return NO_MORE;
	is_hung = hung(worker, bpf_ktime_get_ns());
	if (i < count_all && is_hung) {
		count(KG_LOOKUP_WORKER_SKIPPED);
		return PASSED_OVER;
	}
	if (i >= count_all && !is_hung)
		return PASSED_OVER;
	return assign(ctx, id);
}

/* steer gives the connection to a worker and returns how it ends. */
static __always_inline enum kg_reason steer(struct bpf_sk_lookup *ctx,
					    const struct kg_workers_of *workers)
{
	__u32 chosen = choose(workers, bpf_ktime_get_ns());
	enum attempt outcome = NO_SOCKET;

	for (__u32 i = 0; i < 2 * KG_GENERATION_WORKERS; i++) {
		enum attempt attempt = try_worker(ctx, workers->first, workers->count, chosen, i);

		if (attempt == TAKEN)
			return KG_LOOKUP_STEERED;
		if (attempt == NO_MORE)
			break;
		if (attempt == REFUSED)
			outcome = REFUSED;
	}
	return outcome == REFUSED ? KG_LOOKUP_ASSIGN_FAILED : KG_LOOKUP_NO_WORKER;
}

/*
 * drop returns how an attempt ends that nobody can take. SK_DROP has the kernel answer a SYN by
 * a reset, and the client give up; so TCP is given to a socket of the agent that drops
 * everything, and the client sends its SYN again when a proxy may be back. Datagrams are refused:
 * HTTP/3 clients then turn to TCP.
 */
static __always_inline int drop(struct bpf_sk_lookup *ctx)
{
	__u32 index = socket_kind(ctx);
	struct bpf_sock *sink;
	long err;

	if (ctx->protocol != IPPROTO_TCP)
		return SK_DROP;
	sink = bpf_map_lookup_elem(&kg_sinks, &index);
	if (!sink)
		return SK_DROP;
	err = bpf_sk_assign(ctx, sink, BPF_SK_LOOKUP_F_NO_REUSEPORT);
	bpf_sk_release(sink);
	return err ? SK_DROP : SK_PASS;
}

SEC("sk_lookup")
int kg_lookup(struct bpf_sk_lookup *ctx)
{
	struct kg_listener_key key = {};
	struct kg_workers_of workers;
	struct kg_listener *listener;
	enum kg_reason reason;

	/* 1. Ours? Other addresses are left to the kernel and to other programs. At an ingress
	 *    address nothing but its listeners answers: the local route makes it an address of
	 *    this node, and what listens on all addresses (sshd, kubelet) must not be reachable
	 *    there. The kernel refuses as it does where nobody listens. */
	read_key(ctx, &key);
	listener = bpf_map_lookup_elem(&kg_listeners, &key);
	if (!listener) {
		if (is_closed(&key.address)) {
			count(KG_LOOKUP_CLOSED);
			return SK_DROP;
		}
		count(KG_LOOKUP_NOT_OURS);
		return SK_PASS;
	}

	/* 2. Packets to L4 listeners are translated on an uplink. One that comes here has no
	 *     ready backend or did not come by an uplink: refuse, so that no process that
	 *     happens to listen on this port answers for the service. */
	if (listener->mode != KG_MODE_L7) {
		count(KG_LOOKUP_L4);
		return SK_DROP;
	}

	/* 3. Nobody serves: drop, so that the client tries again, and our traffic never leaks to
	 *    another process that happens to listen on this port. */
	if (!serving_workers(&workers)) {
		count(KG_LOOKUP_NO_PROXY);
		return drop(ctx);
	}

	/* 4. A worker, by load and liveness; drop if none has an open socket. */
	reason = steer(ctx, &workers);
	count(reason);
	return reason == KG_LOOKUP_STEERED ? SK_PASS : drop(ctx);
}
