/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kg_sockops and kg_msg: the short way between the proxy and pods of this node. kg_sockops
 * sees both ends of a connection being established and joins them; from then on kg_msg puts
 * what one end sends straight into the other's receive queue, past TCP, veth and netfilter.
 *
 * An object of its own: it is loaded only where the option asks for it, and its maps live
 * as long as connections that use them.
 *
 * Who is joined. The proxy asks for it with SO_PRIORITY, which anybody may set; so the socket
 * must also be of the proxy's user and network namespace. The pod's end is known by what
 * only the two ends of one connection know of each other: both initial sequence numbers. Neither
 * addresses nor ports would do, since other namespaces may have the same ones.
 *
 * Order. What goes past TCP must not overtake what went by TCP, nor the other way round. A
 * reader takes what was put into its queue before what came by TCP; so each direction
 * begins past TCP and may change to TCP, once, and never back.
 *
 * Memory. The queue that kg_msg puts data into has no limit of its own. So each direction has
 * a window, as TCP has; if the reader leaves more than that unread, the direction changes to
 * TCP, which then makes the sender wait.
 */
#include <stdbool.h>
#include <stddef.h>

#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

enum kg_join_constant {
	KG_JOIN_PRIORITY = 5, /* SO_PRIORITY of sockets to join; the kernel gives it no meaning */
	KG_JOIN_WINDOW = 1 << 20,   /* bytes that may lie unread past TCP, each way */
	KG_JOIN_CONNECTIONS = 65536 /* that can be joined at once; further ones are plain */
};

/* Why something was counted: the index in kg_join_counters. */
enum kg_join_reason {
	KG_JOIN_ASKED = 0,   /* connections for which the proxy asked */
	KG_JOIN_JOINED,      /* whose pod's end was found on this node */
	KG_JOIN_FULL,        /* that stay plain: no room in the maps, or the kernel refused */
	KG_JOIN_PAST_TCP,    /* messages put into the receiver's queue */
	KG_JOIN_BY_TCP,      /* messages that went by TCP */
	KG_JOIN_WINDOW_FULL, /* directions that changed to TCP: too much lay unread */
	KG_JOIN_NO_PEER, /* directions that changed to TCP: the other end is not there (any more) */
	KG_JOIN_REASONS
};

/* An end of a connection. Neither sequence number can be guessed by a third party. */
struct kg_join_key {
	__u32 sent;     /* initial sequence number of this end, plus 1; host byte order */
	__u32 received; /* of the other end */
	__u16 port;     /* host byte order */
	__u16 peer_port;
};

enum kg_join_side {
	KG_JOIN_PROXY = 0,
	KG_JOIN_POD = 1
};

/* What a socket knows of itself, for kg_msg. */
struct kg_join_end {
	struct kg_join_key pair; /* the proxy's end: names the connection */
	struct kg_join_key peer; /* the other end, in kg_join_sockets */
	__u32 side;              /* enum kg_join_side */
};

/* A connection. Index: the sending side. */
struct kg_join_pair {
	__u64 unread[2]; /* bytes past TCP since the receiver was last seen to have read all */
	__u32 by_tcp[2]; /* not 0: the direction has changed to TCP */
};

/* Written by kg_sockops, emptied by the kernel when a socket is closed. Full: connections
 * stay plain. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 2 * KG_JOIN_CONNECTIONS);
	__type(key, struct kg_join_key);
	__type(value, __u64);
} kg_join_sockets SEC(".maps");

/* Written by both; the proxy's end takes its entry away. Full: connections stay plain. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, KG_JOIN_CONNECTIONS);
	__type(key, struct kg_join_key);
	__type(value, struct kg_join_pair);
} kg_join_pairs SEC(".maps");

/* Goes with the socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct kg_join_end);
} kg_join_ends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, KG_JOIN_REASONS);
	__type(key, __u32);
	__type(value, __u64);
} kg_join_counters SEC(".maps");

/* Whose sockets may be joined. Set at load. */
const volatile __u32 kg_join_uid = 0;
const volatile __u64 kg_join_netns = 0; /* cookie of the network namespace */
const volatile __u64 kg_join_window = KG_JOIN_WINDOW;

