/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What happens to a packet that comes in on an uplink, whichever hook sees it first. */
#ifndef KG_INGRESS_H
#define KG_INGRESS_H

#include "between.h"
#include "cookie.h"
#include "events.h"
#include "serving.h"
#include "sieve.h"
#include "strict.h"

/* may_be_l4 reports whether an address may have an L4 listener on a port (network byte
 * order); false is certain. */
static __always_inline bool may_be_l4(const struct kg_address_info *address, __be16 port)
{
	return address->l4_ports >> ((__u16)(bpf_ntohs(port) * 40503) >> 10) & 1;
}

/* is_counted reports whether kg_xdp counts what sources send on an interface. Not static, so
 * that the verifier walks through the loop once. */
__noinline int is_counted(__u32 ifindex)
{
	const struct kg_defence *d = defence();

	if (!d)
		return false;
	for (int i = 0; i < KG_COUNTED; i++) {
		if (d->counted[i] == ifindex)
			return true;
	}
	return false;
}

/* counts_here reports whether what a packet's source sends is counted in this hook: once,
 * so not in tc behind kg_xdp, nor when another node has done it. */
static __always_inline bool counts_here(const struct hook *h)
{
	if (h->in->kind)
		return false;
	return !h->tc || !is_counted(h->skb->ifindex);
}

/* is_initial reports whether a datagram looks like a QUIC client's first: an Initial packet of
 * version 1 (RFC 9000 section 17.2.2). */
static __always_inline bool is_initial(const struct packet *p)
{
	__u8 *first = p->rest.at;

	if ((void *)(first + 1) > p->rest.end)
		return false;
	return (*first & 0xf0) == 0xc0;
}

/* exceeds reports why a packet is more than its source may send, PASSED if it is not. */
static __always_inline enum verdict exceeds(const struct hook *h, struct packet *p,
					    const struct kg_address_info *address)
{
	const struct kg_defence *d = defence();
	bool opens = p->syn && !p->ack;

	if (!d || !(d->packet_ns | d->connection_ns) || !counts_here(h))
		return PASSED;
	if (d->packet_ns && spend(&p->key.source, p->v6, LIMIT_PACKETS))
		return RATE_PACKETS;
	/* Of UDP to L4 services open_flow knows what is new. */
	if (p->key.protocol == IPPROTO_UDP && p->check &&
	    !may_be_l4(address, p->key.destination_port))
		opens = is_initial(p);
	if (opens && d->connection_ns && spend(&p->key.source, p->v6, LIMIT_CONNECTIONS))
		return RATE_CONNECTIONS;
	return PASSED;
}

/* judge decides about a packet and changes it if it is one of an L4 flow. Without l4 it
 * changes none. */
static __always_inline enum verdict judge(const struct hook *h, enum located located,
					  const struct headers *headers, bool l4)
{
	struct packet p = {};
	struct kg_address_info *address;
	enum verdict otherwise = PASSED;
	bool excepted = false, read;
	enum verdict verdict = PASSED;

	/* 1. Find the IP header. */
	if (located == LOCATED_NOT_IP)
		return NOT_IP;
	if (located != LOCATED || !read_addresses(&p, h->data, h->end, headers))
		return MALFORMED;

	/* 2. To one of our addresses? Nothing else on this interface is our business. */
	address = find_address(&p.key.destination);
	if (!address)
		return h->in->kind ? NODE_TARGET : NOT_OURS;

	/* 3. Judge the source before any further header: options, extension headers and
	 *    fragments must not be a way round the list. */
	if (kg_strict && is_spoofed(h, &p, address))
		return SPOOFED_SOURCE;
	if (!(headers->flags & HEADERS_SIEVED)) {
		enum listed listed = find_listed(&p.key.source, p.v6);

		if (listed == LISTED)
			return DENIED;
		excepted = listed == EXCEPTED;
		if (excepted)
			otherwise = ALLOWED;
	}

	/* 4. Check the headers. Those that are not all in what we see are left to the kernel. */
	read = read_transport(&p, h->data, h->end, headers);
	if (kg_strict) {
		verdict = inspect(&p, h->end, headers, read);
		if (drops(verdict))
			return verdict;
		verdict = PASSED;
	}

	/* 5. More than one source may send? */
	verdict = exceeds(h, &p, address);
	if (verdict != PASSED)
		return verdict;
	if (!read)
		return excepted ? ALLOWED : MALFORMED;
	if (!l4) {
		/* Has the agent attach kg_ingress. */
		if (kg_syn_cookies && p.syn && !p.ack)
			are_too_many();
		return p.syn && !p.ack && unanswered(&p.key, p.v6) ? NO_PROXY : otherwise;
	}

	/* 6. L4 flows. PASSED means that it is of none. */
	if (p.later && (kg_fabric_on || address->flags & KG_ADDRESS_L4))
		verdict = follow_fragment(h, &p);
	else if (p.check && may_be_l4(address, p.key.destination_port))
		verdict = to_backend(h, &p);
	else if (!p.check && address->flags & KG_ADDRESS_L4)
		verdict = icmp_to_backend(h, &p);

	/* 7. Connections of the proxies, here or on another node. */
	if (kg_fabric_on && verdict == PASSED && !p.later)
		verdict = to_proxy(h, &p, headers);

	/* 8. Nobody would answer. */
	if (verdict == PASSED && p.syn && !p.ack && unanswered(&p.key, p.v6))
		return NO_PROXY;

	/* 9. Too many new ones. */
	if (kg_syn_cookies && verdict == PASSED && p.check)
		verdict = challenge(h, &p, headers);
	return verdict == PASSED ? otherwise : verdict;
}

#endif
