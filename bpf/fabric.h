/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The node fabric: which node has a connection, where several announce one address.
 *
 * The network spreads connections over the nodes, and spreads them anew when one comes or
 * goes: then packets of open connections meet nodes that have never heard of them. So all
 * nodes agree by a table (kg_fabric) on the owner of each connection. Who gets a packet of
 * a connection that it does not have hands it to the owner; the owner, if it has not got it
 * either, to those who owned it before, or would without the latest change. The last of
 * them answers, as a host does to packets of no connection.
 *
 * New connections stay with their owner, whatever it thinks of the table itself: two nodes
 * that see a change at different times do not send a packet round in circles, and
 * KG_MAX_HOPS would stop it.
 */
#ifndef KG_FABRIC_H
#define KG_FABRIC_H

#include "flow.h"
#include "tunnel.h"

/* Where a packet belongs whose connection this node does not have. */
enum sought {
	STAYS,      /* here */
	WITH_OWNER, /* on the owner's node: *out says which */
	WITH_OTHER, /* perhaps on another */
};

/* is_connected reports whether a packet belongs to a connection that somebody should have:
 * UDP has none, and a SYN begins one. */
static __always_inline bool is_connected(const struct packet *p)
{
	return p->key.protocol == IPPROTO_TCP && !(p->syn && !p->ack);
}

/* owner_at returns the node at a place of a slot's list, 0 if there is none. */
static __always_inline kg_node_id owner_at(const struct kg_owners *owners, __u32 at)
{
	switch (at) {
	case 0:
		return owners->nodes[0];
	case 1:
		return owners->nodes[1];
	case 2:
		return owners->nodes[2];
	}
	return 0;
}
_Static_assert(KG_OWNERS == 3, "owner_at knows all");

/*
 * seek_owner says where a packet belongs that came as *in says, of a connection that this
 * node does not have; key is that of its client's packets. Each time the packet is handed
 * on it is to a later place of the list, so that it comes to an end.
 */
static __always_inline enum sought seek_owner(const struct kg_flow_key *key, bool connected,
					      const struct passage *in, struct passage *out)
{
	__u32 slot = hash_flow(key, false) / (0x100000000 / KG_FABRIC_SLOTS);
	struct kg_owners *owners = bpf_map_lookup_elem(&kg_fabric, &slot);
	bool fresh = !in->kind;

	if (!owners || !owner_at(owners, 0))
		return STAYS;
	out->kind = KG_TUNNEL_OWNER;
	out->hops = in->hops + 1;
	if (fresh && owner_at(owners, 0) != kg_self) {
		out->node = owner_at(owners, 0);
		out->tries = 0;
		return WITH_OWNER;
	}
	if (!connected)
		return STAYS;
	for (__u32 i = 1; i < KG_OWNERS; i++) {
		kg_node_id node = owner_at(owners, i);

		if (i <= in->tries || !node || node == kg_self)
			continue;
		out->node = node;
		out->tries = i;
		return WITH_OTHER;
	}
	return STAYS;
}

/* The connection that a socket is asked for, towards this node. */
static __always_inline __u32 tuple_of(struct bpf_sock_tuple *tuple, const struct kg_flow_key *key,
				      bool v6)
{
	if (v6) {
		__builtin_memcpy(tuple->ipv6.saddr, &key->source, sizeof(tuple->ipv6.saddr));
		__builtin_memcpy(tuple->ipv6.daddr, &key->destination, sizeof(tuple->ipv6.daddr));
		tuple->ipv6.sport = key->source_port;
		tuple->ipv6.dport = key->destination_port;
		return sizeof(tuple->ipv6);
	}
	__builtin_memcpy(&tuple->ipv4.saddr, &key->source.bytes[12], sizeof(tuple->ipv4.saddr));
	__builtin_memcpy(&tuple->ipv4.daddr, &key->destination.bytes[12],
			 sizeof(tuple->ipv4.daddr));
	tuple->ipv4.sport = key->source_port;
	tuple->ipv4.dport = key->destination_port;
	return sizeof(tuple->ipv4);
}

/* The state of a listening socket: linux/tcp.h has it for C libraries only. */
#define TCP_LISTENING 10

/* ends_handshake reports whether a packet is the ACK to a SYN cookie of a listener: then
 * the connection is here, though no socket shows it. */
static __always_inline bool ends_handshake(struct bpf_sock *listener, void *data, void *end,
					   const struct headers *h)
{
	void *ip = data + (h->ip & 0xff);
	struct tcphdr *tcp = data + (h->transport & KG_MAX_TRANSPORT);
	__u32 size = h->flags & HEADERS_V6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);

	if (h->protocol != IPPROTO_TCP || (void *)(tcp + 1) > end)
		return false;
	if (size == sizeof(struct ipv6hdr)) {
		if (ip + sizeof(struct ipv6hdr) > end)
			return false;
		return !bpf_tcp_check_syncookie(listener, ip, sizeof(struct ipv6hdr), tcp,
						sizeof(*tcp));
	}
	if (ip + sizeof(struct iphdr) > end)
		return false;
	return !bpf_tcp_check_syncookie(listener, ip, sizeof(struct iphdr), tcp, sizeof(*tcp));
}

/* has_socket reports whether this node's stack has a connection. Asking for one that it
 * does not have runs kg_lookup, which finds a listener. */
#define has_socket(ctx, key, h)                                                              \
	({                                                                                   \
		struct bpf_sock_tuple tuple_ = {};                                           \
		__u32 size_ = tuple_of(&tuple_, (key), (h)->flags & HEADERS_V6);             \
		struct bpf_sock *socket_;                                                    \
		bool found_ = false;                                                         \
		socket_ = bpf_skc_lookup_tcp((ctx), &tuple_, size_, BPF_F_CURRENT_NETNS, 0); \
		if (socket_) {                                                               \
			found_ = socket_->state != TCP_LISTENING ||                          \
				 ends_handshake(socket_, (void *)(long)(ctx)->data,          \
						(void *)(long)(ctx)->data_end, (h));         \
			bpf_sk_release(socket_);                                             \
		}                                                                            \
		found_;                                                                      \
	})

/* Not static: verified once. */
__noinline int has_socket_in_xdp(struct xdp_md *ctx, const struct kg_flow_key *key,
				 const struct headers *h)
{
	if (!key || !h)
		return 0;
	return has_socket(ctx, key, h);
}

__noinline int has_socket_in_skb(struct __sk_buff *ctx, const struct kg_flow_key *key,
				 const struct headers *h)
{
	if (!key || !h)
		return 0;
	return has_socket(ctx, key, h);
}

#endif
