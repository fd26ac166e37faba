/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kg_quic: which worker takes a datagram. kg_lookup cannot tell, since it sees addresses
 * alone; the UDP sockets of all workers of all proxy generations form one reuseport group,
 * and this program, which sees the payload, is asked for its member.
 *
 * A QUIC connection outlives its client's address, and the proxy generation that serves new
 * ones. Workers therefore write their own id into the connection ids that they hand out
 * (RFC 9000 section 5.1), and what carries one goes to that worker:
 *
 *	id[0]      worker id: slot of the generation * KG_GENERATION_WORKERS + worker
 *	id[1..8]   random
 *	id[9..11]  check of the bytes before, big endian
 *
 * The check tells them from the random ids by which clients begin (one in 16 million is
 * mistaken, and served all the same, by another worker).
 */
#include "net.h"

#define ETH_P_IPV6 0x86DD
#define KG_QUIC_ID_LEN 12
#define UDP_HEADER_LEN 8
/* Of a QUIC packet: RFC 8999. */
#define QUIC_LONG_HEADER 0x80
#define QUIC_LONG_ID_LEN 5 /* offset of the length of the destination's id, then the id */
#define QUIC_SHORT_ID 1    /* offset of the id */

struct kg_quic_id {
	__u8 bytes[KG_QUIC_ID_LEN];
};

/* id_check returns what bytes 9..11 of an id of ours hold. */
static __always_inline __u32 id_check(const struct kg_quic_id *id)
{
	__u64 x;

	__builtin_memcpy(&x, &id->bytes[1], sizeof(x));
	x ^= (__u64)(id->bytes[0] + 1) * 0x9e3779b97f4a7c15ULL;
	x *= 0xff51afd7ed558ccdULL;
	return x >> 40; /* the upper bits depend on all that went in */
}

/* worker_of reports whether a datagram is for a connection that a worker has, and which. */
static __always_inline bool worker_of(struct sk_reuseport_md *ctx, kg_worker_id *worker)
{
	__u32 at = UDP_HEADER_LEN;
	struct kg_quic_id id;
	__u8 first, length;

	if (bpf_skb_load_bytes(ctx, at, &first, sizeof(first)))
		return false;
	if (first & QUIC_LONG_HEADER) {
		at += QUIC_LONG_ID_LEN;
		if (bpf_skb_load_bytes(ctx, at, &length, sizeof(length)) ||
		    length != KG_QUIC_ID_LEN)
			return false;
	}
	at += QUIC_SHORT_ID;
	if (bpf_skb_load_bytes(ctx, at, &id, sizeof(id)))
		return false;
	*worker = id.bytes[0];
	return id_check(&id) ==
	       ((__u32)id.bytes[9] << 16 | (__u32)id.bytes[10] << 8 | id.bytes[11]);
}

/* give gives the datagram to a worker; false if it has no open socket. */
static __always_inline bool give(struct sk_reuseport_md *ctx, kg_worker_id worker)
{
	__u32 index = worker * KG_WORKER_SOCKETS;

	index += ctx->eth_protocol == bpf_htons(ETH_P_IPV6) ? KG_SOCKET_UDP6 : KG_SOCKET_UDP4;
	return bpf_sk_select_reuseport(ctx, &kg_sockets, &index, 0) == 0;
}

/* What one attempt to give a datagram to a worker came to. */
enum quic_attempt {
	QUIC_GIVEN,
	QUIC_NO_MORE,   /* all have been tried */
	QUIC_NO_SOCKET, /* the worker has none (any more) */
	QUIC_HUNG,      /* passed over */
};

/*
 * try_quic makes the i-th attempt: twice round the workers [first, first + count_all), beginning
 * by the hash; the hung ones only the second time. Not static, so that the verifier checks it
 * once and not for each turn of the loop.
 */
__noinline int try_quic(struct sk_reuseport_md *ctx, kg_worker_id first, __u32 count_all,
			__u32 hash, __u32 i)
{
	struct kg_worker *worker;
	kg_worker_id id;

	if (!ctx || !count_all || i >= 2 * count_all)
		return QUIC_NO_MORE;
	id = first + (hash + i) % count_all;
	worker = bpf_map_lookup_elem(&kg_workers, &id);
	if (!worker)
		return QUIC_NO_MORE;
	if (i < count_all && hung(worker, bpf_ktime_get_ns())) {
		count(KG_QUIC_WORKER_SKIPPED);
		return QUIC_HUNG;
	}
	return give(ctx, id) ? QUIC_GIVEN : QUIC_NO_SOCKET;
}

SEC("sk_reuseport")
int kg_quic(struct sk_reuseport_md *ctx)
{
	struct kg_workers_of workers;
	kg_worker_id worker;
	__u32 hash = ctx->hash;

	/* 1. A connection that a worker knows: there, whichever generation serves. */
	if (worker_of(ctx, &worker) && give(ctx, worker)) {
		count(KG_QUIC_KNOWN);
		return SK_PASS;
	}

	/* 2. A new one, by the hash of its addresses, so that all of a client's first packets
	 *    come together; or to the next worker that has a socket. Twice round, as in
	 *    kg_lookup: first those that answer, then the hung ones. */
	if (serving_workers(&workers)) {
		for (__u32 i = 0; i < 2 * KG_GENERATION_WORKERS; i++) {
			int attempt = try_quic(ctx, workers.first, workers.count, hash, i);

			if (attempt == QUIC_GIVEN) {
				count(KG_QUIC_NEW);
				return SK_PASS;
			}
			if (attempt == QUIC_NO_MORE)
				break;
		}
	}
	count(KG_QUIC_NO_WORKER);
	return SK_DROP;
}
