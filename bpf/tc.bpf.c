/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kg_ingress and kg_egress: L4 services in tc, on uplinks. kg_ingress is kg_xdp for where
 * that cannot be or cannot forward; kg_egress gives replies of backends the address that
 * their clients dialled. Other programs on the same interface run whatever these say,
 * unless a packet is dropped.
 *
 * Interfaces without a link layer (tun, WireGuard, ipip, GRE) get kg_ingress_l3 and kg_egress_l3:
 * packets there begin with their IP header, and nothing in a packet tells one kind from the other.
 */
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>

#include "ingress.h"

/* Bytes of a packet that we look at: all headers that we follow, with room to spare. */
#define KG_HEADERS 256

/* begin makes the headers readable in place and says where they are. */
static __always_inline enum located begin(struct __sk_buff *skb, struct hook *h,
					  struct headers *headers, bool l3)
{
	__u32 want = skb->len < KG_HEADERS ? skb->len : KG_HEADERS;
	enum located located = LOCATED;

	if ((void *)(long)skb->data + want > (void *)(long)skb->data_end)
		bpf_skb_pull_data(skb, want); /* if it fails, we judge by what there is */
	h->skb = skb;
	h->data = (void *)(long)skb->data;
	h->end = (void *)(long)skb->data_end;
	if (l3)
		located = locate_bare_in_skb(skb, headers);
	else if (!locate_plain(h->data, h->end, headers))
		located = locate_in_skb(skb, headers);
	return located;
}

static __always_inline int run_ingress(struct __sk_buff *skb, bool l3)
{
	struct headers headers = {};
	struct passage in, out;
	struct hook h = {.tc = true, .in = &in, .out = &out};
	enum located located = begin(skb, &h, &headers, l3);
	enum verdict verdict;

	begin_passage(&in, &out);
	/* A promiscuous interface shows frames to other hosts, which the kernel will not take. */
	verdict =
		skb->pkt_type == PACKET_OTHERHOST ? NOT_OURS : receive(&h, located, &headers, &in);
	if (verdict == PASSED)
		verdict = judge(&h, located, &headers, true);
	if (goes_on(verdict))
		verdict = hand_over(&h, &headers, &in, &out, verdict);
	count(reason_of(true, verdict));
	if (is_watched(reason_of(true, verdict)))
		emit_from_skb(skb, reason_of(true, verdict), &headers);
	if (goes_on(verdict) || verdict == NODE_TOO_BIG || verdict == COOKIE_SENT)
		return TC_ACT_REDIRECT;
	if (drops(verdict))
		return TC_ACT_SHOT;
	return decapsulate(&h, &headers, &in) ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}

SEC("tc")
int kg_ingress(struct __sk_buff *skb)
{
	return run_ingress(skb, false);
}

SEC("tc")
int kg_ingress_l3(struct __sk_buff *skb)
{
	return run_ingress(skb, true);
}

/* forward_key returns the key of the client's packets of a reply's flow. */
static __always_inline struct kg_flow_key forward_key(const struct packet *p,
						      const struct kg_flow *reverse)
{
	struct kg_flow_key key = p->key;

	turn(&key, KG_TO_BACKEND);
	key.destination = reverse->address;
	key.destination_port = reverse->port;
	return key;
}

/* note_end follows the end of a connection in the entry towards the backend. */
static __always_inline void note_end(const struct packet *p, const struct kg_flow *reverse)
{
	struct kg_flow_key key = forward_key(p, reverse);
	struct kg_flow *flow = find_leading(&key, &p->key.source, p->key.source_port);

	if (flow)
		note_close(flow, p, KG_FLOW_BACKEND_FIN);
}

/*
 * note_answer notes in a flow of kg_opening what its client must acknowledge to confirm it: the
 * SYN+ACK, or, if the flow was opened by a later packet, the first that the backend sends.
 * A backend that has only seen a SYN answers a forged packet too; so the flow of a SYN waits for
 * the SYN+ACK.
 */
