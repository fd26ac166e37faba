/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kg_xdp: drops packets from denied sources to our addresses before the kernel spends
 * anything on them, and counts the rest. It changes no packet, and whatever it does not
 * understand passes: the kernel is the judge of that.
 */
#include "net.h"
#include "parse.h"

/* What kg_xdp knows of a packet. */
struct packet {
	struct kg_address source;
	struct kg_address destination;
	struct cursor rest; /* behind the IPv4 options or the fixed IPv6 header */
	__u8 next;          /* protocol at rest */
	bool v6;
	bool later; /* a fragment other than the first */
};

static __always_inline bool read_ipv4(struct packet *p, struct cursor *c)
{
	struct iphdr *ip = take_ipv4(c);

	if (!ip)
		return false;
	address_of_v4(&p->source, ip->saddr);
	address_of_v4(&p->destination, ip->daddr);
	p->next = ip->protocol;
	p->later = ip->frag_off & bpf_htons(0x1fff);
	p->v6 = false;
	p->rest = *c;
	return true;
}

static __always_inline bool read_ipv6(struct packet *p, struct cursor *c)
{
	struct ipv6hdr *ip = take_ipv6(c);

	if (!ip)
		return false;
	__builtin_memcpy(&p->source, &ip->saddr, sizeof(p->source));
	__builtin_memcpy(&p->destination, &ip->daddr, sizeof(p->destination));
	p->next = ip->nexthdr;
	p->later = false;
	p->v6 = true;
	p->rest = *c;
	return true;
}

/* denied reports whether kg_deny holds the source; *excepted, whether kg_allow does too. */
static __always_inline bool denied(const struct kg_address *source, bool *excepted)
{
	struct kg_prefix key = {.prefix_len = 128, .address = *source};

	if (!bpf_map_lookup_elem(&kg_deny, &key))
		return false;
	*excepted = bpf_map_lookup_elem(&kg_allow, &key);
	return true;
}

/* headers_whole reports whether all headers up to TCP's or UDP's are there. */
static __always_inline bool headers_whole(struct packet *p)
{
	int protocol = p->next;

	if (p->v6)
		protocol = skip_extensions(&p->rest, p->next, &p->later);
	return p->later || has_transport(&p->rest, protocol);
}

SEC("xdp")
int kg_xdp(struct xdp_md *ctx)
{
	struct cursor c = {(void *)(long)ctx->data, (void *)(long)ctx->data_end};
	struct packet p = {};
	bool excepted = false;
	bool whole;

	/* 1. Find the IP header. */
	switch (take_ethernet(&c)) {
	case ETH_P_IP:
		whole = read_ipv4(&p, &c);
		break;
	case ETH_P_IPV6:
		whole = read_ipv6(&p, &c);
		break;
	case 0:
		whole = false;
		break;
	default:
		count(KG_XDP_NOT_IP);
		return XDP_PASS;
	}
	if (!whole) {
		count(KG_XDP_MALFORMED);
		return XDP_PASS;
	}

	/* 2. To one of our addresses? Nothing else on this interface is our business. */
	if (!bpf_map_lookup_elem(&kg_addresses, &p.destination)) {
		count(KG_XDP_NOT_OURS);
		return XDP_PASS;
	}

	/* 3. Judge the source before any further header: options, extension headers and
	 *    fragments must not be a way round the list. */
	if (denied(&p.source, &excepted)) {
		count(excepted ? KG_XDP_ALLOWED : KG_XDP_DENIED);
		return excepted ? XDP_PASS : XDP_DROP;
	}

	/* 4. What is cut short is the kernel's to refuse; we only count it. */
	count(headers_whole(&p) ? KG_XDP_PASSED : KG_XDP_MALFORMED);
	return XDP_PASS;
}