/* The kernel's own structures, by names that are found in its BTF. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct list_head {
	struct list_head *next;
};
struct sk_psock {
	struct list_head ingress_msg; /* what lies unread past TCP */
};
typedef struct {
	__u32 val;
} kuid_t;
struct sock {
	kuid_t sk_uid;
	void *sk_user_data;
};
struct inet_sock {
	struct sock sk;
};
struct inet_connection_sock {
	struct inet_sock icsk_inet;
};
struct tcp_sock {
	struct inet_connection_sock inet_conn;
};
#pragma clang attribute pop

/* The low bits of sk_user_data are flags (SK_USER_DATA_PTRMASK). */
#define KG_USER_DATA_FLAGS 7UL

static __always_inline void join_count(__u32 reason)
{
	__u64 *counter = bpf_map_lookup_elem(&kg_join_counters, &reason);

	if (counter)
		(*counter)++;
}

/* own_key names the socket's own end; only before either has sent anything. */
static __always_inline struct kg_join_key own_key(const struct bpf_sock_ops *ops)
{
	return (struct kg_join_key){
		.sent = ops->snd_nxt,
		.received = ops->rcv_nxt,
		.port = ops->local_port,
		.peer_port = __builtin_bswap32(ops->remote_port),
	};
}

static __always_inline struct kg_join_key other_end(const struct kg_join_key *key)
{
	return (struct kg_join_key){
		.sent = key->received,
		.received = key->sent,
		.port = key->peer_port,
		.peer_port = key->port,
	};
}

/* enter puts an end where the other can find it, and reports whether it could. */
static __always_inline bool enter(struct bpf_sock_ops *ops, struct bpf_sock *sk,
				  struct kg_join_key *key, const struct kg_join_key *pair,
				  enum kg_join_side side)
{
	struct kg_join_end *end =
		bpf_sk_storage_get(&kg_join_ends, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);

	if (!end)
		return false;
	end->pair = *pair;
	end->peer = other_end(key);
	end->side = side;
	return bpf_sock_hash_update(ops, &kg_join_sockets, key, BPF_NOEXIST) == 0;
}

/* is_proxys reports whether the socket is one that the proxy wants joined. */
static __always_inline bool is_proxys(struct bpf_sock_ops *ops, struct bpf_sock *sk)
{
	struct tcp_sock *tcp;

	if (sk->priority != KG_JOIN_PRIORITY || bpf_get_netns_cookie(ops) != kg_join_netns)
		return false;
	tcp = bpf_skc_to_tcp_sock(sk);
	return tcp && tcp->inet_conn.icsk_inet.sk.sk_uid.val == kg_join_uid;
}

/* ask enters the proxy's end. Whether the pod's is on this node is not known yet. */
static __always_inline void ask(struct bpf_sock_ops *ops, struct bpf_sock *sk)
{
	struct kg_join_key key = own_key(ops);
	struct kg_join_pair pair = {};

	join_count(KG_JOIN_ASKED);
	if (bpf_map_update_elem(&kg_join_pairs, &key, &pair, BPF_NOEXIST)) {
		join_count(KG_JOIN_FULL);
		return;
	}
	/* Tells when the connection ends: see forget. */
	if (bpf_sock_ops_cb_flags_set(ops,
				      ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG) ||
	    !enter(ops, sk, &key, &key, KG_JOIN_PROXY)) {
		bpf_map_delete_elem(&kg_join_pairs, &key);
		join_count(KG_JOIN_FULL);
	}
}

/* answer enters the pod's end, if the proxy has asked for this connection. */
static __always_inline void answer(struct bpf_sock_ops *ops, struct bpf_sock *sk)
{
	struct kg_join_key key = own_key(ops);
	struct kg_join_key asked = other_end(&key);
	struct kg_join_pair *pair = bpf_map_lookup_elem(&kg_join_pairs, &asked);

	if (!pair)
		return;
	join_count(enter(ops, sk, &key, &asked, KG_JOIN_POD) ? KG_JOIN_JOINED : KG_JOIN_FULL);
}