static __always_inline void note_answer(const struct hook *h, const struct packet *p,
					const struct kg_flow *reverse)
{
	struct kg_flow_key key = forward_key(p, reverse);
	struct kg_flow *flow = find_opening(&key);
	const struct tcphdr *tcp = p->transport;

	if (!flow || !leads_to(flow, &p->key.source, p->key.source_port))
		return;
	if (p->key.protocol == IPPROTO_TCP) {
		if (!p->ack || (void *)(tcp + 1) > h->end)
			return;
		if (!p->syn && flow->marks & (KG_FLOW_FROM_SYN | KG_FLOW_ANSWERED))
			return;
		flow->expected = bpf_ntohl(tcp->seq) + p->syn;
	}
	flow->marks |= KG_FLOW_ANSWERED;
}

/* to_client gives a reply its ingress address. */
static __always_inline enum kg_reason to_client(const struct hook *h, struct packet *p)
{
	struct translation t;
	struct kg_flow *flow;
	bool settled;

	p->key.direction = KG_TO_CLIENT;
	flow = find_flow(&p->key, &settled);
	if (!flow)
		return KG_EGRESS_NOT_OURS;
	if (p->fin || p->rst)
		note_end(p, flow);
	else if (!settled || p->syn)
		note_answer(h, p, flow);
	if (p->fragment)
		remember_first(&p->key, p->fragment_id, &flow->address, NULL);
	t.address = flow->address;
	t.port = flow->port;
	translate(h, p, true, &t);
	return KG_EGRESS_L4_REPLY;
}

/* icmp_to_client passes an error about a packet to a backend on to the client that sent it.
 * If the backend itself found it, the client learns it from the ingress address. */
static __always_inline enum kg_reason icmp_to_client(struct packet *p)
{
	struct kg_address backend;
	struct quote q = {};
	struct kg_flow *flow;
	bool settled;

	if (!is_error(p) || !read_quote(p, &q))
		return KG_EGRESS_NOT_OURS;
	turn(&q.key, KG_TO_CLIENT);
	flow = find_flow(&q.key, &settled);
	if (!flow)
		return KG_EGRESS_NOT_OURS;
	backend = q.key.source;
	requote(p, &q, false, &backend, flow);
	if (!__builtin_memcmp(&p->key.source, &backend, sizeof(backend))) {
		__u64 diff =
			write_address(p->ip, p->rest.end, p->v6, true, &backend, &flow->address);

		if (p->v6)
			fix_icmp(p, diff);
	}
	return KG_EGRESS_L4_ICMP;
}

static __always_inline enum kg_reason follow_reply(const struct hook *h, struct packet *p)
{
	struct kg_fragment *first = find_fragment(p, KG_TO_CLIENT);
	struct translation t = {};

	if (!first)
		return KG_EGRESS_NOT_OURS;
	t.address = first->address;
	translate(h, p, true, &t);
	return KG_EGRESS_L4_FRAGMENT;
}

/* answer translates a packet that goes out if it is one of an L4 flow. */
static __always_inline enum kg_reason answer(const struct hook *h, enum located located,
					     const struct headers *headers)
{
	struct packet p = {};

	if (located != LOCATED || !read_addresses(&p, h->data, h->end, headers) ||
	    !read_transport(&p, h->data, h->end, headers))
		return KG_EGRESS_NOT_OURS;
	if (p.later)
		return follow_reply(h, &p);
	if (p.check)
		return to_client(h, &p);
	return icmp_to_client(&p);
}

static __always_inline int run_egress(struct __sk_buff *skb, bool l3)
{
	struct headers headers = {};
	struct hook h = {.tc = true};
	enum located located = begin(skb, &h, &headers, l3);

	count(answer(&h, located, &headers));
	return TC_ACT_UNSPEC;
}

SEC("tc")
int kg_egress(struct __sk_buff *skb)
{
	return run_egress(skb, false);
}

SEC("tc")
int kg_egress_l3(struct __sk_buff *skb)
{
	return run_egress(skb, true);
}