/* forget takes away what is known of a connection whose proxy's end is closed. The pod's
 * end, if still there, finds nothing and sends by TCP. */
static __always_inline void forget(struct bpf_sock *sk)
{
	struct kg_join_end *end = bpf_sk_storage_get(&kg_join_ends, sk, NULL, 0);

	if (end && end->side == KG_JOIN_PROXY)
		bpf_map_delete_elem(&kg_join_pairs, &end->pair);
}

/* Runs for every TCP socket of the node. It returns 1 and leaves the reply alone, so that
 * other programs of the hook have their say. */
SEC("sockops")
int kg_sockops(struct bpf_sock_ops *ops)
{
	struct bpf_sock *sk = ops->sk;

	if (!sk)
		return 1;
	switch (ops->op) {
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		if (is_proxys(ops, sk))
			ask(ops, sk);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		answer(ops, sk);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (ops->args[1] == BPF_TCP_CLOSE)
			forget(sk);
		break;
	}
	return 1;
}

/* has_read_all reports whether nothing lies unread in the socket's queue past TCP. */
static __always_inline bool has_read_all(struct bpf_sock *sk)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct sk_psock *psock;
	struct list_head *first;
	void *list;

	if (!tcp)
		return false;
	psock = (void *)((unsigned long)tcp->inet_conn.icsk_inet.sk.sk_user_data &
			 ~KG_USER_DATA_FLAGS);
	list = &psock->ingress_msg;
	if (!psock || bpf_probe_read_kernel(&first, sizeof(first), list))
		return false;
	return first == list;
}

SEC("sk_msg")
int kg_msg(struct sk_msg_md *msg)
{
	struct bpf_sock *sk = msg->sk;
	struct kg_join_end *end;
	struct kg_join_pair *pair;
	__u32 side, peer;
	__u64 unread;

	/* 1. Whose message is it? Without an answer it goes by TCP, and so do all after it,
	 *    for neither comes back. */
	if (!sk)
		return SK_PASS;
	end = bpf_sk_storage_get(&kg_join_ends, sk, NULL, 0);
	if (!end)
		return SK_PASS;
	pair = bpf_map_lookup_elem(&kg_join_pairs, &end->pair);
	if (!pair)
		return SK_PASS;
	side = end->side & 1;
	peer = side ^ 1;

	/* 2. Whoever speaks may have read what it was sent. Taken before looking: a message
	 *    that is on its way in just now may be left out of the count, but never more. */
	unread = pair->unread[peer];
	if (unread && has_read_all(sk))
		__sync_fetch_and_add(&pair->unread[peer], -unread);

	/* 3. Once by TCP, always by TCP. */
	if (pair->by_tcp[side]) {
		join_count(KG_JOIN_BY_TCP);
		return SK_PASS;
	}
	if (pair->unread[side] + msg->size > kg_join_window) {
		pair->by_tcp[side] = 1;
		join_count(KG_JOIN_WINDOW_FULL);
		join_count(KG_JOIN_BY_TCP);
		return SK_PASS;
	}
	if (bpf_msg_redirect_hash(msg, &kg_join_sockets, &end->peer, BPF_F_INGRESS) != SK_PASS) {
		pair->by_tcp[side] = 1;
		join_count(KG_JOIN_NO_PEER);
		join_count(KG_JOIN_BY_TCP);
		return SK_PASS;
	}
	__sync_fetch_and_add(&pair->unread[side], msg->size);
	join_count(KG_JOIN_PAST_TCP);
	return SK_PASS;
}

/* Keeps types in BTF that no map names, for the generated Go. */
const enum kg_join_constant *kg_join_constant_type __attribute__((unused));
const enum kg_join_reason *kg_join_reason_type __attribute__((unused));

char _license[] SEC("license") = "Dual BSD/GPL";
